"""What a merging method is given and returns, and the steps that several methods share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Protocol

import torch
from torch import Tensor

__all__ = ["Group", "Method", "disjoint_mean", "dropped", "keep_largest"]


@dataclass(frozen=True)
class Group:
    """The tensors of one name: ``models`` (M, ...), in a format wider than the stored one.

    ``weights`` (M,) add up to 1. ``base`` (...) is the model that all were trained from, None where
    the method needs none. ``key`` (a seed and the tensor's name) is where random numbers come from.
    """

    models: Tensor
    weights: Tensor
    base: Tensor | None = None
    key: tuple[int, str] = (0, "")

    @property
    def changes(self) -> Tensor:
        """The task vectors τ = θ - θ_base of the models (M, ...)."""
        assert self.base is not None
        return self.models - self.base

    def plus(self, change: Tensor, scale: float) -> Tensor:
        """``θ_base + scale · change``."""
        assert self.base is not None
        return self.base + scale * change

    def weighted(self, values: Tensor) -> Tensor:
        """``values`` (M, ...) times the weight of each model."""
        return values * self.weights.reshape(-1, *(1,) * (values.dim() - 1))


class Method(Protocol):
    """A frozen dataclass whose fields are the options of the method."""

    needs_base: ClassVar[bool]
    """Whether the model is needed that all were trained from; where not, one is refused."""
    most: ClassVar[int | None]
    """How many models can be merged at once; None: any number."""

    def __call__(self, group: Group) -> Tensor:
        """The merged tensor (...)."""


def keep_largest(change: Tensor, density: float) -> Tensor:
    """``change`` with all but the ``density`` largest magnitudes set to 0, at least one kept.

    Of equal magnitudes at the limit those with the lowest index are kept.

    >>> keep_largest(torch.tensor([1.0, -4.0, 2.0, 2.0]), 0.5).tolist()
    [0.0, -4.0, 2.0, 0.0]
    """
    size = change.numel()
    count = max(1, math.floor(density * size + 1e-9))
    if count >= size:
        return change
    magnitude = change.abs().flatten()
    limit = magnitude.kthvalue(size - count + 1).values
    kept = magnitude > limit
    kept[(magnitude == limit).nonzero()[: count - int(kept.sum()), 0]] = True
    return change * kept.reshape(change.shape)


def dropped(change: Tensor, density: float, key: Sequence[int | str]) -> Tensor:
    """Each entry kept with probability ``density`` and divided by it, else 0: the mean stays.

    The random numbers are a function of ``key`` and the shape alone.
    """
    if density >= 1:
        return change
    digest = blake2b(repr(tuple(key)).encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    kept = torch.rand(change.shape, generator=generator).to(change.device) < density
    return change * kept / density


def disjoint_mean(changes: Tensor, weights: Tensor) -> Tensor:
    """Mean (...) of those of ``changes`` (M, ...) whose sign is that of the weighted sum.

    Entries without such a sign, of which the sum is 0, give 0. TIES, arXiv:2306.01708, algorithm 1.

    >>> changes = torch.tensor([[3.0, 1.0], [-1.0, 2.0]])
    >>> disjoint_mean(changes, torch.tensor([0.5, 0.5])).tolist()  # 3 alone, then (1 + 2) / 2
    [3.0, 1.5]
    """
    by_model = weights.reshape(-1, *(1,) * (changes.dim() - 1))
    elected = (by_model * changes).sum(0).sign()
    agreeing = by_model * ((changes.sign() == elected) & (elected != 0))
    return (agreeing * changes).sum(0) / agreeing.sum(0).where(elected != 0, 1)
