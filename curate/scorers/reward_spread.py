"""Agreement and spread of several reward models' margins on each pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.expressions import needs_of, reads_of, scores

__all__ = ["RewardSpread"]


@dataclass(frozen=True)
class RewardSpread:
    """Several margins (chosen minus rejected) of a pair, in one unit.

    Reward models have scales of their own, so each column is divided by its root mean square over
    the table: 0 stays 0, and the sign stays.

    * ``reward_spread``: standard deviation of the margins (of the population): how far the models
      disagree on this pair
    * ``reward_spread_mean``: their mean, a margin with less noise than each
    * ``reward_spread_agreement``: share of the margins whose sign is the more frequent one, ties
      half for each: 1 where all agree, .5 where they are split
    * ``reward_spread_for_label``: share of the margins above 0, ties half: below one half the label
      is against the majority

    Pairs with a high mean and a small spread are sure; a high spread calls for a judge or a person.
    The scores of a row depend on the other rows of the table, by the units. A pair that lacks one
    of the margins scores null.

    Not for one reward model, or margins that come from the same one.

    Options:
        margins: Columns of margins, or expressions such as chosen_reward - rejected_reward, with
            commas between; two or more.
    """

    margins: tuple[str, ...]

    example: ClassVar = (("margins", "margin,extra.reward_gap"),)
    whole: ClassVar = True
    content: ClassVar = ("prompt", "chosen", "rejected")
    adds: ClassVar = {
        "reward_spread": pl.Float64,
        "reward_spread_mean": pl.Float64,
        "reward_spread_agreement": pl.Float64,
        "reward_spread_for_label": pl.Float64,
    }

    def __post_init__(self) -> None:
        if len(self.margins) < 2:
            raise UsageError("reward_spread: name at least two columns of margins")

    @property
    def needs(self) -> tuple[str, ...]:
        """The margins."""
        return needs_of(*self.margins)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as numbers."""
        return tuple(pair for one in self.margins for pair in reads_of(one))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare the margins of each pair."""
        columns = [scores(table, one).cast(pl.Float64).to_numpy() for one in self.margins]
        scaled = np.stack([one / _size(one) for one in columns], axis=1)
        known = np.asarray(np.isfinite(scaled).all(axis=1))
        signs = np.sign(np.where(known[:, None], scaled, 0.0))
        positive = ((signs > 0) + (signs == 0) / 2).mean(1)
        found = {
            "reward_spread": scaled.std(1),
            "reward_spread_mean": scaled.mean(1),
            "reward_spread_agreement": np.maximum(positive, 1 - positive),
            "reward_spread_for_label": positive,
        }
        kept = {name: np.where(known, one, np.nan) for name, one in found.items()}
        return pl.DataFrame(kept, pl.Schema(self.adds), nan_to_null=True)


def _size(margins: np.ndarray) -> float:
    """Root mean square of the known margins, summed in an order that the rows do not decide."""
    known = np.sort(margins[np.isfinite(margins)] ** 2)
    size = float(np.sqrt(known.mean())) if len(known) else 0.0
    return size if size > 0 else 1.0
