"""RIP: the prompts whose rejected answer is good and long, and close to the chosen one."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from siftune.curate.core.ranges import Share, check_ranges
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.decisions import decide
from siftune.curate.rows.expressions import ColumnExpression, needs_of, reads_of, scores

__all__ = ["RIP"]


@dataclass(frozen=True)
class RIP:
    """Rejecting Instruction Preferences; Yu et al. 2025, arXiv:2501.18578.

    A poor prompt gets answers that are poor or differ much. So a pair is kept if its *rejected*
    answer has a reward and a length at or above a quantile of all pairs, and the gap of rewards is
    at or below one. Dropped as ``low_reward``, ``short_rejected`` or ``large_gap``, whichever is
    first. The paper keeps 23 % of WildChat with thresholds that it tunes; the medians here keep an
    eighth of pairs in which the three are independent. 0, 0 and 1 keep all.

    Rewards have to be of one model on one scale. A pair that lacks one of the three is
    ``not_scored``.

    Not for sets with noisy rewards: a long rejected answer with a high one may be a wrong label.

    Options:
        reward: Column with the reward of the rejected answer, or an expression of columns.
        length: Column with the length of the rejected answer, as the scorer `length` adds.
        gap: Column with the reward of chosen minus rejected, or an expression of columns.
        min_reward: Quantile of the rewards, from 0 to 1, that a pair has to reach.
        min_length: Quantile of the lengths that a pair has to reach.
        max_gap: Quantile of the gaps that a pair must not exceed.
    """

    reward: ColumnExpression = "score_rejected"
    length: ColumnExpression = "rejected_length_chars"
    gap: ColumnExpression = "margin"
    min_reward: Share = 0.5
    min_length: Share = 0.5
    max_gap: Share = 0.5

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The three columns."""
        return needs_of(self.reward, self.length, self.gap)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as numbers."""
        return (*reads_of(self.reward), *reads_of(self.length), *reads_of(self.gap))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare every pair with the three quantiles of the pairs that have all three numbers."""
        frame = pl.DataFrame(
            {
                name: scores(table, getattr(self, name)).cast(pl.Float64).fill_nan(None)
                for name in ("reward", "length", "gap")
            }
        )
        known = pl.all_horizontal(pl.all().is_not_null())
        whole = frame.filter(known)
        low_reward, low_length, high_gap = (
            pl.lit(whole[name].quantile(share, "linear"), pl.Float64)
            for name, share in (
                ("reward", self.min_reward),
                ("length", self.min_length),
                ("gap", self.max_gap),
            )
        )
        reason = frame.select(
            reason=pl.when(~known)
            .then(pl.lit("not_scored"))
            .when(pl.col("reward") < low_reward)
            .then(pl.lit("low_reward"))
            .when(pl.col("length") < low_length)
            .then(pl.lit("short_rejected"))
            .when(pl.col("gap") > high_gap)
            .then(pl.lit("large_gap"))
            .otherwise(pl.lit("selected"))
        )["reason"]
        bounds = frame.with_columns(min_reward=low_reward, min_length=low_length, max_gap=high_gap)
        return decide(reason == "selected", reason, bounds)
