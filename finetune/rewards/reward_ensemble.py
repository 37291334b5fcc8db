"""Reward of several reward models: the mean, the smallest, or the mean less the disagreement."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from siftune.curate.core.ranges import Count, NonNegative
from siftune.curate.models.precision import Precision
from siftune.finetune.core.scored import UNKNOWN, Scored
from siftune.finetune.reward_models.members import Member, members_of
from siftune.finetune.rewards.reward_model import RewardModel

__all__ = ["RewardEnsemble", "combined"]

_How: TypeAlias = Literal["mean", "worst", "spread", "variance"]


@dataclass(frozen=True)
class RewardEnsemble:
    """K reward models of one set of pairs as one reward (Coste et al. 2023, arXiv:2310.02743).

    Models that were trained on other seeds or bags agree on answers like those that they were
    trained on, and disagree on others, which a policy is drawn to: each alone overrates some.

    - ``mean``: ``R = Σ rᵢ / K``
    - ``worst`` (their WCO): ``R = min rᵢ``
    - ``variance`` (their UWO): ``R = mean - weight · Σ (rᵢ - mean)² / K``
    - ``spread``: ``R = mean - weight · √(Σ (rᵢ - mean)² / K)``, in the units of the score

    A reward model fixes differences of scores and no level, so from each member the mean of its
    scores of one set of answers is taken off (``ensemble.json``); without that the smallest would
    be that of the model with the lowest level. Folders that are named one by one are taken as they
    are. Where a member has no score the ensemble has none. It abstains where
    at least half of the members do; elsewhere the scores of all members count, so that an answer on
    which they disagree gains nothing from the members that abstain.

    Options:
        model: Folder of `siftune finetune reward_ensemble`, or folders of reward models with commas
            between.
        how: The mean, the smallest score (worst), or the mean less the standard deviation (spread)
            or the variance of the scores.
        weight: Number that the spread or the variance is multiplied by.
        batch_size: Number of texts that are scored at once.
        max_length: Largest number of tokens of prompt and answer together; a longer text has
            no score; none takes what the model can take.
        abstain: Give no score to answers unlike those that at least half of the members were
            trained on.

    >>> scores = [1.0, 2.0, 6.0]  # mean 3, variance 14 / 3, spread 2.16
    >>> [round(combined(scores, how, 0.5), 2) for how in ("mean", "worst", "spread", "variance")]
    [3.0, 1.0, 1.92, 0.67]
    """

    model: str
    how: _How = "spread"
    weight: NonNegative = 1.0
    batch_size: Count = 32
    max_length: Count | None = None
    precision: Precision = "auto"
    abstain: bool = False

    reads_extra: ClassVar = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """One score a completion, None where a member has none."""
        return [one.score for one in self.scored(prompts, completions, rows)]

    def scored(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[Scored]:
        """The score of each completion with the spread of the members and their mean distance."""
        each = [reward.all_scored(prompts, completions, rows) for reward in self._rewards]
        return [self._one(answers) for answers in zip(*each, strict=True)]

    with_facts = scored  # of the protocol `FactsReward`

    def load(self) -> None:
        """Load all members now, so that their faults are found before answers are sampled."""
        for reward in self._rewards:
            reward.load()

    def _one(self, answers: Sequence[Scored]) -> Scored:
        far = [one.distance for one in answers if one.distance is not None]
        distance = statistics.fmean(far) if far else None
        scores = [one.score for one in answers if one.score is not None]
        if len(scores) < len(answers):  # a member has not read it
            return Scored(None, next(one.reason for one in answers if one.score is None), distance)
        if 2 * sum(one.reason == UNKNOWN for one in answers) >= len(answers):
            return Scored(None, UNKNOWN, distance)
        spread = statistics.pstdev(scores)
        return Scored(combined(scores, self.how, self.weight), None, distance, spread)

    @cached_property
    def _members(self) -> tuple[Member, ...]:
        return members_of(self.model)

    @cached_property
    def _rewards(self) -> tuple[RewardModel, ...]:
        return tuple(
            RewardModel(
                str(member.folder),
                self.batch_size,
                self.max_length,
                shift=-member.level,
                precision=self.precision,
                abstain=self.abstain,
            )
            for member in self._members
        )


def combined(scores: Sequence[float], how: _How, weight: float) -> float:
    """One score of those of the members (see `RewardEnsemble`)."""
    mean = statistics.fmean(scores)
    if how == "mean":
        return mean
    if how == "worst":
        return min(scores)
    spread = statistics.pstdev(scores, mean)
    return mean - weight * (spread if how == "spread" else spread**2)
