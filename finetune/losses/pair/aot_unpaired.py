"""AOT without pairs: the k-th best chosen against the k-th best rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["AOTUnpaired"]


@dataclass(frozen=True)
class AOTUnpaired:
    """DPO on the k-th smallest chosen log-ratio less the k-th smallest rejected one of the batch.

    Melnyk et al. 2024, arXiv:2406.05882, the unpaired form: the reward of chosen completions is to
    be stochastically larger than that of rejected ones. Which rejected completion is paired with
    which chosen one does not matter. The loss belongs to a batch; only the mean of its terms means
    anything. β 0.1; ``label_smoothing`` 0 as in TRL.

    >>> pairs = PairLogps.of(policy=([1, 5], [2, 0]), ref=([0, 0], [0, 0]))
    >>> [round(x, 4) for x in AOTUnpaired(beta=1)(pairs).loss.tolist()]  # 1 - 0 and 5 - 2
    [0.3133, 0.0486]
    """

    beta: float = 0.1
    label_smoothing: float = 0.0

    needs_reference: ClassVar = True
    couples_batch: ClassVar = True

    def __post_init__(self) -> None:
        within(self, label_smoothing="[0, 0.5)")

    def __call__(self, logps: PairLogps) -> PairLoss:
        """The terms of the batch's loss."""
        chosen, rejected = logps.chosen.ratio, logps.rejected.ratio
        logit = self.beta * (chosen.sort().values - rejected.sort().values)
        right, flipped = -F.logsigmoid(logit), -F.logsigmoid(-logit)
        loss = (1 - self.label_smoothing) * right + self.label_smoothing * flipped
        return PairLoss(loss, self.beta * chosen.detach(), self.beta * rejected.detach())
