"""Sums, means, whitening and group means of tensors of which those under a mask count."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Groups", "last_true", "masked_mean", "masked_sum", "whiten"]


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the elements where ``mask``; elements elsewhere, even NaN, do not matter."""
    return values.masked_fill(~mask, 0).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the elements where ``mask``; NaN if there are none."""
    return masked_sum(values, mask) / mask.sum()


def whiten(values: Tensor, mask: Tensor, shift: bool = True) -> Tensor:
    """Zero mean (if ``shift``) and unit variance over all tokens of ``mask``; zero elsewhere.

    The variance is the unbiased one (divided by n - 1) about the mean; with fewer than two tokens
    there is none and the values are only shifted.
    """
    mean = masked_mean(values, mask)
    count = int(mask.sum())
    scale = values.new_tensor(1.0)
    if count > 1:
        variance = masked_sum((values - mean).square(), mask) / (count - 1)
        scale = torch.rsqrt(variance + 1e-8)
    centred = (values - mean) * scale if shift else values * scale
    return centred.masked_fill(~mask, 0)


def last_true(mask: Tensor) -> Tensor:
    """Index (B,) of the last true position of each row of ``mask`` (B, T), which gets the score."""
    width = mask.shape[1]
    return width - 1 - mask.flip(1).int().argmax(1)


class Groups:
    """Statistics of the groups of answers that have one number in ``groups`` (B,) int64.

    Sums are taken in float64: the mean of equal float32 values is that value to the last bit, so
    that answers of equal score have an advantage of 0 and not of a rounding error.

    >>> groups = Groups(torch.tensor([7, 3, 7]))
    >>> groups.mean(torch.tensor([1.0, 5.0, 2.0])).tolist()
    [1.5, 5.0, 1.5]
    >>> groups.sizes.tolist()
    [2.0, 1.0, 2.0]
    """

    def __init__(self, groups: Tensor) -> None:
        """``groups``: the number of the group of each answer, any numbers."""
        _, self.index = torch.unique(groups, return_inverse=True)

    def sum(self, values: Tensor) -> Tensor:
        """Of each answer the sum of ``values`` (B,) over its group, float64."""
        wide = values.double()
        total = wide.new_zeros(len(wide)).index_add(0, self.index, wide)
        return total[self.index]

    @property
    def sizes(self) -> Tensor:
        """Of each answer the number of answers of its group, float64."""
        return self.sum(torch.ones(len(self.index), device=self.index.device))

    def mean(self, values: Tensor) -> Tensor:
        """Of each answer the mean of ``values`` (B,) over its group, float64."""
        return self.sum(values) / self.sizes

    def deviation(self, values: Tensor) -> Tensor:
        """Of each answer the standard deviation over its group, divided by n - 1; 0 of one answer.

        >>> Groups(torch.tensor([0, 0, 0])).deviation(torch.tensor([1.0, 3.0, 5.0])).tolist()
        [2.0, 2.0, 2.0]
        """
        squares = self.sum((values.double() - self.mean(values)).square())
        return (squares / (self.sizes - 1).clamp(min=1)).sqrt()

    def all_equal(self, values: Tensor) -> Tensor:
        """Of each answer whether all of its group have the same value, bool.

        >>> Groups(torch.tensor([0, 1, 0])).all_equal(torch.tensor([1.0, 2.0, 3.0])).tolist()
        [False, True, False]
        """
        ends = [
            torch.zeros_like(values).scatter_reduce(0, self.index, values, how, include_self=False)
            for how in ("amin", "amax")
        ]
        return (ends[0] == ends[1])[self.index]
