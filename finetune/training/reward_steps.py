"""Reward model training in micro-batches of so many tokens: equal loss, gradient and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from siftune.finetune.data.collator import slices_of
from siftune.finetune.runs.finite_steps import FiniteSteps

__all__ = ["RewardSteps"]


class RewardSteps(FiniteSteps):
    """A batch of rows with more than ``micro_tokens`` tokens is run in parts.

    A mixin before TRL's RewardTrainer, or another one whose loss is a mean over rows: that of a
    part is weighted by its share of them. A row is ``sides`` texts, all first ones coming first.
    With several processes, which wait for each other in every backward pass, a batch stays whole.
    """

    micro_tokens: int
    sides = 2
    _share = 1.0
    _metrics: Any  # RewardTrainer's: a list of numbers for each name, of train and eval

    def training_step(
        self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward of one batch."""
        alone = self.accelerator.num_processes == 1
        parts = _parts(inputs, self.micro_tokens, self.sides) if alone else [dict(inputs)]
        shares = [len(part["input_ids"]) / len(inputs["input_ids"]) for part in parts]
        losses = []
        for part, self._share in zip(parts, shares, strict=True):
            losses.append(super(FiniteSteps, self).training_step(model, part, num_items_in_batch))
        self._share = 1.0
        if len(parts) > 1:
            self._join(shares)
        return self.checked(torch.stack(losses).sum())

    def compute_loss(self, *given: Any, **named: Any) -> Any:
        """The loss of a part, times its share of the batch."""
        found: Any = super().compute_loss(*given, **named)
        return found if self._share == 1.0 else found * self._share

    def _join(self, shares: list[float]) -> None:
        """Join the metrics of the parts of a batch to one entry for each name."""
        for name, values in self._metrics["train"].items():
            if name == "num_tokens":
                continue  # a total, which is replaced each time
            own = values[-len(shares) :]
            mean = sum(share * value for share, value in zip(shares, own, strict=True))
            joined = {"min_reward": min, "max_reward": max}.get(name, lambda _, mean=mean: mean)
            values[-len(shares) :] = [joined(own)]


def _parts(batch: Mapping[str, Any], most: int, sides: int) -> list[dict[str, Any]]:
    """A batch in parts of at most ``most`` tokens (one row at the least).

    Each is only as wide as its own longest text.
    """
    lengths = batch["attention_mask"].sum(1).view(sides, -1).sum(0).tolist()
    slices = slices_of(lengths, most)
    if len(slices) == 1:
        return [dict(batch)]
    return [_part(batch, rows, (sides, len(lengths), -1)) for rows in slices]


def _part(batch: Mapping[str, Any], rows: slice, shape: tuple[int, ...]) -> dict[str, Any]:
    """Some of the rows of a batch."""
    width = int(batch["attention_mask"].view(shape)[:, rows].sum(-1).max())
    texts = {
        name: batch[name].view(shape)[:, rows, :width].flatten(0, 1)
        for name in ("input_ids", "attention_mask")
    }
    return texts | {name: batch[name][rows] for name in batch if name in ("margin", "target")}
