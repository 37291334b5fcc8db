"""Every option of RL by its effect: the update becomes the one that the option's sentence says."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from tests.finetune.rl.enumerable import END, World, language_model, relative
from tests.finetune.rl.loops import first_rollout, gradients, loop_of, moved
from tests.finetune.rl.plain import Method, update_of

DRAWN = [0, 5, 17, 2, 2, 2, 0, 39, 23, 1, 3, 8]
"""Of 40 answers of one to three tokens; in groups of three the second has one score."""

PPO = Method(1, "gae", "ppo_clip", "token_mean", "reward", 0.05, whiten=True, value_clip=0.2)
GRPO = Method(3, "grpo", "ppo_clip", "answer_mean", "loss", 0.04, kl_estimate="k3")
CLIP = {"low": 0.05, "high": 0.6}

CASES = [  # method, options, what they make of it
    ("ppo", {}, PPO),
    ("ppo", {"gamma": 0.7}, replace(PPO, advantage_options={"gamma": 0.7})),
    ("ppo", {"lam": 0.2}, replace(PPO, advantage_options={"lam": 0.2})),
    ("ppo", {"cliprange": 0.05}, replace(PPO, slope_options={"clip": 0.05})),
    ("ppo", {"dual_clip": 1.05}, replace(PPO, slope_options={"dual": 1.05})),
    ("ppo", {"value_clip": 0.05}, replace(PPO, value_clip=0.05)),
    ("ppo", {"value_clip": 9.0}, replace(PPO, value_clip=9.0)),
    ("ppo", {"vf_coef": 0.7}, replace(PPO, vf_coef=0.7)),
    ("ppo", {"whiten": False}, replace(PPO, whiten=False)),
    ("ppo", {"missing_eos_penalty": 2.0}, replace(PPO, missing_eos_penalty=2.0)),
    ("ppo", {"overlong": 0.6}, replace(PPO, overlong=0.6)),
    ("ppo", {"truncated": "leave_out"}, replace(PPO, leave_out_cut=True)),
    ("ppo", {"kl_coef": 0.8}, replace(PPO, kl_coef=0.8)),
    ("ppo", {"kl_coef": 0.0}, replace(PPO, kl_coef=0.0)),
    ("ppo", {"kl_estimator": "k3", "kl_coef": 0.8}, replace(PPO, kl_estimate="k3", kl_coef=0.8)),
    (
        "ppo",
        {"kl_in": "loss", "kl_coef": 0.8},
        replace(PPO, kl="loss", kl_estimate="k3", kl_coef=0.8),
    ),
    ("ppo", {"reduction": "answer_mean"}, replace(PPO, reduction="answer_mean")),
    ("ppo", {"reduction": "fixed_length"}, replace(PPO, reduction="fixed_length")),
    (
        "ppo",
        {"reduction": "fixed_length", "max_new_tokens": 6},
        replace(PPO, reduction="fixed_length", longest=6),
    ),
    (
        "ppo",
        {"policy_loss": "clip_higher", "clip_low": 0.05, "clip_high": 0.6},
        replace(PPO, slope="clip_higher", slope_options=CLIP),
    ),
    ("grpo", {}, GRPO),
    ("grpo", {"group_size": 2}, replace(GRPO, size=2)),
    ("grpo", {"advantage_options": {"eps": 0.5}}, replace(GRPO, advantage_options={"eps": 0.5})),
    ("grpo", {"advantage": "rloo"}, replace(GRPO, advantage="rloo")),
    ("grpo", {"advantage": "dr_grpo"}, replace(GRPO, advantage="dr_grpo")),
    ("grpo", {"advantage": "opo"}, replace(GRPO, advantage="opo")),
    (
        "grpo",
        {"policy_loss": "gspo", "clip_low": 0.05, "clip_high": 0.6},
        replace(GRPO, slope="gspo", slope_options=CLIP),
    ),
    (
        "grpo",
        {"policy_loss": "cispo", "clip_low": 0.05, "clip_high": 0.6},
        replace(GRPO, slope="cispo", slope_options=CLIP),
    ),
    ("grpo", {"policy_loss": "reinforce"}, replace(GRPO, slope="reinforce")),
    ("grpo", {"kl_estimator": "k2"}, replace(GRPO, kl_estimate="k2")),
    ("grpo", {"kl_in": "reward"}, replace(GRPO, kl="reward", kl_estimate="k1")),
    ("grpo", {"kl_coef": 0.8}, replace(GRPO, kl_coef=0.8)),
    ("grpo", {"dynamic_sampling": "leave_out"}, replace(GRPO, leave_out_flat=True)),
    ("grpo", {"truncated": "leave_out"}, replace(GRPO, leave_out_cut=True)),
    ("grpo", {"whiten": True}, replace(GRPO, whiten=True)),
]


@pytest.fixture(scope="module")
def world():
    return World(language_model(0), language_model(1), longest=3, temperature=0.8)


def shifts(world):
    """How much higher each token's log-prob and value were when the answers were sampled."""
    draw = random.Random(3)
    answers = [world.answers[number] for number in DRAWN]
    return [[[draw.gauss(0, 0.5) for _ in one] for one in answers] for _ in range(2)]


