"""Columns of errors: why a row has no score, for counts, and for the details of decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.rows.columns import base_column

__all__ = [
    "ScoreTotals",
    "detail_with",
    "error_column",
    "error_columns",
    "score_errors",
    "unscored_of",
    "with_errors",
]

_ENDING: Final = "_error"
_TYPES: Final = (pl.String(), pl.List(pl.String()))


def error_columns(schema: Mapping[str, pl.DataType]) -> list[str]:
    """Columns that hold the reason why a row has no score: one a row, or one an answer."""
    return [
        name
        for name, kind in schema.items()
        if name.endswith(_ENDING) and name != _ENDING and kind in _TYPES
    ]


def score_errors(scores: pl.DataFrame) -> Counter[str]:
    """How many rows, or answers, have each error.

    >>> score_errors(pl.DataFrame({"judge_rating_error": ["timeout", None, "timeout"]}))
    Counter({'timeout': 2})
    """
    found: Counter[str] = Counter()
    for name in error_columns(scores.schema):
        column = scores[name]
        flat = column.explode() if isinstance(column.dtype, pl.List) else column
        found.update(flat.drop_nulls().to_list())
    return found


def score_sums(scores: pl.DataFrame, endings: Iterable[str]) -> dict[str, float]:
    """The sum of all columns with each ending, of lists too; none where no value is known.

    >>> score_sums(pl.DataFrame({"a_cost": [1.0, None], "b_cost": [2.0, 3.0]}), ["cost"])
    {'cost': 6.0}
    """
    found: dict[str, float] = {}
    for ending in endings:
        for column in (one for one in scores if one.name.endswith(f"_{ending}")):
            flat = column.explode() if isinstance(column.dtype, pl.List) else column
            if flat.null_count() < len(flat):
                if flat.dtype.is_integer():
                    flat = flat.cast(pl.Int64)  # a sum of UInt32 is one, and would wrap
                total = flat.sum()
                found[ending] = found.get(ending, 0) + (
                    total if isinstance(total, int) else float(total)
                )
    return found


@dataclass
class ScoreTotals:
    """Counts over the batches of a score stage; ``summed`` are endings of columns of numbers."""

    columns: Sequence[str]
    summed: Sequence[str] = ()
    rows: int = 0
    unscored: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)

    def add(self, scores: pl.DataFrame) -> None:
        """Count a batch."""
        own = scores.select(self.columns)
        self.rows += own.height
        self.unscored += int(own[self.columns[0]].null_count())
        self.errors.update(score_errors(own))
        self.sums.update(score_sums(own, self.summed))

    def facts(self, may_pass: Callable[[str], bool] | None = None) -> dict[str, Any]:
        """All counts, for the manifest; ``to_retry`` are the errors that ``may_pass``."""
        found: dict[str, Any] = {"rows": self.rows, "unscored": self.unscored}
        found["columns"] = list(self.columns)
        if self.sums:
            found["sums"] = dict(self.sums)
        if self.errors:
            found["errors"] = dict(sorted(self.errors.items()))
            passing = filter(may_pass, self.errors) if may_pass else ()
            found["to_retry"] = sum(self.errors[reason] for reason in passing)
        return found


def error_column(name: str, columns: Iterable[str]) -> str | None:
    """The column with the errors of the scorer that added ``name``.

    >>> error_column("judge_rating_depth", ["judge_rating", "judge_rating_error"])
    'judge_rating_error'
    """
    owners = (one for one in columns if one.endswith(_ENDING))
    own = [one for one in owners if f"{name}_".startswith(f"{one.removesuffix(_ENDING)}_")]
    return max(own, key=len, default=None)


def with_errors(
    decided: pl.DataFrame, needs: Iterable[str], errors: pl.DataFrame | None
) -> pl.DataFrame:
    """Decisions whose ``not_scored`` rows have the error in their detail.

    ``errors`` has the columns of errors of the same rows, None where there are none.
    """
    unscored = decided["reason"] == "not_scored"
    if errors is None or not unscored.any():
        return decided
    names = (error_column(base_column(need), errors.columns) for need in needs)
    owners = list(dict.fromkeys(name for name in names if name is not None))
    if not owners:
        return decided
    details = decided["detail"].to_list()
    for at in unscored.arg_true().to_list():
        found = _found(errors.row(at, named=True), owners)
        if found:
            details[at] = detail_with(details[at], error=", ".join(sorted({*found.values()})))
    return decided.with_columns(detail=pl.Series(details, dtype=pl.String))


def unscored_of(errors: pl.DataFrame) -> list[dict[str, str]]:
    """The error of each row by scorer; empty where it has none."""
    return [_found(row, errors.columns) for row in errors.iter_rows(named=True)]


def _found(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        value = row[name]
        texts = value if isinstance(value, list) else [value]
        known = sorted({text for text in texts if text is not None})
        if known:
            found[name.removesuffix(_ENDING)] = ", ".join(known)
    return found


def detail_with(detail: str | None, **more: Any) -> str:
    """The JSON of a detail with further particulars.

    >>> detail_with('{"by":"judge_rating"}', error="timeout")
    '{"by":"judge_rating","error":"timeout"}'
    """
    known = orjson.loads(detail) if detail else {}
    return orjson.dumps(known | more, option=orjson.OPT_SORT_KEYS).decode()
