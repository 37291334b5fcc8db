"""What can be read off the distribution of a token, beside the log-prob of the one that came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import torch

__all__ = ["NEED_REFERENCE", "STATISTICS"]

_Measured: TypeAlias = Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor], torch.Tensor]


def _entropy(policy: torch.Tensor, _: torch.Tensor | None, __: torch.Tensor) -> torch.Tensor:
    return -(policy.exp() * policy).sum(-1)


def _log_sum_squares(
    policy: torch.Tensor, _: torch.Tensor | None, __: torch.Tensor
) -> torch.Tensor:
    return torch.logsumexp(2 * policy, -1)


def _kl(policy: torch.Tensor, reference: torch.Tensor | None, _: torch.Tensor) -> torch.Tensor:
    return (policy.exp() * (policy - _given(reference))).sum(-1)


def _ref_kl(policy: torch.Tensor, reference: torch.Tensor | None, _: torch.Tensor) -> torch.Tensor:
    reference = _given(reference)
    return (reference.exp() * (reference - policy)).sum(-1)


def _top1(policy: torch.Tensor, _: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
    return (policy.argmax(-1) == labels).to(policy.dtype)


STATISTICS: Final[Mapping[str, _Measured]] = {
    "entropy": _entropy,
    "log_sum_squares": _log_sum_squares,
    "top1": _top1,
    "kl": _kl,
    "ref_kl": _ref_kl,
}
"""What is read off a token's whole distribution: log-softmaxes ``(N, V)``, labels ``(N,)`` to (N,).

``entropy``; ``log_sum_squares`` = log Σ p²; ``top1`` = 1 where the label is the likeliest token;
``kl`` = KL(π ‖ π_ref); ``ref_kl`` = KL(π_ref ‖ π). In nats, and with gradients to the policy.
"""

NEED_REFERENCE: Final = ("kl", "ref_kl")


def _given(reference: torch.Tensor | None) -> torch.Tensor:
    if reference is None:
        raise TypeError("a KL needs the reference's hidden states")
    return reference
