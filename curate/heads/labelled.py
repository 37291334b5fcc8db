"""Labelled rows of a table: ratings, yes or no, or which of two answers is better."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import orjson
import polars as pl

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import kind_of
from siftune.curate.heads.fitting import Labelled
from siftune.curate.heads.head import ALONE
from siftune.curate.judge_stats.calibration import Kind
from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.rows.chat import contents, last_turn
from siftune.curate.rows.columns import nearest_columns
from siftune.curate.rows.table import Table

__all__ = ["labelled_rows", "labels_of", "pairs_of"]

_WINNERS: Final = {"first": 1.0, "second": 0.0, "tie": 0.5}
_SHOWN: Final = 40  # characters of a bad label


def labelled_rows(table: Table, label: str | None, positive: str | None = None) -> Labelled:
    """The rows with the numbers of column ``label``, which may be a field of their ``extra``.

    Conversations have ratings, or yes and no (0 and 1, true and false, or ``positive`` and other
    texts). Of preference rows the chosen answer is the better one, or the label says how likely it
    is (0 to 1, or first, second, tie). Texts are judged by themselves. Unpaired rows have a label
    of their own. Ranked lists give all pairs whose scores differ. A row whose label is null is
    left out.

    Raises:
        UsageError: rows of this kind have no labels, or there is no such column.
        DataError: a label is of another kind; the text names the row.
    """
    if table.kind == "ranked":
        return _ranked(table)
    columns: dict[str, Callable[[pl.DataFrame], tuple[pl.Series, ...]]] = {
        "conversation": lambda rows: last_turn(rows["messages"]),
        "text": lambda rows: (
            pl.repeat(ALONE, rows.height, eager=True),
            contents(rows["messages"]),
        ),
        "preference": lambda rows: tuple(
            contents(rows[name]) for name in ("prompt", "chosen", "rejected")
        ),
        "unpaired": lambda rows: tuple(contents(rows[name]) for name in ("prompt", "completion")),
    }
    rows = table.gather(
        ["content", *(["extra"] if "extra" in table.columns else ()), *_own(table, label)]
    )
    texts = [list(one) for one in columns[table.kind](rows)]
    kind, numbers = labels_of(rows, label, positive, table.columns)
    groups = texts[1] if table.kind == "text" else None  # the prompt is the same of all
    others = texts[2] if kind == "pairs" else None
    return Labelled(kind, texts[0], texts[1], numbers, others, groups)


def labels_of(
    rows: pl.DataFrame,
    label: str | None,
    positive: str | None = None,
    known: Sequence[str] = (),
) -> tuple[Kind, Floats]:
    """What the labels of ``rows`` are, and the number of each; NaN where it has none.

    Rows and ``label`` are as in `labelled_rows`; ``known`` has columns that a mistake may mean.

    Raises:
        UsageError: the rows need a label, or there is no such column.
        DataError: a label is of another kind; the text names the row.
    """
    kind = kind_of(rows)
    if kind in ("conversation", "text") and label is None:
        raise UsageError("name the column with the labels: --label COLUMN")
    values = _values(rows, kind, label, known or rows.columns)
    pairs = kind == "preference"
    numbers = np.array(
        [_number(value, rows["id"][at], label, pairs, positive) for at, value in enumerate(values)]
    )
    yes_or_no = pairs or bool(np.isin(numbers[~np.isnan(numbers)], (0, 1)).all())
    return "pairs" if pairs else "binary" if yes_or_no else "rating", numbers


def _own(table: Table, label: str | None) -> list[str]:
    return [] if label is None or label not in table.columns else [label]


def _values(
    rows: pl.DataFrame, kind: str, label: str | None, known: Sequence[str]
) -> Sequence[Any]:
    """The label of each row; null where it has none."""
    if label is None:
        return [1.0] * rows.height if kind == "preference" else rows["label"].to_list()
    if label in rows.columns:
        return rows[label].to_list()
    extras = rows["extra"].to_list() if "extra" in rows.columns else [None] * rows.height
    found = [orjson.loads(text) if text else {} for text in extras]
    if not any(label in one for one in found):
        fields = dict.fromkeys((*known, *(name for one in found for name in one)))
        advice = nearest_columns(label, tuple(fields))
        raise UsageError(f"--label: the rows have no column or field {label!r}; {advice}")
    return [one.get(label) for one in found]


def _number(value: Any, row: str, label: str | None, pairs: bool, positive: str | None) -> float:
    """A label as a number; NaN where there is none."""
    if value is None or value == "":
        return math.nan
    if positive is not None:
        return float(str(value) == positive)
    try:
        number = _WINNERS[value] if pairs and value in _WINNERS else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (pairs and not 0 <= number <= 1):
        expected = "0 to 1, or first, second or tie" if pairs else "a number, or true or false"
        advice = "" if pairs else "; of two texts name the better with --positive TEXT"
        raise DataError(
            f"row {row}: {label} is {repr(value)[:_SHOWN]}: expected {expected}{advice}"
        )
    return number


def _ranked(table: Table) -> Labelled:
    if "scores" not in table.columns:
        raise UsageError("the ranked lists have no scores")
    found = [
        pair
        for batch in table.batches(["prompt", "completions", "scores"])
        for pair in _pairs(batch)
    ]
    prompts, answers, others = ([pair[at] for pair in found] for at in range(3))
    return Labelled("pairs", prompts, answers, np.ones(len(found)), others)


def _pairs(batch: pl.DataFrame) -> Iterator[tuple[str | None, str, str]]:
    """Prompt, better and worse answer of all pairs in a list whose scores differ."""
    lists = (batch["completions"].to_list(), batch["scores"].to_list())
    for prompt, answers, scores in zip(contents(batch["prompt"]), *lists, strict=True):
        told = ["\n\n".join(turn["content"] or "" for turn in turns) for turns in answers or ()]
        for better, worse in pairs_of(scores or ()):
            if max(better, worse) < len(told):
                yield prompt, told[better], told[worse]


def pairs_of(scores: Sequence[float | None]) -> list[tuple[int, int]]:
    """Places of the better and the worse answer in each pair of a list whose scores differ.

    >>> pairs_of([2.0, None, 3.0, 2.0])
    [(2, 0), (2, 3)]
    """
    known = [(at, score) for at, score in enumerate(scores) if score is not None]
    return [
        (one, other) for (one, high), (other, low) in itertools.permutations(known, 2) if high > low
    ]
