"""Several rewards with weights: their weighted sum, and each of them by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from siftune.curate.core.custom import name_in_texts
from siftune.curate.models.precision import Precision
from siftune.finetune.core.scored import FACTS, FactsReward
from siftune.finetune.rewards.types import Entry, Reward, entries_of, load, one_of

__all__ = ["WeightedRewards", "parts_and_facts_of", "parts_of", "total_of", "untrained"]


@dataclass(frozen=True)
class WeightedRewards:
    """``Σ weight · reward`` over several rewards, each with its own options and tokenizer.

    ``rewards`` maps names to weights, or to ``{weight: 0.1, options: {target: 40}}`` where a reward
    has options; with ``reward`` an entry may have any name, so that one component can come twice:
    ``{brief: {reward: length, weight: 0.1, options: {target: 40}}}``. Trainers and `sample` take
    the mapping itself as their option ``reward``.

    A completion has no sum where a reward with a weight other than 0 cannot score it: a sum without
    one term would be on another scale. A reward of weight 0 is computed and logged, as a gold
    reward to watch, and counts in no sum. A weight may be negative. Nothing is normalised: a reward
    with a large spread decides the sum, so choose weights by the spread that `parts_of` shows.

    Options:
        rewards: Rewards by name, each with its weight, or with weight, reward and options.
        precision: Number format of reward models that set none of their own.

    >>> length = {"weight": 2, "options": {"target": 4}}
    >>> both = WeightedRewards({"exact_match": 1, "length": length})
    >>> row = {"reference": "two words"}
    >>> both(["?", "?"], ["two words", "four words or so"], [row, row])  # 1 - 2 · ½ and 0 - 2 · 0
    [0.0, 0.0]
    >>> parts_of(both, ["?"], ["two words"], [row])
    {'exact_match': [1.0], 'length': [-0.5]}
    """

    rewards: Mapping[str, Any]
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse rewards, weights and options that are wrong; no model is loaded."""
        _ = self.parts

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The weighted sum for each completion; None where a reward that counts has none."""
        return total_of(self, parts_of(self, prompts, completions, rows))

    def load(self) -> None:
        """Load the models of all rewards."""
        for part in self.parts:
            load(part.reward)

    @cached_property
    def parts(self) -> tuple[Entry, ...]:
        """The entries in the order that they were given, each with its reward, made."""
        listed = entries_of(self.rewards)
        return tuple(replace(one, reward=one_of(one, self.precision)) for one in listed)


def parts_of(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, list[float | None]]:
    """The scores of each reward by its name; a reward that is not several is one of them."""
    return {name: one(prompts, completions, rows) for name, one in _named(reward).items()}


def parts_and_facts_of(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[float | None]], dict[str, list[float | None]]]:
    """What `parts_of` gives, and the facts of each completion that rewards have: ``NAME/spread``.

    A fact that no completion has is left out.
    """
    parts, facts = dict[str, list[float | None]](), dict[str, list[float | None]]()
    for name, one in _named(reward).items():
        if not isinstance(one, FactsReward):
            parts[name] = one(prompts, completions, rows)
            continue
        scored = one.with_facts(prompts, completions, rows)
        parts[name] = [each.score for each in scored]
        for fact in FACTS:
            values = [getattr(each, fact) for each in scored]
            if any(value is not None for value in values):
                facts[f"{name}/{fact}"] = values
    return parts, facts


def _named(reward: Reward) -> dict[str, Reward]:
    """The rewards of several by name; a reward that is not several is one of them."""
    if isinstance(reward, WeightedRewards):
        return {part.name: part.reward for part in reward.parts}
    return {name_in_texts(reward): reward}


def untrained(reward: Reward) -> dict[str, Reward]:
    """The rewards of weight 0 among several, by name."""
    if not isinstance(reward, WeightedRewards):
        return {}
    return {part.name: part.reward for part in reward.parts if not part.weight}


def total_of(reward: Reward, parts: Mapping[str, Sequence[float | None]]) -> list[float | None]:
    """The score of each completion from what `parts_of` gave, without scoring again."""
    if not isinstance(reward, WeightedRewards):
        (only,) = parts.values()
        return list(only)
    weighted = [(part.weight, parts[part.name]) for part in reward.parts if part.weight]
    count = len(next(iter(parts.values())))
    sums = ([(weight, scores[at]) for weight, scores in weighted] for at in range(count))
    return [_sum(terms) for terms in sums]


def _sum(terms: Sequence[tuple[float, float | None]]) -> float | None:
    total = 0.0
    for weight, score in terms:
        if score is None:
            return None
        total += weight * score
    return total