@pytest.fixture(scope="module")
def base_updates(world):
    """What each method does without options."""
    noise, higher = shifts(world)
    critic = language_model(9).base_model, torch.linspace(-0.3, 0.3, 16).double().unsqueeze(0)
    return {
        "ppo": update_of(PPO, world, DRAWN, noise, critic, higher),
        "grpo": update_of(GRPO, world, DRAWN, noise, None, higher),
    }


@pytest.mark.parametrize(
    ("name", "options", "method"), CASES, ids=[f"{name} {options}" for name, options, _ in CASES]
)
def test_an_option_changes_the_update_as_it_says(
    name, options, method, world, base_updates, tmp_path, monkeypatch
):
    noise, higher = shifts(world)
    given = {"group_size": method.size, **options}
    loop = loop_of(name, world, DRAWN, tmp_path, monkeypatch, given.pop("group_size"), **given)
    learned = range(12) if method.leave_out_flat is False else [0, 1, 2, *range(6, 12)]
    moved(first_rollout(loop), [noise[at] for at in learned], [higher[at] for at in learned])
    found = gradients(loop)
    explained = "value/explained_variance" in loop.rollout.metrics()
    assert explained == (loop.ac.critic is not None)
    critic = None
    if loop.ac.critic is not None:
        critic = (loop.ac.critic, loop.ac.value_head.weight.detach())
    wanted, of_head = update_of(method, world, DRAWN, noise, critic, higher)
    assert relative(found, wanted) < 1e-5
    if of_head is not None:
        assert relative([loop.ac.value_head.weight.grad], [of_head]) < 1e-5
    if options:  # and it is another update than without
        plain, plain_head = base_updates[name]
        apart = relative(wanted, plain)
        if of_head is not None:
            apart = max(apart, relative([of_head], [plain_head]))
        assert apart > 1e-3


def steps_of(name, world, tmp_path, monkeypatch, **options):
    """Learning rates and the norm of the gradient at each optimiser step of a whole run."""
    loop = loop_of(name, world, DRAWN, tmp_path, monkeypatch, **options)
    seen, step = [], torch.optim.AdamW.step

    def watched(self, *args, **kwargs):
        grads = [p.grad for p in loop.ac.parameters() if p.grad is not None]
        norm = float(torch.stack([grad.norm() for grad in grads]).norm())
        seen.append(([group["lr"] for group in self.param_groups], norm))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    loop.train()
    return seen


def test_the_course_of_a_run_is_what_its_options_say(tmp_path, monkeypatch):
    """Two rollouts, three parts, two passes: 12 steps; rates fall to 0; gradients are clipped."""
    world = World(language_model(0), language_model(1), longest=3, temperature=0.8)
    options = {"rollouts": 2, "minibatches": 3, "epochs": 2, "lr": 1e-4, "critic_lr": 3e-4}
    options |= {"schedule": "linear", "max_grad_norm": 1e-3, "kl_coef": 0.0}
    seen = steps_of("ppo", world, tmp_path, monkeypatch, **options)
    assert [rates[0] for rates, _ in seen] == pytest.approx(
        [1e-4 * (12 - step) / 12 for step in range(12)]
    )
    assert all(rates[1] == pytest.approx(3 * rates[0]) for rates, _ in seen)
    assert all(norm <= 1.001e-3 for _, norm in seen)
    options |= {"epochs": 1, "schedule": "constant", "max_grad_norm": 100.0}
    seen = steps_of("ppo", world, tmp_path / "other", monkeypatch, **options)
    assert [rates for rates, _ in seen] == [[1e-4, 3e-4]] * 6
    assert max(norm for _, norm in seen) > 1e-2


def test_the_metrics_of_a_rollout_are_of_whole_answers(world, tmp_path, monkeypatch):
    """KL a completion, in nats (k1 and k3), the share that was cut, lengths, the penalised mean."""
    loop = first_rollout(loop_of("ppo", world, DRAWN, tmp_path, monkeypatch, kl_coef=0.3))
    found = loop.rollout.metrics()
    with torch.no_grad():
        ours, theirs = world.token_logps(world.policy), world.token_logps(world.reference)
    gaps = [
        [p - q for p, q in zip(ours[at].tolist(), theirs[at].tolist(), strict=True)] for at in DRAWN
    ]
    kl = sum(map(sum, gaps)) / 12
    score = sum(world.scores[at] for at in DRAWN) / 12
    answers = [world.answers[at] for at in DRAWN]
    wanted = {
        "objective/score": score,
        "objective/kl": kl,
        "objective/kl_k3": sum(math.exp(-one) - 1 + one for row in gaps for one in row) / 12,
        "objective/rlhf_reward": score - 0.3 * kl,
        "rollout/length": sum(map(len, answers)) / 12,
        "rollout/truncated": sum(answer[-1] != END for answer in answers) / 12,
        "rollout/unscored": 0,
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)


def test_k1_is_refused_as_a_loss():
    options = {"model": "none", "reward": "length", "kl_estimator": "k1"}
    for name in ("ppo", "grpo"):
        with pytest.raises(
            UsageError, match="kl_estimator: k1 as a loss has a gradient whose mean is 0"
        ):
            build("finetune.trainers", name, {**options, "kl_in": "loss"})
    build("finetune.trainers", "grpo", {**options, "kl_in": "reward"})
