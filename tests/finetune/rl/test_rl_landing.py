"""Each method's loop, run to its end on an enumerable model, lands on its own optimum.

A rollout has every group as often as it is likely, rounded: nearly the exact expectation.
"""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.finetune.rl.enumerable import World, language_model
from tests.finetune.rl.loops import exact_samples, loop_of
from tests.finetune.rl.plain import Method, update_of

BETA = 0.5
TO_BOLTZMANN = {  # with the KL in the reward (k1) and nothing that rescales tokens
    "ppo": {"lam": 1.0, "whiten": False, "critic_lr": 0.01},
    "rloo": {},
    "dr_grpo": {},
    "opo": {},
    "reinforce_pp": {"minibatches": 1},
}
TO_THE_BEST = ("dapo", "dr_grpo", "opo")


def run(name, world, tmp_path, monkeypatch, answers=192, **options):
    """Train; the policy's law then, as log-probs."""
    size = 1 if name in ("ppo", "reinforce_pp") else 2
    shared = {"rollouts": 220, "lr": 0.004, "schedule": "constant", "max_grad_norm": 10.0}
    shared |= {"minibatches": 1}
    given = shared | options
    loop = loop_of(name, world, [0] * answers, tmp_path, monkeypatch, size, **given)
    exact_samples(world, monkeypatch, size)
    loop.train()
    with torch.no_grad():
        return world.law(world.policy)


def kl(law, target):
    return float((law.exp() * (law - target)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", TO_BOLTZMANN)
def test_the_penalised_reward_is_maximised(name, tmp_path, monkeypatch):
    world = World(language_model(0), language_model(1))
    with torch.no_grad():
        assert kl(world.law(world.policy), world.optimum(BETA)) > 0.1
    options = {"kl_coef": BETA, **TO_BOLTZMANN[name]}
    law = run(name, world, tmp_path, monkeypatch, **options)
    assert kl(law, world.optimum(BETA)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", TO_THE_BEST)
def test_without_a_kl_the_best_answer_is_left(name, tmp_path, monkeypatch):
    """From a policy that says each answer often enough to be sampled: what is not cannot win."""
    world = World(language_model(0, uniform=True), language_model(1))
    law = run(name, world, tmp_path, monkeypatch, rollouts=80, lr=0.01)
    assert int(law.argmax()) == max(range(13), key=world.scores.__getitem__)
    assert float(law.max().exp()) > 0.9


SIGNS = {"gspo": {}, "cispo": {}, "dapo": {"overlong": 0.0}}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNS)
def test_pairs_over_their_deviation_land_where_more_comparisons_are_won(
    name, tmp_path, monkeypatch
):
    """The advantage of a pair is ±1/√2, whatever the gap of its scores: ranks alone count.

    The best answer begins with 2, the second with 3. Answers with 3 win more comparisons, so 2 is
    said less and less, until no pair has the best answer. By their scores those with 2 are better,
    which the gap without its deviation, or larger groups, make use of.
    """
    first = World(language_model(0, uniform=True), language_model(1))
    best, second = sorted(range(13), key=first.scores.__getitem__, reverse=True)[:2]
    for kept, winner in (("grpo", second), ("dr_grpo", best)):
        world = World(language_model(0, uniform=True), language_model(1))
        options = {"advantage": kept, **SIGNS[name], "rollouts": 40, "lr": 0.01}
        law = run(name, world, tmp_path / kept, monkeypatch, **options)
        assert float(law[winner].exp()) > 0.9, kept


@pytest.mark.slow
def test_grpo_rests_at_the_zero_of_its_own_expected_update(tmp_path, monkeypatch):
    """Not at the optimum of the penalised reward: deviation, length and k3 each move it."""
    world = World(language_model(0), language_model(1))
    before = _expected(world)
    options = {"kl_coef": BETA, "rollouts": 150, "lr": 0.006, "schedule": "linear"}
    law = run("grpo", world, tmp_path, monkeypatch, answers=1024, **options)
    assert _expected(world) < 0.01 * before
    assert kl(law, world.optimum(BETA)) > 0.01


def _expected(world):
    """The norm of GRPO's expected gradient, each group of two answers by its probability."""
    method = Method(2, "grpo", "ppo_clip", "answer_mean", "loss", BETA, "k3")
    with torch.no_grad():
        chance = world.law(world.policy).exp().tolist()
    total = None
    for one, other in itertools.combinations_with_replacement(range(13), 2):
        share = chance[one] * chance[other] * (1 if one == other else 2)
        found, _ = update_of(method, world, [one, other])
        flat = share * torch.cat([part.flatten() for part in found])
        total = flat if total is None else total + flat
    return float(total.norm())
