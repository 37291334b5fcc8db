"""TIES: changes from a base model, trimmed, of the elected sign, averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from siftune.curate.core.ranges import NonNegative, PositiveShare, check_ranges
from siftune.finetune.merging.types import Group, disjoint_mean, keep_largest

__all__ = ["TIES"]


@dataclass(frozen=True)
class TIES:
    """``θ = θ_base + λ · mean of the trimmed changes whose sign is the elected one``.

    Yadav et al. 2023, arXiv:2306.01708, algorithm 1: of each model's change ``θ_m - θ_base`` the
    ``density`` largest magnitudes are kept (trim); the sign of an entry is that of the weighted sum
    over the models (elect); the entries of that sign are averaged by their weights (disjoint
    merge). An entry of which the sum is 0 stays that of the base. The paper trims over all tensors
    together; here each is trimmed alone, as in mergekit, so that no model has to be in memory whole
    and no layer loses all of its changes. ``density`` .2 and λ 1 are the paper's (section 5).

    >>> group = Group(torch.tensor([[4.0, 2.0], [1.0, -1.0]]), torch.tensor([0.5, 0.5]),
    ...               torch.tensor([1.0, 1.0]))
    >>> TIES(density=1)(group).tolist()  # changes 3, 1 and 0, -2: 1 + 3, 1 - 2
    [4.0, -1.0]

    Options:
        density: Share of the entries of each model's change that are kept, the largest ones.
        scale: Factor of the merged change, λ.
    """

    density: PositiveShare = 0.2
    scale: NonNegative = 1.0

    needs_base: ClassVar = True
    most: ClassVar = None

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_ranges(self)

    def __call__(self, group: Group) -> Tensor:
        """The base with the elected changes."""
        trimmed = torch.stack([keep_largest(change, self.density) for change in group.changes])
        return group.plus(disjoint_mean(trimmed, group.weights), self.scale)
