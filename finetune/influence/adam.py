"""Adam's step on one vector of weights, and the step that a single gradient would cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["AdamState"]

_BETAS: Final = (0.9, 0.999)
_EPSILON: Final = 1e-8


@dataclass(frozen=True)
class AdamState:
    """Weights, both moments, and the number of steps that were made; arXiv:1412.6980.

    The moments are corrected for their start at zero, and ε is added outside the root, as in the
    paper and in torch. LESS's code has ``m / sqrt(v + ε)`` without correction: with ε = 1e-8 inside
    the root a direction is damped as by 1e-4 outside it, and after few steps v is far too small.
    """

    weights: Tensor
    first: Tensor
    second: Tensor
    steps: int = 0

    @classmethod
    def start(cls, weights: Tensor) -> AdamState:
        """Before the first step."""
        return cls(weights, torch.zeros_like(weights), torch.zeros_like(weights))

    def direction(self, gradient: Tensor) -> Tensor:
        """``m̂ / (√v̂ + ε)`` after one more gradient ``(…, D)``: the next step by it, without lr."""
        first, second = self._moments(gradient)
        first = first / (1 - _BETAS[0] ** (self.steps + 1))
        second = second / (1 - _BETAS[1] ** (self.steps + 1))
        return first / (second.sqrt() + _EPSILON)

    def step(self, gradient: Tensor, lr: float) -> AdamState:
        """The state after a step with ``gradient`` ``(D,)``."""
        weights = self.weights - lr * self.direction(gradient)
        return AdamState(weights, *self._moments(gradient), self.steps + 1)

    def _moments(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        first = _BETAS[0] * self.first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * self.second + (1 - _BETAS[1]) * gradient.square()
        return first, second
