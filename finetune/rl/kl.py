"""KL(policy ‖ reference): estimates from samples, the KL coefficient of PPO, the limit of KL stops.

With tokens drawn from the policy and ``d = log π(t) - log π_ref(t)`` (Schulman, "Approximating KL
Divergence", 2020):

========  ===================  ==========================================================
estimate  value                when
========  ===================  ==========================================================
k1        d                    unbiased, and never far off at large KL; the one to put into a
                               reward, where it gives the true gradient of the KL, and to stop
                               on; a single sample can be negative
k2        d² / 2               biased (second order), never negative; as a token loss it
                               gives the gradient of each token's own KL
k3        e^-d - 1 + d         unbiased and never negative, the steadier one while the
                               policies are close; one token that is far likelier under the
                               reference outweighs all others, so no stop is decided by it
========  ===================  ==========================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AdaptiveKL", "FixedKL", "KLController", "kl_k1", "kl_k2", "kl_k3"]


def kl_k1(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """``log π - log π_ref``, in nats; any shape, element by element."""
    return logps - ref_logps


def kl_k2(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Half the squared log-ratio; biased, but close where the two policies are."""
    return (logps - ref_logps).square() / 2


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """``π_ref/π - 1 - log(π_ref/π)``: never negative, expectation KL(π ‖ π_ref) under π."""
    back = ref_logps - logps
    return back.expm1() - back


class KLController(Protocol):
    """Sets the KL coefficient of the next rollout from the KL of the last one."""

    def __call__(self, coef: float, kl: float, samples: int) -> float:
        """The new coefficient, from the old one, the mean KL a completion and its sample count."""


@dataclass(frozen=True)
class FixedKL:
    """The coefficient stays as it is."""

    def __call__(self, coef: float, kl: float, samples: int) -> float:
        """``coef``."""
        return coef


@dataclass(frozen=True)
class AdaptiveKL:
    """Steers the mean KL a completion to ``target`` nats; Ziegler et al. 2019, arXiv:1909.08593.

    ``coef *= 1 + clip(kl / target - 1, ±0.2) * min(samples / horizon, 1)``. ``horizon`` is in
    completions: with the paper's 10,000 a run of some hundred completions hardly moves the
    coefficient, so a short run needs a short horizon, and the hard stop beside it. The bound of 1
    is not in the paper: a rollout longer than ``horizon`` changes the coefficient by a fifth at
    most, so that it stays positive.

    >>> AdaptiveKL(target=3, horizon=1000)(0.05, kl=20, samples=100)  # error clipped at 0.2
    0.051000000000000004
    """

    target: float
    horizon: float = 10_000

    def __call__(self, coef: float, kl: float, samples: int) -> float:
        """The coefficient for the next rollout."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        return coef * (1 + error * min(samples / self.horizon, 1))
