"""Process rewards: whether each step of an answer is right, by cross-entropy at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from siftune.finetune.losses.reward_types import Compared

__all__ = ["Process"]


@dataclass(frozen=True)
class Process:
    """``-log σ(r)`` at the end of each right step, ``-log σ(-r)`` at that of each wrong one.

    Lightman et al. 2023, arXiv:2305.20050, and Wang et al. 2023, arXiv:2312.08935, equation 2. The
    K scores of a prompt are those at the ends of the steps of one answer, which is encoded once.
    Each labelled step counts 1 in the mean; a step without a label is read and not learned.

    >>> steps = Compared.of([0.0, 2.0, -1.0], label=[1, 0, float("nan")])
    >>> round(Process()(steps).item(), 4)  # ln 2 - log σ(-2)
    2.8201
    """

    by_prompt: ClassVar[bool] = False
    takes: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ("label",)
    reads: ClassVar[str] = "steps"

    def __call__(self, compared: Compared) -> torch.Tensor:
        """Sum over the labelled steps of each answer."""
        label = compared.columns["label"]
        signed = torch.where(label > 0.5, compared.scores, -compared.scores)
        return torch.where(label.isnan(), 0.0, -F.logsigmoid(signed)).sum(1)

    def count(self, compared: Compared) -> torch.Tensor:
        """Its labelled steps."""
        return (~compared.columns["label"].isnan()).to(compared.scores).sum(1)
