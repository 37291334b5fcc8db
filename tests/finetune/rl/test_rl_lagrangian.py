"""Lagrangian PPO: the limit on the mean cost is kept, and a weight of 0 is PPO."""

from __future__ import annotations

import math

import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.finetune.rl.lagrangian import CostLimit
from tests.finetune.rl.enumerable import World, language_model, relative
from tests.finetune.rl.loops import exact_samples, first_rollout, gradients, loop_of
from tests.finetune.rl.plain import Method, update_of
from tests.finetune.rl.tuples import softmax

REFERENCE, REWARDS, COSTS = [0.4, 0.3, 0.2, 0.1], [0.2, -0.3, 1.0, 0.6], [0.0, 0.1, 1.0, 0.4]
BETA, LIMIT = 0.5, 0.25
TWO = {"score": {"reward": "length"}, "harm": {"reward": "length", "weight": 0}}


def policy_of(multiplier):
    """The closed form: ``π_ref · exp((r - λ c) / ((1 + λ) β))``."""
    worth = [(r - multiplier * c) / (1 + multiplier) for r, c in zip(REWARDS, COSTS, strict=True)]
    return softmax([math.log(q) + w / BETA for q, w in zip(REFERENCE, worth, strict=True)])


def cost_of(policy):
    return sum(p * c for p, c in zip(policy, COSTS, strict=True))


def closed_form(limit):
    """The multiplier at which the mean cost is the limit, by bisection."""
    low, high = 0.0, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if cost_of(policy_of(middle)) > limit else (low, middle)
    return middle


def test_the_multiplier_and_the_policy_come_to_rest_at_the_closed_form():
    """Exact updates of the policy (natural gradient of E[score] - β KL) beside those of λ."""
    limit = CostLimit(LIMIT, rate=0.5)
    logits, multiplier = [math.log(q) for q in REFERENCE], 1.0
    rewards, costs = (torch.tensor(each, dtype=torch.float64) for each in (REWARDS, COSTS))
    for _ in range(400):
        worth = limit.score(rewards, costs, multiplier).tolist()
        policy = softmax(logits)
        multiplier = limit(multiplier, cost_of(policy))
        logs = [math.log(p / q) for p, q in zip(policy, REFERENCE, strict=True)]
        logits = [z + w - BETA * d for z, w, d in zip(logits, worth, logs, strict=True)]
    wanted = closed_form(LIMIT)
    assert multiplier == pytest.approx(wanted, rel=1e-6)
    assert policy == pytest.approx(policy_of(wanted), rel=1e-6)
    assert cost_of(policy) == pytest.approx(LIMIT, abs=1e-8)
    assert cost_of(policy_of(0)) > LIMIT + 0.1  # what the reward alone would do


def test_the_multiplier_rises_above_the_limit_and_falls_below_it():
    limit = CostLimit(0.2, rate=2.0)
    assert limit(1.5, 0.3) == pytest.approx(1.5 * math.exp(2.0 * 1.5 * 0.1))
    assert limit(1.5, 0.1) == pytest.approx(1.5 * math.exp(-2.0 * 1.5 * 0.1))
    assert limit(1.5, 0.2) == 1.5
    assert limit(1.0, 99.0) == pytest.approx(math.e)  # a step is at most 1
    assert limit(9e5, 1.0) == 1e6
    assert limit(0.0, 99.0) == 0.0


def run_of(world, tmp_path, monkeypatch, costs=None, **options):
    """The first rollout of PPO on all atoms; with costs one of two rewards is the cost."""
    given = {} if costs is None else {"reward": TWO}
    drawn = world.atoms()
    loop = loop_of("ppo", world, drawn, tmp_path, monkeypatch, costs=costs, **given, **options)
    return first_rollout(loop)


