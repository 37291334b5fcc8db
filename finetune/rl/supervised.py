"""Rows with known answers for the supervised term of the loss: PPO-ptx of InstructGPT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from siftune.curate.chat.encoding import EncodedAnswer
from siftune.finetune.rl.padded_batch import Tokens
from siftune.finetune.rl.rollout import stream

__all__ = ["Supervised"]


@dataclass(frozen=True)
class Supervised:
    """Rows as token ids, each by its id, the end token included; ``pad`` fills the batches."""

    ids: Sequence[str]
    rows: Sequence[EncodedAnswer]
    pad: int

    def batch(self, step: int, size: int, seed: int) -> tuple[list[str], Tokens]:
        """``size`` rows for optimiser step ``step``, from an endless shuffled order."""
        taken = stream(len(self.rows), step * size, size, seed)
        rows = [self.rows[at] for at in taken]
        tokens = Tokens.of([row.prompt for row in rows], [row.ids for row in rows], self.pad)
        scored = Tokens.of([row.prompt for row in rows], [row.mask for row in rows], 0).completions
        return [self.ids[at] for at in taken], replace(tokens, mask=scored.bool())
