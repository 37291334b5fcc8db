"""PPO losses, token rewards, whitening and masked means, as pure functions of tensors.

Shapes: B completions, T tokens of the longest. ``mask`` (B, T) is true where the policy chose the
token (its end token included), false on padding and on tokens that a tool wrote. A loss is returned
one value a token: the caller sums the masked ones and divides by the count over the whole
mini-batch, so that splitting a batch does not change the number.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "explained_variance",
    "last_true",
    "masked_mean",
    "masked_sum",
    "policy_loss",
    "token_rewards",
    "value_loss",
    "whiten",
]


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


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """``-kl_coef · kl_t``, plus the score at the last token that the policy chose; (B, T).

    ``scores`` (B,) is the reward of each whole completion, ``kl`` (B, T) the k1 estimate a token.
    The last chosen token is the end token, or the cut where there is none: never the padding
    (InstructGPT, arXiv:2203.02155, equation 2).
    """
    rewards = (-kl_coef * kl).masked_fill(~mask, 0)
    last = last_true(mask).unsqueeze(1)
    return rewards.scatter_add(1, last, scores.to(rewards).unsqueeze(1))


def policy_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    cliprange: float = 0.2,
    dual_clip: float | None = None,
) -> Tensor:
    """``max(-A ρ, -A clip(ρ, 1 ± cliprange))`` with ``ρ = π/π_old``, one value a token.

    Schulman et al. 2017, arXiv:1707.06347, equation 7. ``dual_clip`` (above 1, 3 in the paper) also
    bounds what one bad token can cost once ρ is large: where A < 0 the loss is at most
    ``-A · dual_clip`` (Ye et al. 2020, arXiv:1912.09729, equation 5).

    >>> ratio, advantage = torch.tensor([1.5, 5.0]), torch.tensor([1.0, -1.0])
    >>> policy_loss(ratio.log(), torch.zeros(2), advantage).tolist()
    [-1.2000000476837158, 5.0]
    >>> policy_loss(ratio.log(), torch.zeros(2), advantage, dual_clip=3).tolist()
    [-1.2000000476837158, 3.0]
    """
    ratio = torch.exp(logps - old_logps)
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange)
    loss = torch.maximum(-advantages * ratio, -advantages * clipped)
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -advantages * dual_clip), loss)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, cliprange: float | None = 0.2
) -> Tensor:
    """``½ max((V - R)², (V_clip - R)²)``, V_clip within ``cliprange`` of the old value; a token.

    ``cliprange=None`` is the plain squared error. Stiennon et al. 2020 (arXiv:2009.01325) code.
    """
    error = (values - returns).square()
    if cliprange is not None:
        near = old_values + (values - old_values).clamp(-cliprange, cliprange)
        error = torch.maximum(error, (near - returns).square())
    return error / 2


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float | None:
    """``1 - Var(R - V) / Var(R)`` over the tokens of ``mask``: 1 is a perfect critic, 0 a constant.

    None where the returns do not vary.
    """
    truth, missed = returns[mask], (returns - values)[mask]
    if truth.numel() < 2 or truth.var() == 0:
        return None
    return float(1 - missed.var() / truth.var())
