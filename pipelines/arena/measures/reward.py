"""Reward of the answers: a reward model, or any reward of `siftune finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from siftune.pipelines.arena.measures.types import Asked, Better, Values

__all__ = ["Reward"]


@dataclass(frozen=True)
class Reward:
    """The reward of each generated answer, of one reward for every arm.

    Not for a reward that an arm was selected or trained by: it measures that choice again.

    Options:
        reward: Reward: the folder of a reward model, a name of ours, FILE.py:NAME, or several
            with weights.
        options: Options of the reward.
    """

    reward: str | Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    better: ClassVar[Better] = "higher"
    kinds: ClassVar = ("conversation", "preference", "text")

    def __call__(self, asked: Asked) -> Values:
        """The reward, or None, of each row."""
        from siftune.finetune.rewards.types import load, reward_of

        key = ("reward", str(self.reward), str(self.options))
        if key not in asked.memory:
            asked.memory[key] = reward_of(self.reward, self.options)
            load(asked.memory[key])
        there = [at for at, one in enumerate(asked.answers) if one["completion"] is not None]
        rows = [{**asked.answers[at], "finished": asked.answers[at]["ended"]} for at in there]
        scores = asked.memory[key](
            [one["prompt"] for one in rows], [one["completion"] for one in rows], rows
        )
        found: list[float | None] = [None] * len(asked.answers)
        for at, score in zip(there, scores, strict=True):
            found[at] = score
        return Values(found)
