"""Reward score: that of a reward model, or of an ensemble, with its spread and distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Literal

import polars as pl

from siftune.curate.core.progress import report_progress
from siftune.curate.core.ranges import NonNegative, check_ranges
from siftune.curate.models.precision import Precision
from siftune.curate.rows.chat import split_turns
from siftune.finetune.core.scored import Scored, ScoringReward
from siftune.finetune.models import loading
from siftune.finetune.models.precision import precision_used
from siftune.finetune.reward_models.members import component_of, ensemble_hash, is_ensemble

__all__ = ["RewardScore"]

_CALLS = "tool_calls"
_NO_ANSWER = "no_answer"


@dataclass(frozen=True)
class RewardScore:
    """``reward_score`` of the last answer by a model of `siftune finetune reward`.

    Of an ensemble (`siftune finetune reward_ensemble`) it is the mean score, the smallest, or the
    mean less ``weight`` times the disagreement; ``reward_score_spread`` is the standard deviation
    of its members. ``reward_score_distance`` is how far the answer's state is from those of the
    training answers, about 1 for one like them, null where the model has none stored. Scores of
    answers to one prompt can be compared, those of different prompts hardly. Rows run one by one,
    so a score does not depend on other rows. A row without a prompt and an answer, with tool calls,
    or longer than the model's window is null, and ``reward_score_error`` has the reason.

    Not for rows unlike the model's training pairs: with ``abstain`` these are null.

    Options:
        model: Folder of a reward model or of an ensemble.
        how: Of an ensemble the mean, the smallest score (worst), or the mean less the standard
            deviation (spread) or the variance of the scores.
        weight: Number that the spread or the variance is multiplied by.
        abstain: Give no score to answers unlike those that the model was trained on.
        precision: Number format of all but the head: fp32, bf16, or bf16 on a CPU that multiplies
            it (auto).
    """

    model: str
    how: Literal["mean", "worst", "spread", "variance"] = "spread"
    weight: NonNegative = 1.0
    abstain: bool = False
    precision: Precision = "auto"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {
        "reward_score": pl.Float64,
        "reward_score_spread": pl.Float64,
        "reward_score_distance": pl.Float64,
        "reward_score_error": pl.String,
    }
    cost: ClassVar = "a forward pass a row, of each member"

    def __post_init__(self) -> None:
        check_ranges(self)

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: another process loads the model itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        before, answers = split_turns(batch["messages"])
        found = []
        for at, (turns, answer) in enumerate(zip(before.to_list(), answers.to_list(), strict=True)):
            one = self._one(turns, answer)
            found.append((one.score, one.spread, one.distance, one.reason))
            report_progress(at + 1, batch.height, "rows")
        return pl.DataFrame(found, schema=self.adds, orient="row")

    def describe(self) -> dict[str, Any]:
        """The model by its content, and the number format, for keys and manifests."""
        own = ensemble_hash if is_ensemble(self.model) else loading.model_hash
        return {"model": own(self.model), "precision": precision_used(self.precision)}

    def _one(self, turns: list[Mapping[str, Any]] | None, answer: str | None) -> Scored:
        if not turns or not (answer or "").strip():
            return Scored(None, _NO_ANSWER)
        if any(turn["content"] is None or turn["role"] == "tool" for turn in turns):
            return Scored(None, _CALLS)
        prompt = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
        row = {"id": "row", "prompt": prompt}
        return self._reward.scored([prompt[-1]["content"]], [str(answer)], [row])[0]

    @cached_property
    def _reward(self) -> ScoringReward:
        from siftune.finetune.rewards.gated_attributes import GatedAttributes
        from siftune.finetune.rewards.reward_ensemble import RewardEnsemble
        from siftune.finetune.rewards.reward_model import RewardModel

        if is_ensemble(self.model):
            return RewardEnsemble(
                self.model,
                how=self.how,
                weight=self.weight,
                precision=self.precision,
                abstain=self.abstain,
            )
        made = GatedAttributes if component_of(self.model) == "gated_attributes" else RewardModel
        return made(self.model, precision=self.precision, abstain=self.abstain)
