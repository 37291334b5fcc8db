"""Training loop of process rewards: one text a row, a score at the end of each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from siftune.finetune.data.collator import Batch, slices_of
from siftune.finetune.losses.reward_types import Compared, RewardObjective
from siftune.finetune.scoring.step_scores import step_scores
from siftune.finetune.training.reward_loop import RewardLoop

__all__ = ["StepCollator", "StepLoop"]


@dataclass(frozen=True)
class StepCollator:
    """B answers in up to K steps, padded on the right.

    ``ends`` ``(B, K)`` are the last tokens of the steps, -1 where an answer has fewer; ``label``
    ``(B, K)`` is NaN there and where none is known. ``count`` ``(B,)`` is what each answer's loss
    counts for.
    """

    pad: int
    loss: RewardObjective

    def __call__(self, elements: Sequence[Mapping[str, Any]]) -> Batch:
        """The batch of these answers."""
        texts = [torch.tensor(one["texts"]) for one in elements]
        labels = [
            torch.tensor([torch.nan if label is None else label for label in one["labels"]])
            for one in elements
        ]
        batch = {
            "input_ids": pad_sequence(texts, batch_first=True, padding_value=self.pad),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in texts], True),
            "ends": pad_sequence([torch.tensor(one["ends"]) for one in elements], True, -1),
            "label": pad_sequence(labels, True, torch.nan),
        }
        scores = torch.zeros_like(batch["label"])
        return batch | {"count": self.loss.count(_compared(scores, batch))}


def _compared(scores: torch.Tensor, batch: Batch) -> Compared:
    """Steps in place of answers, none of which is compared with another."""
    none = scores.new_zeros((*scores.shape, scores.shape[1]))
    columns = {"label": batch["label"].to(scores)}
    return Compared(scores, none, none, batch["ends"] >= 0, columns)


class StepLoop(RewardLoop):
    """`RewardLoop` on answers in steps."""

    columns = ("texts", "ends", "labels")

    def parts(self, batch: Batch) -> list[Batch]:
        """The batch in parts of at most ``micro_tokens`` tokens (one answer at the least)."""
        lengths = batch["attention_mask"].sum(1).tolist()
        found = []
        for rows in slices_of(lengths, self.micro_tokens):
            width = max(lengths[rows])
            part = {name: value[rows] for name, value in batch.items()}
            for name in ("input_ids", "attention_mask"):
                part[name] = part[name][:, :width]
            found.append(part)
        return found

    def compared(self, model: Any, batch: Batch) -> tuple[torch.Tensor, Compared]:
        """The scores at the ends of the steps."""
        texts = batch["input_ids"], batch["attention_mask"]
        scores = step_scores(model, *texts, batch["ends"]).float()
        return scores[..., None], _compared(scores, batch)

    @torch.no_grad()
    def measure(self, mode: str, compared: Compared) -> None:
        """Share of labelled steps that are classified right, for the next log."""
        label, scores = compared.columns["label"], compared.scores
        known = ~label.isnan()
        right = (scores > 0) == (label > 0.5)
        self._totals[mode].add("accuracy", right[known].double())
        self._totals[mode].add("mean_reward", scores[compared.mask])
