"""PPO: train a policy on a reward with a value model, and a KL penalty to its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Positive, Share
from siftune.finetune.rl.settings import KLPlace
from siftune.finetune.training.on_policy import OnPolicy

__all__ = ["PPO"]


@dataclass(frozen=True, kw_only=True)
class PPO(OnPolicy):
    """Proximal policy optimisation; arXiv:1707.06347, for language models arXiv:2203.02155.

    Of the training rows only the prompts are used, and known answers by rewards that ask for them;
    rows that have no prompt are refused, or left out with ``on_bad: drop``.

    The policy loss is clipped at ``1 ± cliprange`` (and at ``dual_clip`` for tokens with a negative
    advantage), the value loss at ``± value_clip``. Advantages are GAE's; their reward is the score
    at the end token, less ``missing_eos_penalty`` for a completion that was cut, less ``kl_coef``
    times the log-ratio to the reference at each token. With ``ptx_rows`` and ``ptx_coef`` it is
    InstructGPT's PPO-ptx, which learns supervised rows beside the reward (γ 27.8 there).

    With ``lam`` 1 the expected gradient at the start of a rollout is that of E[r] - β KL over the
    deviation that whitening divides by; its optimum is π_ref · exp(r / β), normalised. A smaller
    ``lam`` varies less, and errors of the critic move the optimum. ``kl_stop`` bounds the
    KL from the reference at a rollout, and from the old policy within one.
    """

    reads: ClassVar = "rows"

    gamma: Share | None = 1.0
    lam: Share | None = 0.95
    cliprange: Positive | None = 0.2
    value_clip: Positive | None = 0.2
    vf_coef: NonNegative | None = 0.1
    whiten: bool = True
    kl_in: KLPlace | None = "reward"
    critic_lr: Positive | None = 3e-5