def test_the_update_is_that_of_the_reward_less_its_cost(tmp_path, monkeypatch):
    world = World(language_model(0, uniform=True), language_model(1))
    costs = [0.1 * at for at in range(13)]
    options = {"cost": "harm", "cost_limit": 0.2, "cost_multiplier": 1.5}
    loop = run_of(world, tmp_path, monkeypatch, costs, **options)
    found = gradients(loop)
    plain = World(world.policy, world.reference)
    plain.scores = [(r - 1.5 * c) / 2.5 for r, c in zip(world.scores, costs, strict=True)]
    method = Method(1, "gae", "ppo_clip", "token_mean", "reward", 0.05, whiten=True)
    critic = (loop.ac.critic, loop.ac.value_head.weight.detach())
    assert relative(found, update_of(method, plain, world.atoms(), critic=critic)[0]) < 1e-5
    told = loop.rollout.metrics()
    mean = sum(costs[at] for at in world.atoms()) / len(world.atoms())
    assert told["objective/cost"] == told["reward/harm"] == pytest.approx(mean)
    assert told["objective/cost_multiplier"] == 1.5
    assert told["objective/score"] == pytest.approx(
        sum(world.scores[at] for at in world.atoms()) / len(world.atoms())
    )


def test_a_multiplier_of_0_is_ppo_to_the_last_bit(tmp_path, monkeypatch):
    world = World(language_model(0), language_model(1))
    options = {"cost": "harm", "cost_limit": 0.2, "cost_multiplier": 0.0}
    found = [
        gradients(run_of(world, tmp_path, monkeypatch, costs, **more))
        for costs, more in ((None, {}), ([0.1 * at for at in range(13)], options))
    ]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_multiplier_moves_after_each_rollout_and_is_kept(tmp_path, monkeypatch):
    world = World(language_model(0), language_model(1))
    costs = [0.1 * at for at in range(13)]
    options = {"cost": "harm", "cost_limit": 0.2, "cost_rate": 0.3, "reward": TWO, "rollouts": 2}
    drawn = list(range(13))
    loop = loop_of("ppo", world, drawn, tmp_path, monkeypatch, costs=costs, **options)
    loop.train()
    told = [line for line in loop.state.log_history if "objective/cost" in line]
    assert [line["objective/cost"] for line in told] == pytest.approx([0.6] * 3)
    weights, wanted = [line["objective/cost_multiplier"] for line in told], [1.0]
    for _ in range(2):
        wanted.append(wanted[-1] * math.exp(0.3 * wanted[-1] * 0.4))
    assert weights == pytest.approx(wanted)
    loop.cost_multiplier = 0.0
    loop._load_from_checkpoint(str(tmp_path / "checkpoint-2"))
    assert loop.cost_multiplier == pytest.approx(wanted[-1])


@pytest.mark.slow
def test_a_run_comes_to_rest_at_the_closed_form(tmp_path, monkeypatch):
    """The whole loop, by exact samples: mean cost, multiplier and law are those of the optimum."""
    world = World(language_model(0), language_model(1))
    costs = [float(score > 0.3) for score in world.scores]
    options = {"cost": "harm", "cost_limit": 0.2, "cost_rate": 0.5, "kl_coef": 0.5, "lam": 1.0}
    options |= {"whiten": False, "rollouts": 300, "lr": 0.004, "critic_lr": 0.01}
    options |= {"reward": TWO}
    loop = loop_of("ppo", world, [0] * 192, tmp_path, monkeypatch, costs=costs, **options)
    exact_samples(world, monkeypatch)
    loop.train()
    with torch.no_grad():
        law, ref = world.law(world.policy), world.law(world.reference)
    weight = loop.cost_multiplier
    worth = torch.tensor(world.scores) - weight * torch.tensor(costs)
    target = (ref + worth / (1 + weight) / 0.5).log_softmax(0)
    assert float((law.exp() * torch.tensor(costs)).sum()) == pytest.approx(0.2, abs=0.01)
    assert float((law.exp() * (law - target)).sum()) < 1e-3
    free = world.optimum(0.5).exp()
    assert float((free * torch.tensor(costs)).sum()) > 0.3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cost_limit": 0.2}, "cost_limit: needs cost"),
        ({"cost": "harm"}, "cost: needs cost_limit"),
        ({"cost": "harm", "cost_limit": 1.0}, "cost: expected the name of one of several rewards"),
        (
            {
                "cost": "harm",
                "cost_limit": 1.0,
                "reward": {"length": 1, "harm": {"reward": "length"}},
            },
            "reward has length with weight 1, harm with weight 1",
        ),
    ],
)
def test_costs_without_what_they_need_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        build("finetune.trainers", "ppo", {"model": "none", "reward": "length", **options})
