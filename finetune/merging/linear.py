"""Linear merge: the weighted average of the models' weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from siftune.finetune.merging.types import Group

__all__ = ["Linear"]


@dataclass(frozen=True)
class Linear:
    """``θ = Σ_m w_m θ_m``, the weights w adding up to 1.

    "Model soups", Wortsman et al. 2022, arXiv:2203.05482, section 2 (uniform soup); Llama 3,
    arXiv:2407.21783, section 4.1.6, averages models of several runs so. The models should come from
    one base: an average of models trained apart from random weights is no model.

    >>> import torch
    >>> models = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    >>> Linear()(Group(models, torch.tensor([0.25, 0.75]))).tolist()
    [2.5, 5.0]
    """

    needs_base: ClassVar = False
    most: ClassVar = None

    def __call__(self, group: Group) -> Tensor:
        """The weighted average of the models."""
        return group.weighted(group.models).sum(0)
