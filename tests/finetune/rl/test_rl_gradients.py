"""The gradient of each method's loop is the exact one, summed over all groups of all answers.

The policy says each of four tokens with a quarter, so a rollout in which every group comes once is
the exact expectation. The gradient is compared with that of the plain loops (`plain`), with the
published numbers of each method, and where a method follows a known objective with its gradient.
"""

from __future__ import annotations

import pytest
import torch

from tests.finetune.rl.enumerable import World, language_model, relative
from tests.finetune.rl.loops import gradients, loop_of
from tests.finetune.rl.plain import Method, update_of

METHODS = {
    "ppo": Method(1, "gae", "ppo_clip", "token_mean", "reward", 0.05, whiten=True, value_clip=0.2),
    "grpo": Method(2, "grpo", "ppo_clip", "answer_mean", "loss", 0.04, kl_estimate="k3"),
    "dapo": Method(2, "grpo", "clip_higher", "token_mean", overlong=0.2, leave_out_flat=True),
    "dr_grpo": Method(2, "dr_grpo", "ppo_clip", "fixed_length"),
    "rloo": Method(2, "rloo", "reinforce", "fixed_length", "reward", 0.05),
    "reinforce_pp": Method(1, "reinforce_pp", "ppo_clip", "token_mean", "reward", 0.01),
    "gspo": Method(2, "grpo", "gspo", "answer_mean"),
    "cispo": Method(2, "grpo", "cispo", "token_mean"),
    "opo": Method(2, "opo", "reinforce", "fixed_length"),
}


@pytest.fixture
def world():
    return World(language_model(0, uniform=True), language_model(1))


@pytest.mark.parametrize("name", METHODS)
def test_the_expected_gradient_of_a_method_is_exact(name, world, tmp_path, monkeypatch):
    method = METHODS[name]
    drawn = world.groups(method.size)
    loop = loop_of(name, world, drawn, tmp_path, monkeypatch, size=method.size)
    found = gradients(loop)
    critic = None
    if loop.ac.critic is not None:
        critic = (loop.ac.critic, loop.ac.value_head.weight.detach())
    wanted, of_head = update_of(method, world, drawn, critic=critic)
    assert relative(found, wanted) < 1e-5
    if of_head is not None:
        assert relative([loop.ac.value_head.weight.grad], [of_head]) < 1e-5


PLAIN = {"lam": 1.0, "whiten": False, "reduction": "fixed_length"}
OBJECTIVES = [  # method, options, β, what its gradient is of that of E[r] - β KL
    ("ppo", PLAIN, 0.05, 1.0),
    ("ppo", {"lam": 1.0}, 0.05, None),
    ("rloo", {}, 0.05, 1.0),
    ("dr_grpo", {}, 0.0, 0.5),
    ("dr_grpo", {"kl_coef": 0.3}, 0.3, 0.5),
    ("reinforce_pp", {}, 0.01, None),
]


@pytest.mark.parametrize(("name", "options", "beta", "share"), OBJECTIVES)
def test_a_method_climbs_the_objective_that_it_states(
    name, options, beta, share, world, tmp_path, monkeypatch
):
    """Its expected gradient is that of ``E[r] - β KL``, of all 13 answers, times a number.

    Whitening divides by a deviation (None: any number), Dr. GRPO has (G - 1) / G of it.
    """
    size = METHODS[name].size
    loop = loop_of(name, world, world.groups(size), tmp_path, monkeypatch, size=size, **options)
    found = gradients(loop)
    exact = torch.autograd.grad(
        -world.objective(beta) / world.longest, list(world.policy.parameters()), allow_unused=True
    )
    pairs = zip(exact, world.policy.parameters(), strict=True)
    wanted = [torch.zeros_like(weight) if one is None else one for one, weight in pairs]
    if share is None:
        share = float(torch.cat([g.flatten() for g in found]).norm())
        share /= float(torch.cat([g.flatten() for g in wanted]).norm())
    assert relative(found, [share * one for one in wanted]) < 1e-5


@pytest.mark.parametrize(
    ("name", "options"), [("gspo", {"reduction": "fixed_length"}), ("cispo", {})]
)
def test_pairs_over_their_deviation_climb_the_share_of_comparisons_won(
    name, options, world, tmp_path, monkeypatch
):
    """Not the mean score: a gap over its deviation is ±1/√2, so a pair's scores are but a rank."""
    drawn, options = world.groups(2), {**options, "advantage_options": {"eps": 0.0}}
    loop = loop_of(name, world, drawn, tmp_path, monkeypatch, size=2, **options)
    found = gradients(loop)
    law, scores = world.law(world.policy), torch.tensor(world.scores).double()
    won = law.exp() @ torch.sign(scores.unsqueeze(1) - scores) @ law.detach().exp()
    wanted = world.gradient(-won)
    share = float(torch.cat([g.flatten() for g in found]).norm())
    share /= float(torch.cat([g.flatten() for g in wanted]).norm())
    assert relative(found, [share * one for one in wanted]) < 1e-5
    mean = world.gradient(-(world.law(world.policy).exp() @ scores))
    assert relative(found, [share * one for one in mean]) > 0.1


@pytest.mark.parametrize("micro_batch", [1, 5])
@pytest.mark.parametrize("name", ["ppo", "grpo", "dr_grpo"])
def test_splitting_a_mini_batch_changes_nothing(name, micro_batch, tmp_path, monkeypatch):
    """Ragged answers, of which some were cut and are left out, in parts of any size."""
    world = World(language_model(0), language_model(1), longest=3)
    drawn = [0, 5, 17, 2, 0, 39, 23, 1, 3, 8, 11, 30]
    found = []
    for size in (12, micro_batch):
        torch.manual_seed(0)
        options = {"micro_batch": size, "truncated": "leave_out", "temperature": 0.8}
        loop = loop_of(name, world, drawn, tmp_path, monkeypatch, METHODS[name].size, **options)
        found.append(gradients(loop))
        if loop.ac.value_head is not None:
            found[-1].append(loop.ac.value_head.weight.grad)
    assert relative(found[1], found[0]) < 1e-6
