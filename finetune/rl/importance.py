"""Truncated importance weights of tokens that something else than the policy has sampled."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["importance_metrics", "truncated_weights"]

_LARGEST: Final = 80.0  # nats; beyond it a float32 overflows


def truncated_weights(old_logps: Tensor, sampler_logps: Tensor, cap: float) -> Tensor:
    """``min(π_old / π_sampler, cap)`` of each token, by which its policy loss is multiplied.

    A server (vLLM, SGLang) has other kernels, another precision or older weights than the trainer,
    so its samples are not the policy's: the gradient of E_{π_sampler}[…] is off policy. Yao et al.
    2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training", weigh each token
    by the ratio of the trainer's old policy to the sampler, truncated from above so that rare
    tokens do not outweigh all others; verl has the same, with a cap of 2 in its documentation.
    Given what came before it, a token's weighted gradient has the expectation of the on-policy one
    where nothing is cut; that the tokens before it are the sampler's too is not corrected. Both
    arguments are constants: no gradient flows through a weight.

    >>> old, sampler = torch.tensor([-1.0, -1.0, -2.0]), torch.tensor([-1.0, -3.0, -1.0])
    >>> [round(one, 4) for one in truncated_weights(old, sampler, cap=2.0).tolist()]
    [1.0, 2.0, 0.3679]
    """
    return torch.exp((old_logps - sampler_logps).clamp(max=_LARGEST)).clamp(max=cap)


def importance_metrics(
    old_logps: Tensor, sampler_logps: Tensor, mask: Tensor, cap: float
) -> dict[str, float]:
    """Mean and largest ``π_old / π_sampler`` before truncation, the share cut, and the mean weight.

    ``kl`` is the mean of ``log π_sampler - log π_old``, an estimate of the KL of the sampler to the
    policy in nats a token.
    """
    log_ratio = (old_logps - sampler_logps)[mask].double()
    ratio = log_ratio.clamp(max=_LARGEST).exp()
    return {
        "mean": float(ratio.mean()),
        "max": float(ratio.max()),
        "cut": float((ratio > cap).double().mean()),
        "weight": float(ratio.clamp(max=cap).mean()),
        "kl": float(-log_ratio.mean()),
    }
