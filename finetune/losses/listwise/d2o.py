"""D2O: away from one bad completion, with a policy's own completions as anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from siftune.finetune.losses.list_types import ListLogps, ListLoss, best
from siftune.finetune.losses.ranges import within

__all__ = ["D2O"]


@dataclass(frozen=True)
class D2O:
    """``-log σ( β · mean_k l(y_k) - α · l(y_bad) )`` with ``l = log π/π_ref``.

    Duan et al. 2024, arXiv:2403.03419. Written from the abstract alone (self-generated
    anchors, an upper bound of DPO by instances): that the anchors' mean is inside the sigmoid,
    with weights β and α of the two sides, is assumed. The completion of the lowest ``score`` is the
    bad one (tied ones share its place), all others are the anchors y_k, which the sampler draws
    from the model beforehand. Anchors and the bad completion have one reference here, where the
    paper may have two. β 0.1 and α 0.1 are DPO's. One anchor and α = β is DPO; α = β is at most the
    mean of DPO over the anchors. Labels are never flipped, so, as DPO's on such data, it has
    no finite optimum.

    Options:
        alpha: Weight α of the log-ratio of the bad answer.

    >>> logps = ListLogps.of(policy=(-6, -4, -9), ref=(-5, -7, -7), score=(1, 1, 0))
    >>> round(D2O(beta=1, alpha=1)(logps).loss.item(), 4)  # -log σ((-1 + 3) / 2 + 2)
    0.0486
    """

    beta: float = 0.1
    alpha: float = 0.1

    needs_reference: ClassVar = True
    needs_columns: ClassVar = ("score",)

    def __post_init__(self) -> None:
        within(self, alpha="[0, inf)")

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list; of one whose scores are all the same there is none: 0."""
        ratio, bad = logps.answers.ratio, best(logps, sign=-1)
        anchor = (logps.mask & (bad == 0)).to(ratio.dtype)
        count = anchor.sum(-1)
        good = (anchor * ratio).sum(-1) / count.clamp(min=1)
        loss = -F.logsigmoid(self.beta * good - self.alpha * (bad * ratio).sum(-1))
        return ListLoss(loss * (count > 0), self.beta * ratio.detach())
