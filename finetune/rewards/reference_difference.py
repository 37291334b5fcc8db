"""Difference to a reference answer: a reward minus that of the row's own answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from siftune.curate.models.precision import Precision
from siftune.finetune.models.loading import model_hash
from siftune.finetune.rewards.types import Reward, facts_of, folders_of, load, reward_of

__all__ = ["ReferenceDifference"]


@dataclass(frozen=True)
class ReferenceDifference:
    """``r(x, y) - r(x, y_known)``: how much better the completion is than the row's answer.

    As Stiennon et al. 2020, arXiv:2009.01325, whose reward model is shifted so that the reference
    summaries score 0: a reward model's score has a meaning only between answers to one prompt, and
    the difference takes out what it gives to the prompt. Each known answer is scored once a call.
    A row without a known answer has no score, nor has one of which either side has none.

    Options:
        reward: The reward: a component, the folder of a reward model, or several with weights.
        reward_options: Options of the reward, where it is one.
        precision: Number format of reward models that set none of their own.

    >>> from siftune.finetune.rewards.reference_difference import ReferenceDifference
    >>> longer = ReferenceDifference("length", {"target": 4})
    >>> longer(["?"], ["three words here"], [{"reference": "one"}])  # -1/4 + 3/4
    [0.5]
    """

    reward: str | Mapping[str, Any]
    reward_options: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Refuse a reward that is none, or options that do not fit; no model is loaded."""
        _ = self._reward

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The difference for each completion, or None."""
        keys = [
            None if row.get("reference") is None else (row.get("id"), prompt, row["reference"])
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        first = {key: at for at, key in reversed([*enumerate(keys)]) if key is not None}
        own = self._reward(prompts, completions, rows)
        known = self._reward(
            [prompts[at] for at in first.values()],
            [rows[at]["reference"] for at in first.values()],
            [{**rows[at], "finished": True} for at in first.values()],
        )
        base = dict(zip(first, known, strict=True))
        return [
            None if score is None or (less := base.get(key)) is None else score - less
            for score, key in zip(own, keys, strict=True)
        ]

    def load(self) -> None:
        """Load what the reward needs now.

        Raises:
            UsageError: it cannot be used.
        """
        load(self._reward)

    def describe(self) -> dict[str, Any]:
        """What the reward depends on, for the key of a training."""
        folders = {one: model_hash(one) for one in folders_of(self.reward)}
        return {"reward": {**facts_of(self._reward), **folders}}

    @cached_property
    def _reward(self) -> Reward:
        return reward_of(self.reward, self.reward_options, self.precision)
