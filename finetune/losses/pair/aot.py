"""AOT: chosen beats rejected as a distribution: sorted gaps, not pair by pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.ranges import within
from siftune.finetune.losses.types import PairLogps, PairLoss

__all__ = ["AOT"]


@dataclass(frozen=True)
class AOT:
    """DPO on the k-th smallest policy gap less the k-th smallest reference gap of the batch.

    Melnyk et al. 2024, arXiv:2406.05882, the paired form: ``log π(y_w) - log π(y_l)`` is to be
    stochastically larger under the policy than under the reference. The loss belongs to a batch;
    what it gives "each pair" is the k-th term, and only the mean means anything. Alone in its batch
    a pair has DPO's loss. TRL has swapped the names of this and ``aot_unpaired`` between versions;
    1.16 agrees with us. β 0.1; ``label_smoothing`` 0 as in TRL.

    >>> pairs = PairLogps.of(policy=([1, 5], [0, 0]), ref=([2, 0], [0, 0]))
    >>> [round(x, 4) for x in AOT(beta=1)(pairs).loss.tolist()]  # -log σ(1 - 0), -log σ(5 - 2)
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
        policy = (logps.policy_chosen - logps.policy_rejected).sort().values
        reference = (logps.ref_chosen - logps.ref_rejected).sort().values
        logit = self.beta * (policy - reference)
        right, flipped = -F.logsigmoid(logit), -F.logsigmoid(-logit)
        loss = (1 - self.label_smoothing) * right + self.label_smoothing * flipped
        rewards = self.beta * logps.chosen.ratio, self.beta * logps.rejected.ratio
        return PairLoss(loss, rewards[0].detach(), rewards[1].detach())
