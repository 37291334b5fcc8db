"""SLERP: two models merged along the great circle between their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from siftune.curate.core.ranges import Share, check_ranges
from siftune.finetune.merging.types import Group

__all__ = ["SLERP"]


@dataclass(frozen=True)
class SLERP:
    """``θ = sin((1 - t) Ω) / sin Ω · θ_1 + sin(t Ω) / sin Ω · θ_2``, tensor by tensor.

    Ω is the angle between the two tensors as vectors, t the weight of the second model. Shoemake
    1985, "Animating rotation with quaternion curves", section 3.3; for models as mergekit has it.
    The average of two orthogonal vectors of one length is shorter than both, by √2; this is not.
    Vectors that are parallel or opposite, or zero, have no great circle: they are averaged.

    >>> models = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> SLERP()(Group(models, torch.tensor([0.5, 0.5]))).tolist()  # sin 45° / sin 90° = 0.7071
    [0.7071067690849304, 0.7071067690849304]

    Options:
        parallel: Absolute cosine of the angle above which two tensors are averaged.
    """

    parallel: Share = 0.9995

    needs_base: ClassVar = False
    most: ClassVar = 2

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_ranges(self)

    def __call__(self, group: Group) -> Tensor:
        """The tensor between the two, by the weight of the second."""
        one, other = group.models
        rest, share = group.weights
        norms = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other)
        cosine = (one * other).sum() / norms if norms > 0 else norms.new_ones(())
        if not cosine.abs() <= self.parallel:
            return group.weighted(group.models).sum(0)
        angle = torch.acos(cosine)
        between: Tensor = torch.sin(rest * angle) * one + torch.sin(share * angle) * other
        return between / angle.sin()
