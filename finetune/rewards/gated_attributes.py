"""Reward of a model of several attributes, weighed by what each prompt asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from siftune.finetune.core.scored import EMPTY, TOO_LONG, Scored
from siftune.finetune.rewards.reward_model import RewardModel

if TYPE_CHECKING:
    from siftune.finetune.models.loading import DType
    from siftune.finetune.reward_models.gate import Gate

__all__ = ["GatedAttributes"]


@dataclass(frozen=True)
class GatedAttributes(RewardModel):
    """``scale · Σ_a g_a(x) (r_a - λ_a v) + shift``; ArmoRM, arXiv:2406.12845.

    ``model`` is a folder of ``siftune finetune reward --objective attributes --gate PAIRS``, which
    as a reward may be named alone. The prompt is read a second time without its answer, once for
    all of its answers of a call: the weights g depend on it alone. Its start is left out where it
    is longer than the model takes. Otherwise as `reward_model`.

    Options:
        abstain: Refused: a model with a gate keeps no states of its training answers.
    """

    def __post_init__(self) -> None:
        """Refuse to abstain."""
        if self.abstain:
            raise ValueError(
                "abstain: a model with a gate keeps no states of its training answers; leave it out"
            )

    def _found(
        self, completions: Sequence[str], rows: Sequence[Mapping[str, Any]], *, states: bool
    ) -> list[Scored]:
        import torch

        from siftune.finetune.reward_models.head_inputs import head_inputs, prompt_ids

        ids = self._ids(completions, rows)
        found = [Scored(None, TOO_LONG if tokens else EMPTY) for tokens in ids]
        fits = [at for at, tokens in enumerate(ids) if 0 < len(tokens) <= self._limit]
        if not fits:
            return found
        (model, tokenizer), gate = self._parts, self._gate
        width = len(gate.names)
        texts = [ids[at] for at in fits]
        ratings = head_inputs(model, tokenizer, texts, width, self.batch_size)[0]
        prompts = [
            tuple(one) for one in prompt_ids(tokenizer, [rows[at] for at in fits], self._limit)
        ]
        distinct = list(dict.fromkeys(prompts))
        known = head_inputs(model, tokenizer, distinct, width, self.batch_size)[1]
        place = {prompt: at for at, prompt in enumerate(distinct)}
        chars = torch.tensor([float(len(completions[at])) for at in fits])
        totals = gate.totals(known[[place[one] for one in prompts]], ratings, chars)
        for at, total in zip(fits, totals.tolist(), strict=True):
            found[at] = Scored(self.scale * total + self.shift)
        return found

    @cached_property
    def _gate(self) -> Gate:
        from siftune.finetune.models.loading import resolve
        from siftune.finetune.reward_models.gate import load_gate

        return load_gate(resolve(self.model))

    def _model(self, dtype: DType) -> Any:
        from siftune.finetune.models.loading import load_reward

        return load_reward(self.model, dtype, classes=self._gate.names)
