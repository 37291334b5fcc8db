"""Advice for the name of a column that is not there: the nearest, or the scorer that adds it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Final

from siftune.curate.core.registry import names

__all__ = ["nearest_columns"]

_SHOWN: Final = 8
_NEAREST: Final = 3
_ALIKE: Final = 0.75
_SCORERS: Final = "curate.scorers"


def nearest_columns(
    wrong: str, there: Sequence[str], fits: Callable[[str], bool] | None = None
) -> str:
    """Advice for the name ``wrong``, of which ``there`` has none.

    Columns that the reader can use (``fits``) come before others: where a number is wanted, no text
    is advised. The columns of a scorer begin with its name, so ``lenght_words`` is length's.

    >>> nearest_columns("overlap", ["source", "contamination_item", "contamination_overlap"])
    'did you mean contamination_overlap?'
    >>> nearest_columns("lenght_words", ["source", "extra"])
    'the scorer length adds such columns: score the rows with it first'
    """
    usable = [name for name in there if fits is None or fits(name)]
    for columns in (usable, there) if usable else (there,):
        near = _near(wrong, columns)
        if near:
            return f"did you mean {' or '.join(near)}?"
        if scorer := _scorer_of(wrong):
            return f"the scorer {scorer} adds such columns: score the rows with it first"
    shown = usable or list(there)
    what = "there are" if len(shown) == len(there) else "of those that it can use there are"
    more = len(shown) - _SHOWN
    listed = f"{what}: {', '.join(shown[:_SHOWN])}" + (f" and {more} more" if more > 0 else "")
    raw = f"; a field {wrong!r} of the raw rows is extra.{wrong}" if "extra" in there else ""
    return listed + raw


def _near(wrong: str, columns: Sequence[str]) -> list[str]:
    """The columns of the same family (``length``, ``chosen_length``), else those spelled alike."""
    family = [name for name in columns if f"_{wrong}_" in f"_{name}_"]
    if family:
        return family[:_NEAREST]
    return difflib.get_close_matches(wrong, columns, n=1, cutoff=_ALIKE)


def _scorer_of(wrong: str) -> str | None:
    """The scorer whose columns begin like ``wrong``, or like it without the side of a pair."""
    named = wrong.removeprefix("chosen_").removeprefix("rejected_").partition(".")[0]
    first = [part for part in (named, named.partition("_")[0]) if part]
    for part in first:
        if near := difflib.get_close_matches(part, names(_SCORERS), n=1, cutoff=_ALIKE):
            return near[0]
    return None
