"""Outlying sources: how far the lengths, copies and scores of a source lie from the others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.ranges import ColumnExpression, Positive, check_ranges
from siftune.curate.rows.chat import last_turn
from siftune.curate.rows.columns import Reader, base_column, groups
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.text.words import words_of

__all__ = ["SourceOutlier"]

_FEWEST: Final = 5
"""Sources below which a median and a spread mean nothing."""


@dataclass(frozen=True)
class SourceOutlier:
    """Robust z scores of each row's source among the sources of the table.

    Of each source the mean is taken of the words of an answer, of the answers that another row of
    the table has, too (without case and punctuation), and of ``by``. The z score of a mean is
    ``(x - median) / (1.4826 * MAD)``, with the median and the median absolute deviation over
    sources, each of which counts once; where more than half of the sources are equal, MAD is 0, and
    1.2533 times the mean absolute deviation takes its place (Iglewicz and Hoaglin 1993). Where all
    are equal it is 0.

    * ``source_outlier_words``, ``source_outlier_copies``, ``source_outlier_by``: the z scores; that
      of ``by`` is null where it is not named, or no row of the source has it
    * ``source_outlier_rows``: the rows of the source
    * ``source_outlier_flags``: ``words``, ``copies`` and ``by`` whose z score is beyond ``limit``
      on either side

    The scores depend on the other rows of the table. With fewer than five sources the z scores and
    flags are null. A row without an answer has null.

    Not for deciding on rows: an outlying source is a reason to read some of its rows.

    Options:
        by: Score, or expression of columns, whose mean is compared, such as fitted_quality.
        limit: Absolute z score beyond which a source is flagged; 3.5 is usual.
        group_by: Column whose values are the sources.
    """

    by: ColumnExpression | None = None
    limit: Positive = 3.5
    group_by: str = "source"

    whole: ClassVar = True
    content: ClassVar = ("messages",)
    flags: ClassVar = {"source_outlier_flags": ("by", "copies", "words")}
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "source_outlier_words": pl.Float64,
        "source_outlier_copies": pl.Float64,
        "source_outlier_by": pl.Float64,
        "source_outlier_rows": pl.UInt32,
        "source_outlier_flags": pl.List(pl.String),
    }

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The turns, the sources, and the score."""
        named = ("messages", base_column(self.group_by), *needs_of(self.by))
        return tuple(dict.fromkeys(named))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The sources and the score."""
        return ((self.group_by, groups), *reads_of(self.by))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare the sources."""
        answers = last_turn(table["messages"])[1]
        key = answers.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
        rows = pl.DataFrame(
            {"group": groups(table, self.group_by), "words": words_of(answers), "key": key}
        ).with_columns(
            copies=pl.when(pl.col("key").is_not_null()).then(pl.len().over("key") > 1),
            by=scores(table, self.by) if self.by else pl.lit(None, pl.Float64),
        )
        named = ("words", "copies", "by")
        means = rows.group_by("group").agg(
            *(pl.col(name).cast(pl.Float64).sort().mean() for name in named), rows=pl.len()
        )
        sources = means.filter(pl.col("group").is_not_null()).sort("group")
        sources = sources.with_columns(
            pl.Series(name, robust_z(sources[name].to_numpy()), nan_to_null=True) for name in named
        )
        raised = [
            pl.when(pl.col(name).abs() > self.limit).then(pl.lit(name)) for name in sorted(named)
        ]
        some = pl.col("words").is_not_null() | pl.col("copies").is_not_null()
        flagged = sources.with_columns(
            flags=pl.when(some).then(pl.concat_list(raised).list.drop_nulls())
        )
        answered = rows.select("group", answered=pl.col("key").is_not_null())
        joined = answered.join(flagged, on="group", how="left", maintain_order="left")
        known = [pl.when("answered").then(pl.col(name)).alias(name) for name in flagged.columns]
        found = joined.select(known).select(pl.all().name.prefix("source_outlier_"))
        return found.select(*self.adds).cast(pl.Schema(self.adds))


def robust_z(values: Any) -> Any:
    """Distances from the median in robust standard deviations; NaN of fewer than five values.

    >>> robust_z(np.array([1.0, 2.0, 3.0, 4.0, 100.0])).round(3).tolist()  # median 3, MAD 1
    [-1.349, -0.674, 0.0, 0.674, 65.426]
    >>> robust_z(np.array([2.0, 2.0, 2.0, 2.0, 7.0])).round(3).tolist()  # MAD 0, mean deviation 1
    [0.0, 0.0, 0.0, 0.0, 3.989]
    """
    known = values[np.isfinite(values)]
    if len(known) < _FEWEST:
        return np.full(len(values), np.nan)
    median = np.median(known)
    off = np.sort(np.abs(known - median))
    scale = 1.4826 * np.median(off) or 1.2533 * off.mean()
    return (values - median) / scale if scale else np.where(np.isfinite(values), 0.0, np.nan)
