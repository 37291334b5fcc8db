"""What some rows of a rollout say of the policy now: their share of the loss, and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from siftune.finetune.rl import core
from siftune.finetune.rl.kl import kl_k1, kl_k3
from siftune.finetune.rl.rollout import Rollout
from siftune.finetune.rl.settings import Settings

__all__ = ["Update", "update"]


@dataclass(frozen=True)
class Update:
    """Sums over the ``tokens`` tokens that the policy chose in some rows.

    ``loss`` carries the gradient. ``moved`` is the sum of ``log π_old - log π``: over whole
    completions, an estimate (k1) of how far the policy is from the one that wrote them. ``sums``
    are to be reported as means a token; ``ratio_deviation`` is ``|π/π_old - 1|``.
    """

    loss: Tensor
    moved: float
    sums: Mapping[str, Tensor]
    tokens: int


def update(model: Any, rollout: Rollout, rows: Tensor, options: Settings, device: Any) -> Update:
    """Run ``model`` (an `ActorCritic`) on ``rows`` of ``rollout`` and take PPO's losses."""
    tokens = rollout.tokens.take(rows).to(device)
    mask, width = tokens.mask, tokens.mask.shape[1]
    old, old_values, advantages, returns = (
        part[rows, :width].to(device)
        for part in (rollout.old.logps, rollout.old.values, rollout.advantages, rollout.returns)
    )
    new = model(tokens, options.temperature)
    policy = core.policy_loss(new.logps, old, advantages, options.cliprange, options.dual_clip)
    value = core.value_loss(new.values, old_values, returns, options.value_clip)
    with torch.no_grad():
        off = (torch.exp(new.logps - old) - 1).abs()
        each = {
            "loss/policy": policy,
            "loss/value": value,
            "ppo/approx_kl": kl_k3(old, new.logps),
            "ppo/clipfrac": (off > options.cliprange).float(),
            "ppo/ratio_deviation": off,
        }
        sums = {name: core.masked_sum(values, mask) for name, values in each.items()}
        moved = core.masked_sum(kl_k1(old, new.logps).double(), mask)
    loss = core.masked_sum(policy, mask) + options.vf_coef * core.masked_sum(value, mask)
    return Update(loss, float(moved), sums, int(mask.sum()))
