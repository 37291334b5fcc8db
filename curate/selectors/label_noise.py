"""Drop, flip or weight the pairs whose label is probably wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import ColumnExpression, Share
from siftune.curate.rows.columns import Reader, numbers
from siftune.curate.rows.decisions import decide, tie_order
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.rows.flip import flip_pairs

__all__ = ["LabelNoise"]

_ISSUE: Final = "label_noise_issue"


@dataclass(frozen=True)
class LabelNoise:
    """Acts on pairs by the columns of the scorer `label_noise`; the others are ``trusted``.

    Suspect is a label that confident learning finds wrong (``label_noise_issue``), or one whose
    probability of being wrong is at least ``min``, or the ``fraction`` of rows with the highest.

    * ``drop``: suspect pairs are dropped as ``label_noise``
    * ``flip``: suspect pairs are kept as ``flipped``: chosen and rejected change places, with all
      columns of sides, and the row has another digest (the former one is in its detail). Scores of
      a pair as a whole stay as they were, so score again what reads the order
    * ``weight``: nothing is dropped; a column ``weight`` has one minus the probability, for losses
      that weigh pairs; a probability outside of 0 to 1 is refused

    A wrong flip puts an error where none was, and costs twice what a wrong drop does; flip at a
    probability of .8 or more. A pair without a score is dropped as ``not_scored``.

    Not for biases that all labels share: what is common is not suspect.

    Options:
        by: Column with the probability that the label is wrong, or an expression of columns.
        action: What is done with suspect pairs: drop, flip or weight.
        min: Smallest probability of a suspect label; without it and fraction, those that the column
            label_noise_issue names.
        fraction: Share of the rows that are suspect: those with the highest probability.
    """

    by: ColumnExpression = "label_noise"
    action: Literal["drop", "flip", "weight"] = "drop"
    min: Share | None = None
    fraction: Share | None = None

    example: ClassVar = (("action", "drop"),)

    def __post_init__(self) -> None:
        if self.min is not None and self.fraction is not None:
            raise UsageError("label_noise: set min or fraction, not both")
        if self.action == "weight" and (self.min, self.fraction) != (None, None):
            raise UsageError("label_noise: weight keeps all rows: leave min and fraction out")

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of probabilities and of issues; of a flip, all columns."""
        issue = (_ISSUE,) if self._by_issue else ()
        every = ("content", "*") if self.action == "flip" else ()
        return (*needs_of(self.by), *issue, *every)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The probabilities as numbers, the issues as true or false."""
        issue: tuple[tuple[str, Reader], ...] = ((_ISSUE, numbers),) if self._by_issue else ()
        return (*reads_of(self.by), *issue)

    @property
    def adds(self) -> Mapping[str, type[pl.DataType]]:
        """``weight``, where that is the action."""
        return {"weight": pl.Float64} if self.action == "weight" else {}

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on every pair."""
        wrong = scores(table, self.by).cast(pl.Float64)
        outside = wrong.filter((wrong < 0) | (wrong > 1)) if self.action == "weight" else None
        if outside is not None and len(outside):
            raise UsageError(
                f"label_noise: action weight takes probabilities that a label is wrong, from 0 to "
                f"1; {self.by} has {outside[0]:.4g}"
            )
        known = wrong.is_not_null()
        suspect = self._suspect(table, wrong) & known
        acted = {"drop": "label_noise", "flip": "flipped", "weight": "weighted"}[self.action]
        frame = pl.DataFrame({"probability": wrong, "suspect": suspect}).with_columns(
            reason=pl.when(~known)
            .then(pl.lit("not_scored"))
            .when(pl.col("suspect"))
            .then(pl.lit(acted))
            .otherwise(pl.lit("trusted")),
            digest_before=table["digest"] if self.action == "flip" else pl.lit(None),
        )
        shown = frame.select("probability")
        if self.action == "flip":
            before = pl.when("suspect").then("digest_before")
            shown = frame.select("probability", digest_before=before)
        keep = known & ~suspect if self.action == "drop" else known
        decided = decide(keep, frame["reason"], shown)
        if self.action == "flip":
            return decided.hstack(flip_pairs(table, suspect))
        if self.action == "weight":
            return decided.with_columns((1 - wrong).alias("weight"))
        return decided

    @property
    def _by_issue(self) -> bool:
        return self.action != "weight" and self.min is None and self.fraction is None

    def _suspect(self, table: pl.DataFrame, wrong: pl.Series) -> pl.Series:
        """Mask of the rows that are acted on."""
        if self.action == "weight":
            return wrong.is_not_null()
        if self.min is not None:
            return (wrong >= self.min).fill_null(False)
        if self.fraction is None:
            return numbers(table, _ISSUE).fill_null(0) > 0
        order = tie_order(table, wrong)
        mask = np.zeros(table.height, dtype=bool)
        mask[order[: int(self.fraction * table.height + 0.5)]] = True
        return pl.Series(mask)
