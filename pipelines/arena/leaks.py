"""Rows of the pool that occur in a held-out set: equal prompts, and shared n-grams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.rows.conversation_views import score
from siftune.curate.text.answer_match import plain
from siftune.finetune.data.training_rows import to_prompts

__all__ = ["LEAK", "Leaks", "find_leaks", "refuse_leaks"]

LEAK: Final = 0.45
"""Share of an item's words in a row from which it is a leak (scorer `contamination`)."""
_LONG: Final = 5  # words of a user turn that is compared by itself, as in runs of the scorer
_SHOWN: Final = 5


@dataclass(frozen=True)
class Leaks:
    """Ids of the pool's rows that overlap with a held-out set, by how they were found."""

    exact: tuple[str, ...]
    ngram: tuple[str, ...]

    @property
    def ids(self) -> set[str]:
        """All of them."""
        return {*self.exact, *self.ngram}

    def as_dict(self) -> dict[str, Any]:
        """Counts and ids, for the manifest."""
        return {"exact": list(self.exact), "ngram": list(self.ngram), "rows": len(self.ids)}


def find_leaks(
    pool: pl.DataFrame, heldout: Mapping[str, tuple[Path, pl.DataFrame]]
) -> dict[str, Leaks]:
    """The overlaps of ``pool`` with each held-out set, of which a file and a table are given.

    Exact is a row of which one user turn, or all of them together, have the normalised text of
    those of a held-out row; system prompts are not compared, and of several turns in a row a short
    one ("Go on.") does not count by itself. By n-grams a row is found
    that has a share of `LEAK` or more of the words of a held-out prompt, or of its answer if that
    is long, in runs of five words (scorer `contamination`, both sides of a pair).
    """
    from siftune.curate.scorers.contamination import Contamination

    questions = _questions(pool)
    found = {}
    for name, (path, table) in heldout.items():
        known = set().union(*_questions(table))
        exact = [key for key, own in zip(pool["id"], questions, strict=True) if own & known]
        scored = score(Contamination(against=str(path)), pool)
        shares = [column for column in scored.columns if column.endswith("contamination_overlap")]
        over = scored.filter(pl.max_horizontal(shares) >= LEAK)["id"].to_list()
        found[name] = Leaks(tuple(exact), tuple(over))
    return found


def _questions(table: pl.DataFrame) -> list[set[str]]:
    """Normalised user turns of each prompt: all as one text, and the long ones each by itself."""
    found = []
    for row in to_prompts(table):
        turns = [plain(str(turn["content"])) for turn in row["prompt"] if turn["role"] == "user"]
        long = {text for text in turns if len(text.split()) >= _LONG}
        found.append({" ".join(turns), *long} - {""})
    return found


def refuse_leaks(found: Mapping[str, Leaks]) -> None:
    """Stop where any row of the pool overlaps with a held-out set.

    Raises:
        DataError: one does; the text has numbers, ids and what to do.
    """
    parts = [
        f"{len(one.ids)} rows with {name} ({', '.join(sorted(one.ids)[:_SHOWN])})"
        for name, one in found.items()
        if one.ids
    ]
    if parts:
        raise DataError(
            f"the pool overlaps with held-out sets: {'; '.join(parts)}: set overlap: drop to leave "
            "these rows out of the pool, or overlap: allow to train on them"
        )
