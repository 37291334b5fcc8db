"""The loop of a method on an enumerable model, its sampler replaced by answers that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from siftune.curate.core.registry import build
from siftune.curate.text.sampling import Sampling
from siftune.finetune.rewards.several import WeightedRewards
from siftune.finetune.rl.collector import Collector
from siftune.finetune.rl.loop import Loop
from siftune.finetune.rl.model import ActorCritic
from siftune.finetune.rl.rollout import Prompt
from siftune.finetune.rl.rollouts import in_process
from tests.finetune.rl.enumerable import END, PROMPT, World, language_model

__all__ = ["exact_samples", "first_rollout", "gradients", "loop_of", "moved"]


class Spelled:
    """A tokenizer whose texts are the numbers of the tokens."""

    def batch_decode(self, drawn: Sequence[Sequence[int]], **_: Any) -> list[str]:
        return [" ".join(map(str, ids)) for ids in drawn]


class Listed:
    """The reward of each answer of a world."""

    def __init__(self, world: World, scores: Sequence[float]) -> None:
        spelled = Spelled().batch_decode(world.answers)
        self.scores: dict[str, float | None] = dict(zip(spelled, scores, strict=True))

    def __call__(self, prompts: Any, completions: Any, rows: Any) -> list[float | None]:
        for text, row in zip(completions, rows, strict=True):  # an answer says whether it is whole
            assert row["finished"] == (text.split()[-1] == str(END))
        return [self.scores[text] for text in completions]


def _reward(world: World, costs: Sequence[float] | None) -> Any:
    own = Listed(world, world.scores)
    if costs is None:
        return own
    both = WeightedRewards(
        {"score": {"reward": "exact_match"}, "harm": {"reward": "exact_match", "weight": 0}}
    )
    score, harm = both.parts
    both.__dict__["parts"] = (
        replace(score, reward=own),
        replace(harm, reward=Listed(world, costs)),
    )
    return both


def loop_of(
    method: str,
    world: World,
    drawn: Sequence[int],
    work: Path,
    patch: pytest.MonkeyPatch,
    size: int = 1,
    costs: Sequence[float] | None = None,
    **options: Any,
) -> Loop:
    """The loop of a method, every rollout of which is of these answers by number.

    With ``costs`` of the answers the reward is two rewards, ``score`` and ``harm``.
    """
    shared: dict[str, Any] = {
        "model": "none",
        "reward": "length",
        "batch_size": len(drawn) // size,
        "group_size": size,
        "rollouts": 1,
        "minibatches": 1,
        "epochs": 1,
        "micro_batch": 5000,
        "max_new_tokens": world.longest,
        "temperature": world.temperature,
        "precision": "fp32",
        "kl_stop": None,
        "schedule": "constant",
    }
    settings = build("finetune.trainers", method, {**shared, **options})
    critic = language_model(9).base_model if settings.has_critic else None
    model = ActorCritic(world.policy, critic, values=settings.has_critic).double()
    if model.value_head is not None:
        with torch.no_grad():
            model.value_head.weight.copy_(torch.linspace(-0.3, 0.3, 16).double())
    made = Collector(
        model=model,
        reference=world.reference,
        tokenizer=Spelled(),
        prompts=[Prompt({"id": "asked:0"}, "?", PROMPT)],
        reward=_reward(world, costs),
        sampling=Sampling(settings.temperature, settings.max_new_tokens, frozenset({END}), 3),
        settings=settings,
    )
    answers = cycle([world.answers[number] for number in drawn])
    patch.setattr(in_process, "sample", lambda _, prompts, *__: [next(answers) for _ in prompts])
    return Loop(made, settings, work, save_every=1000)


def exact_samples(world: World, patch: pytest.MonkeyPatch, size: int = 1) -> None:
    """Let a rollout have every group of ``size`` answers as often as it is likely, rounded."""
    groups = list(product(range(len(world.answers)), repeat=size))

    def likely(policy: Any, prompts: Sequence[Any], *_: Any) -> list[list[int]]:
        with torch.no_grad():
            law = world.law(policy)
        chance = law[torch.tensor(groups)].sum(1).exp().cumsum(0)
        count = len(prompts) // size
        points = (torch.arange(count).double() + 0.5) / count * chance[-1]
        taken = torch.searchsorted(chance, points).clamp(max=len(groups) - 1).tolist()
        return [world.answers[number] for at in taken for number in groups[at]]

    patch.setattr(in_process, "sample", likely)


def first_rollout(loop: Loop) -> Loop:
    """Begin without `transformers.Trainer.train`."""
    loop.create_optimizer()
    loop.begin()
    return loop


def moved(loop: Loop, logps: Sequence[Sequence[float]], values: Sequence[Sequence[float]]) -> None:
    """Let the rollout be of a policy under which each token's log-prob was this much higher.

    So were the values, where there is a critic.
    """
    made = loop.rollout
    assert made is not None
    shifts = []
    for rows in (logps, values):
        shift = torch.zeros_like(made.old.logps)
        for at, row in enumerate(rows):
            shift[at, : len(row)] = torch.tensor(row)
        shifts.append(shift)
    old = replace(made.old, logps=made.old.logps + shifts[0])
    if made.old.values is not None:
        old = replace(old, values=made.old.values + shifts[1])
    loop.rollout = replace(made, old=old)


def gradients(loop: Loop) -> list[Tensor]:
    """Of the policy's weights, after the first step's backward pass."""
    if loop.rollout is None:
        first_rollout(loop)
    loop.ac.zero_grad()
    loop.training_step(loop.ac, {"step": torch.tensor([0])})
    return [
        torch.zeros_like(weight) if weight.grad is None else weight.grad
        for weight in loop.ac.policy.parameters()
    ]
