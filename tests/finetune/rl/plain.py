"""The gradient of one update by plain loops: scores, penalties, groups, advantages, losses, sums.

It knows a rollout as a list of answers by number, and nothing of our code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.finetune.rl import slow
from tests.finetune.rl.enumerable import END, World
from tests.finetune.rl.slow import Row

__all__ = ["Method", "update_of"]


@dataclass(frozen=True)
class Method:
    """What a method is, in the numbers of its paper."""

    size: int
    advantage: str
    slope: str
    reduction: str
    kl: str | None = None  # "reward" or "loss"
    kl_coef: float = 0.0
    kl_estimate: str = "k1"
    whiten: bool = False
    advantage_options: Mapping[str, Any] = field(default_factory=dict)
    slope_options: Mapping[str, Any] = field(default_factory=dict)
    missing_eos_penalty: float = 0.0
    overlong: float = 0.0
    leave_out_cut: bool = False
    leave_out_flat: bool = False
    vf_coef: float = 0.1
    value_clip: float | None = None
    longest: int | None = None  # max_new_tokens where it is not the world's


def update_of(
    method: Method,
    world: World,
    drawn: Sequence[int],
    noise: Sequence[Sequence[float]] | None = None,
    critic: tuple[Any, Tensor] | None = None,
    value_noise: Sequence[Sequence[float]] | None = None,
) -> tuple[list[Tensor], Tensor | None]:
    """The gradients of the policy's weights, and of the value head's if there is one.

    ``noise``: how much more likely each token was to the policy that wrote it, in nats;
    ``value_noise``: how much higher the critic's value was.
    """
    numbers = list(drawn)
    groups = [at // method.size for at in range(len(numbers))]
    still = [[0.0] * len(world.answers[number]) for number in numbers]
    noise, higher = noise or still, value_noise or still
    if method.leave_out_flat:
        kept = [at for at, group in enumerate(groups) if _tells(group, groups, numbers, world)]
        numbers, groups = ([each[at] for at in kept] for each in (numbers, groups))
        noise, higher = ([each[at] for at in kept] for each in (noise, higher))
    ours, theirs, judged = _measured(world, critic)
    rows = _rows(method, world, numbers, groups, noise, (ours, theirs, judged))
    advantages = slow.ADVANTAGES[method.advantage](rows, **method.advantage_options)
    returns = [
        [a + v for a, v in zip(each, row.values, strict=True)]
        for each, row in zip(advantages, rows, strict=True)
    ]
    ended = [world.answers[number][-1] == END for number in numbers]
    learned = [at for at, whole in enumerate(ended) if whole or not method.leave_out_cut]
    advantages = [advantages[at] for at in learned]
    if method.whiten:
        advantages = slow.whitened(advantages)
    pulls = [
        slow.PULLS[method.slope](rows[at], each, **method.slope_options)
        for at, each in zip(learned, advantages, strict=True)
    ]
    if method.kl == "loss":
        pulls = [
            [
                pull + method.kl_coef * _kl_slope(method.kl_estimate, logp, ref)
                for pull, logp, ref in zip(
                    each, rows[at].logps, theirs[numbers[at]].tolist(), strict=True
                )
            ]
            for at, each in zip(learned, pulls, strict=True)
        ]
    taken = [numbers[at] for at in learned]
    policy = _gradient(world, taken, pulls, method, ours)
    found = torch.autograd.grad(policy, list(world.policy.parameters()), allow_unused=True)
    weights = zip(found, world.policy.parameters(), strict=True)
    filled = [torch.zeros_like(weight) if one is None else one for one, weight in weights]
    if judged is None:
        return filled, None
    values, head = judged
    slopes = [
        [
            method.vf_coef * _value_slope(value, value + more, target, method.value_clip)
            for value, more, target in zip(rows[at].values, higher[at], returns[at], strict=True)
        ]
        for at in learned
    ]
    total = _gradient(world, taken, slopes, method, values)
    return filled, torch.autograd.grad(total, head)[0]


_Measured = tuple[list[Tensor], list[Tensor], tuple[list[Tensor], Tensor] | None]


def _measured(world: World, critic: tuple[Any, Tensor] | None) -> _Measured:
    """Each answer's log-probs, those of the reference, and its values with the head's weights."""
    with torch.no_grad():
        theirs = world.token_logps(world.reference)
    judged = None
    if critic is not None:
        head = critic[1].clone().requires_grad_()
        judged = world.values(critic[0], head), head
    return world.token_logps(world.policy), theirs, judged


def _tells(group: int, groups: Sequence[int], numbers: Sequence[int], world: World) -> bool:
    """Whether the answers of a group have different scores."""
    scores = {
        world.scores[number]
        for number, other in zip(numbers, groups, strict=True)
        if other == group
    }
    return len(scores) > 1


def _rows(
    method: Method,
    world: World,
    numbers: Sequence[int],
    groups: Sequence[int],
    noise: Sequence[Sequence[float]],
    measured: _Measured,
) -> list[Row]:
    ours, theirs, judged = measured
    made = []
    for number, group, more in zip(numbers, groups, noise, strict=True):
        answer, logps = world.answers[number], ours[number].tolist()
        score = world.scores[number]
        score -= 0.0 if answer[-1] == END else method.missing_eos_penalty
        if method.overlong:
            longest = method.longest or world.longest
            room = method.overlong * longest
            score -= min(max((len(answer) - (longest - room)) / room, 0.0), 1.0)
        estimate = {"k1": slow.k1, "k2": slow.k2, "k3": slow.k3}[method.kl_estimate]
        kl = [estimate(a, b) for a, b in zip(logps, theirs[number].tolist(), strict=True)]
        coef = method.kl_coef if method.kl == "reward" else 0.0
        values = [0.0] * len(answer) if judged is None else judged[0][number].tolist()
        old = [a + b for a, b in zip(logps, more, strict=True)]
        rewards = slow.token_rewards(score, kl, coef)
        made.append(Row(score, rewards, group, values, logps, old))
    return made


def _gradient(
    world: World,
    numbers: Sequence[int],
    pulls: Sequence[Sequence[float]],
    method: Method,
    leaves: Sequence[Tensor],
) -> Tensor:
    """A number with these slopes at the tokens of the answers, each by its share of the loss."""
    weights = [[0.0] * len(answer) for answer in world.answers]
    tokens = sum(map(len, pulls))
    for number, row in zip(numbers, pulls, strict=True):
        share = {
            "token_mean": 1 / tokens,
            "answer_mean": 1 / (len(pulls) * len(row)),
            "fixed_length": 1 / (len(pulls) * (method.longest or world.longest)),
        }[method.reduction]
        for t, pull in enumerate(row):
            weights[number][t] += share * pull
    parts = zip(weights, leaves, strict=True)
    return torch.stack([(torch.tensor(w).to(leaf) * leaf).sum() for w, leaf in parts]).sum()


def _kl_slope(estimate: str, logp: float, ref: float) -> float:
    """The slope of an estimate in log π."""
    return {"k1": 1.0, "k2": logp - ref, "k3": 1 - math.exp(ref - logp)}[estimate]


def _value_slope(value: float, old: float, target: float, clip: float | None) -> float:
    """The slope of `slow.value_loss` in the value."""
    if clip is None or abs(value - old) <= clip:
        return value - target
    near = old + math.copysign(clip, value - old)
    return 0.0 if (near - target) ** 2 > (value - target) ** 2 else value - target
