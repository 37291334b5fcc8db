"""The loss of an update: policy, critic and KL, of some rows of a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from siftune.finetune.core.masked import masked_sum
from siftune.finetune.policy_losses.types import PolicyBatch, PolicyLoss
from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.kl import kl_k1, kl_k3
from siftune.finetune.rl.model import ActorCritic
from siftune.finetune.rl.parts import KL, Divisor
from siftune.finetune.rl.rollout import Rollout
from siftune.finetune.rl.settings import Settings

__all__ = ["Update", "update"]

_VF_COEF: Final = 0.1


@dataclass(frozen=True)
class Update:
    """Sums over the ``tokens`` tokens that are learned from, of some rows of a rollout.

    ``loss`` carries the gradient, and is still to be divided by the divisor's total. ``moved`` is
    the sum of ``log π_old - log π``: over whole completions, an estimate (k1) of how far the policy
    is from the one before the rollout's updates. Where something else has sampled the tokens, the
    terms of ``loss`` and ``moved`` are weighed by the rollout's importance weights. ``sums`` are to
    be reported as means a token; ``ratio_deviation`` is ``|π/π_old - 1|``.
    """

    loss: Tensor
    moved: float
    sums: Mapping[str, Tensor]
    tokens: int


def update(
    model: ActorCritic,
    rollout: Rollout,
    rows: Tensor,
    policy_loss: PolicyLoss,
    divisor: Divisor,
    settings: Settings,
    device: Any,
) -> Update:
    """The loss of ``rows`` of ``rollout`` under ``model``, and statistics of it."""
    tokens = rollout.tokens.take(rows).to(device)
    mask, width = tokens.mask, tokens.mask.shape[1]
    learned, old, advantages, reference = (
        part[rows, :width].to(device)
        for part in (rollout.learned, rollout.old.logps, rollout.advantages, rollout.ref_logps)
    )
    new = model(tokens, settings.temperature)
    batch = PolicyBatch(new.logps, old, advantages, learned)
    each = {"loss/policy": policy_loss(batch)}
    if new.values is not None:
        assert rollout.old.values is not None
        assert rollout.returns is not None
        before, returns = (
            part[rows, :width].to(device) for part in (rollout.old.values, rollout.returns)
        )
        each["loss/value"] = ppo_losses.value_loss(new.values, before, returns, settings.value_clip)
    if settings.kl_is_loss and rollout.kl_coef:
        each["loss/kl"] = KL[settings.estimator](new.logps, reference)
    weighed = 1.0 if rollout.weights is None else rollout.weights[rows, :width].to(device)
    each = {name: losses * weighed for name, losses in each.items()}
    vf_coef = _VF_COEF if settings.vf_coef is None else settings.vf_coef
    weights = {"loss/value": vf_coef, "loss/kl": rollout.kl_coef}
    terms = (
        weights.get(name, 1.0) * masked_sum(divisor.of_answers(losses, rows), learned)
        for name, losses in each.items()
    )
    loss = sum(terms, start=torch.zeros((), device=new.logps.device))
    with torch.no_grad():
        each |= _watched(policy_loss, batch)
        sums = {name: masked_sum(values, learned) for name, values in each.items()}
        moved = masked_sum((kl_k1(old, new.logps) * weighed).double(), mask)
    return Update(loss, float(moved), sums, int(learned.sum()))


def _watched(policy_loss: PolicyLoss, batch: PolicyBatch) -> dict[str, Tensor]:
    """Statistics of each token."""
    found = {
        "policy/approx_kl": kl_k3(batch.old_logps, batch.logps),
        "policy/ratio_deviation": (torch.exp(batch.logps - batch.old_logps) - 1).abs(),
    }
    clipped = getattr(policy_loss, "clipped", None)
    if clipped is not None:
        found["policy/clipfrac"] = clipped(batch).float()
    return found
