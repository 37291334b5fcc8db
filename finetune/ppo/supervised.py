"""Rows with known answers for the supervised term of the loss: PPO-ptx of InstructGPT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.ppo.rollout import stream
from finetune.ppo.tokens import Tokens

__all__ = ["Supervised"]


@dataclass(frozen=True)
class Supervised:
    """Prompts and answers as token ids, the end token included; ``pad`` fills the batches."""

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]
    pad: int

    def batch(self, step: int, size: int, seed: int) -> Tokens:
        """``size`` rows for optimiser step ``step``, from an endless shuffled order."""
        rows = stream(len(self.prompts), step * size, size, seed)
        prompts = [self.prompts[at] for at in rows]
        return Tokens.of(prompts, [self.answers[at] for at in rows], self.pad)
