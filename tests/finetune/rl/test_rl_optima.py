"""Where group advantages land on a bandit: the exact expected update of our parts, and its zero.

The update is summed over all groups of three answers with their probabilities. It is compared with
`tuples`, which has it in plain loops; then it has to vanish at the optimum that the docstrings
state, and to raise the best answer where there is no KL.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.advantages.types import Rewarded
from siftune.finetune.policy_losses.types import PolicyBatch
from siftune.finetune.rl.kl import kl_k1, kl_k2, kl_k3
from tests.finetune.rl import slow
from tests.finetune.rl.tuples import expected_update, softmax, zero_of

REFERENCE, SCORES, BETA, SIZE = [0.5, 0.3, 0.2], [0.3, -0.5, 1.0], 0.8, 3
RELATIVE = ("grpo", "rloo", "dr_grpo", "opo")
OBJECTIVES = ("ppo_clip", "clip_higher", "gspo", "cispo", "reinforce")
ESTIMATES = {"k2": kl_k2, "k3": kl_k3}


def update_of_our_parts(name, policy, kl, beta=BETA, objective="ppo_clip"):
    """By logit, as `tuples.expected_update`; of a group, the mean over its answers."""
    logits = torch.tensor(policy, dtype=torch.float64).log().requires_grad_()
    whole, ref = logits.log_softmax(0), torch.tensor(REFERENCE, dtype=torch.float64).log()
    groups = list(itertools.product(range(len(policy)), repeat=SIZE))
    arms = torch.tensor(groups).flatten()
    chance = whole.detach()[torch.tensor(groups)].sum(1).exp().repeat_interleave(SIZE)
    logps = whole[arms].unsqueeze(1)
    scores = torch.tensor(SCORES, dtype=torch.float64)[arms]
    price = beta * kl_k1(logps.detach(), ref[arms].unsqueeze(1)) if kl == "reward" else 0.0
    mask, number = torch.ones_like(logps, dtype=torch.bool), torch.arange(len(groups))
    made = Rewarded(scores, scores.unsqueeze(1) - price, mask, number.repeat_interleave(SIZE))
    advantages = registry.build("finetune.advantages", name, {})(made)
    batch = PolicyBatch(logps, logps.detach(), advantages, mask)
    loss = registry.build("finetune.policy_losses", objective, {})(batch)
    if kl in ESTIMATES:
        loss = loss + beta * ESTIMATES[kl](logps, ref[arms].unsqueeze(1))
    (slope,) = torch.autograd.grad((chance * loss.squeeze(1)).sum() / SIZE, logits)
    return [-one for one in slope.tolist()]


def boltzmann(beta):
    return softmax([math.log(q) + r / beta for q, r in zip(REFERENCE, SCORES, strict=True)])


def distance(policy, other):
    return sum(p * math.log(p / q) for p, q in zip(policy, other, strict=True))


@pytest.mark.parametrize("kl", ["reward", "k2", "k3"])
@pytest.mark.parametrize("name", RELATIVE)
def test_the_expected_update_is_that_of_the_plain_loops(name, kl):
    policy = [0.2, 0.7, 0.1]
    wanted = expected_update(policy, REFERENCE, SCORES, SIZE, slow.ADVANTAGES[name], BETA, kl)
    for objective in OBJECTIVES:
        found = update_of_our_parts(name, policy, kl, objective=objective)
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["rloo", "dr_grpo", "opo"])
def test_with_the_kl_in_the_reward_the_optimum_is_that_of_the_penalised_reward(name):
    assert update_of_our_parts(name, boltzmann(BETA), "reward") == pytest.approx([0] * 3, abs=1e-13)
    assert max(map(abs, update_of_our_parts(name, boltzmann(0.7), "reward"))) > 1e-3


@pytest.mark.parametrize(("name", "share"), [("rloo", 1), ("dr_grpo", 2 / 3), ("opo", 2 / 3)])
def test_with_the_kl_itself_in_the_loss_a_mean_over_all_shortens_the_reward(name, share):
    """k2 of a one-token answer has the gradient of the KL; (G - 1) / G is left of the advantage."""
    found = update_of_our_parts(name, boltzmann(BETA / share), "k2")
    assert found == pytest.approx([0] * 3, abs=1e-13)


@pytest.mark.parametrize("name", RELATIVE)
def test_with_k3_in_the_loss_it_rests_where_the_reward_balances_the_forward_kl(name):
    """``E[A ∇log π] = β ∇KL(π_ref ‖ π)``: without a deviation ``π_a = π_ref,a / (x - y r_a)``."""
    zero = zero_of(REFERENCE, SCORES, SIZE, slow.ADVANTAGES[name], BETA, "k3")
    assert update_of_our_parts(name, zero, "k3") == pytest.approx([0] * 3, abs=1e-12)
    assert distance(zero, boltzmann(BETA)) > 0.01
    if name == "rloo":
        mean = sum(p * r for p, r in zip(zero, SCORES, strict=True))
        closed = [BETA * q / (BETA + mean - r) for q, r in zip(REFERENCE, SCORES, strict=True)]
        assert zero == pytest.approx(closed, abs=1e-12)


def test_division_by_the_deviation_lands_elsewhere_than_the_optimum():
    zero = zero_of(REFERENCE, SCORES, SIZE, slow.grpo, BETA, "k2")
    assert update_of_our_parts("grpo", zero, "k2") == pytest.approx([0] * 3, abs=1e-12)
    for share in (1, 2 / 3):
        assert distance(zero, boltzmann(BETA / share)) > 0.01


@pytest.mark.parametrize("name", RELATIVE)
def test_without_a_kl_the_best_answer_rises_and_the_worst_falls_from_anywhere(name):
    for policy in ([0.2, 0.7, 0.1], [0.98, 0.01, 0.01], [0.01, 0.01, 0.98]):
        _, worst, best = update_of_our_parts(name, policy, "none")
        assert best > 0 > worst
