"""Token rewards and the critic's loss, as pure functions of tensors.

Shapes: B completions, T tokens of the longest. ``mask`` (B, T) is true where the policy chose the
token (its end token included), false on padding and on tokens that a tool wrote. A loss is returned
one value a token: the caller sums the masked ones and divides by the count over the whole
mini-batch, so that splitting a batch does not change the number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from siftune.finetune.core.masked import last_true

__all__ = ["explained_variance", "overlong_punishment", "token_rewards", "value_loss"]


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """``-kl_coef · kl_t``, plus the score at the last token that the policy chose; (B, T).

    ``scores`` (B,) is the reward of each whole completion, ``kl`` (B, T) the k1 estimate a token.
    The last chosen token is the end token, or the cut where there is none: never the padding
    (InstructGPT, arXiv:2203.02155, equation 2).
    """
    rewards = (-kl_coef * kl).masked_fill(~mask, 0)
    last = last_true(mask).unsqueeze(1)
    return rewards.scatter_add(1, last, scores.to(rewards).unsqueeze(1))


def overlong_punishment(lengths: Tensor, max_new_tokens: int, share: float) -> Tensor:
    """How much of 1 is subtracted from the score of answers of ``lengths`` (B,) tokens.

    DAPO, Yu et al. 2025, arXiv:2503.14476, equation 13: with ``L_cache = share · L_max`` it is 0 up
    to ``L_max - L_cache`` tokens, rises linearly, and is 1 at ``L_max`` = ``max_new_tokens``. The
    paper's ``share`` is 0.2 (4,096 of 20,480). The end token counts.

    >>> overlong_punishment(torch.tensor([10, 80, 90, 100]), 100, 0.2).tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    if share == 0:
        return torch.zeros(len(lengths))
    cache = share * max_new_tokens
    return ((lengths - (max_new_tokens - cache)) / cache).clamp(0, 1)


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
