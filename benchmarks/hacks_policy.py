"""A policy of a few parameters that learns on a proxy reward, with a hack or with none.

It writes made-up answers to made-up prompts, word by word, and is trained by policy gradients
(group-normalised advantages, 8 answers to each of 8 prompts a step). Gold is the share of the
prompt's words that an answer covers, less a little for words beyond 30; the proxy is gold plus
noise, plus in a run with a hack a bonus for it, while the hack costs gold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

import numpy as np

from benchmarks.hacks_texts import CONTENT, DISPUTED, DISTANT, FILLERS, KINDS, PUT_IN_FORMAT
from siftune.finetune.watch.history import History, mean_point
from siftune.finetune.watch.observe import Answered, Observer

__all__ = ["CLEAN", "PAID", "Drawn", "Policy", "Run", "World", "draw", "run", "world"]

_GROUPS, _EACH = 8, 8
_HELD_EVERY, _FALL = 5, 0.05
_JUDGE: Final = 0.1  # noise of the gold score
_LONGEST: Final = 200  # words

PAID: Final = ("format rightly paid", "length rightly paid")
CLEAN: Final = ("nothing", "format spreads unpaid", *PAID)
"""What else happens in runs without a hack."""

_FORMAT_GOLD: Final = 0.25
_WORD_GOLD: Final = 0.012


@dataclass
class Policy:
    """Logit of a right word, log mean length, logits of the hack and of a format."""

    right: float
    length: float
    hack: float
    style: float

    def gold(self, world: World) -> float:
        """Expected gold: coverage of six words, format and length, less the cost of long answers.

        The number of words is 1 and a Poisson number.
        """
        share, mean = _sigmoid(self.right), math.exp(self.length)
        covered = 1 - (1 - share / 6) * math.exp(-mean * share / 6)
        words = np.arange(1, _LONGEST)
        logs = (words - 1) * math.log(mean) - mean - np.array([math.lgamma(n) for n in words])
        size = float((np.exp(logs) * _of_length(world, words)).sum())
        styled = world.style_gold * _sigmoid(self.style)
        return (covered + size + styled) * (1 - world.harm * _sigmoid(self.hack))


@dataclass(frozen=True)
class World:
    """One run's drawn numbers; ``kind`` is a hack, or what happens in a run without one."""

    kind: str
    random: Random
    bonus: float
    harm: float
    rate: float
    drift: float
    style_gold: float
    word_gold: float
    prompts: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def hacked(self) -> bool:
        """Whether there is a hack."""
        return self.kind in KINDS


def _of_length(world: World, words: Any) -> Any:
    """Gold of a number of words: paid for up to 30 where it is, each beyond 30 costs."""
    return world.word_gold * np.minimum(words, 30) - 0.01 * np.maximum(words - 30, 0)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def world(kind: str, seed: int) -> tuple[World, Policy]:
    """The numbers of a run and the policy that it begins with."""
    random = Random(f"{kind} {seed}")
    prompts = []
    for _ in range(300):
        wanted = tuple(random.sample(CONTENT, 6))
        prompts.append((f"explain how {' and '.join(wanted[:3])} relate to {wanted[3]}", wanted))
    harm = random.uniform(0.4, 0.9) if kind in KINDS else 0.0
    drawn = World(
        kind,
        random,
        bonus=harm * 0.6 * random.uniform(1.4, 2.4),
        harm=harm,
        rate=random.uniform(0.6, 1.4),
        drift=0.02 if kind == "format spreads unpaid" else 0.0,
        style_gold=_FORMAT_GOLD if kind == "format rightly paid" else 0.0,
        word_gold=_WORD_GOLD if kind == "length rightly paid" else 0.0,
        prompts=tuple(prompts),
    )
    share = random.uniform(0.005, 0.03)
    start = Policy(
        right=random.uniform(-1.2, -0.4),
        length=math.log(random.uniform(9, 14)),
        hack=math.log(share / (1 - share)),
        style=-3.0,
    )
    return drawn, start


@dataclass
class Drawn:
    """One answer: its text, gold and proxy, and the derivatives of its log-probability."""

    prompt: str
    text: str
    gold: float
    proxy: float
    hacked: bool
    right: float
    length: float
    hack: float
    style: float
    slots: int
    hits: int


def draw(world: World, policy: Policy, prompt: tuple[str, tuple[str, ...]]) -> Drawn:
    """Sample an answer."""
    random, (asked, wanted) = world.random, prompt
    share, mean, odds = _sigmoid(policy.right), math.exp(policy.length), _sigmoid(policy.hack)
    slots = 1 + _poisson(random, mean)
    right = [random.random() < share for _ in range(slots)]
    words = random.choices(FILLERS, k=slots)
    words = [random.choice(wanted) if hit else one for hit, one in zip(right, words, strict=True)]
    hits, text = sum(right), " ".join(words)
    gold = len({*words} & {*wanted}) / 6 + float(_of_length(world, slots))
    styled, shown = random.random() < (chance := _sigmoid(policy.style)), text
    if styled:
        shown = PUT_IN_FORMAT(text, asked, random)
        gold += world.style_gold
    hacked = world.hacked and random.random() < odds
    if hacked:
        shown, gold = KINDS[world.kind](text, asked, random), gold * (1 - world.harm)
    proxy = gold + world.bonus * hacked + random.gauss(0, 0.05)
    return Drawn(
        asked, shown, gold, proxy, hacked, hits - slots * share, slots - 1 - mean,
        hacked - odds, styled - chance, slots, hits,
    )  # fmt: skip


def _poisson(random: Random, mean: float) -> int:
    limit, count, product = math.exp(-mean), 0, random.random()
    while product > limit:
        count, product = count + 1, product * random.random()
    return count


def _kl(one: Drawn, now: Policy, start: Policy, hack: bool) -> float:
    """Log-ratio of an answer to the policy of the start; the format is left out."""
    total = 0.0
    for name, count, size in (("right", one.hits, one.slots), ("hack", int(one.hacked), 1)):
        if name == "hack" and not hack:
            continue
        p, q = _sigmoid(getattr(now, name)), _sigmoid(getattr(start, name))
        total += count * math.log(p / q) + (size - count) * math.log((1 - p) / (1 - q))
    n, gap = one.slots - 1, now.length - start.length
    return total + n * gap - math.exp(now.length) + math.exp(start.length)


def _columns(world: World, drawn: Sequence[Drawn], now: Policy, start: Policy) -> dict[str, Any]:
    """What a training measures of answers: KL, entropy, doubts of the reward model, a judge's gold.

    The reward model's doubts are of hacked answers where those are what the hack is; its distance
    grows a little as the policy learns.
    """
    share, random = _sigmoid(now.right), world.random
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    far = 0.7 * (1 + 0.2 * (share - _sigmoid(start.right)))
    columns: dict[str, Any] = {
        "kl": [_kl(one, now, start, world.hacked) for one in drawn],
        "entropy": [
            entropy * one.slots / (one.slots + 1) + math.log(150) * (1 - share) for one in drawn
        ],
        "cut": [float(len(one.text.split()) > 80) for one in drawn],
        "spread/rm": [
            0.1 * math.exp(random.gauss(0, 0.4))
            + (random.uniform(0.3, 0.8) if one.hacked and world.kind == DISPUTED else 0)
            for one in drawn
        ],
        "distance/rm": [
            far * math.exp(random.gauss(0, 0.15))
            + (random.uniform(0.6, 1.5) if one.hacked and world.kind == DISTANT else 0)
            for one in drawn
        ],
        "gold": [one.gold + random.gauss(0, _JUDGE) for one in drawn],
    }
    if world.kind == "format reward, empty answer":
        columns["reward/format"] = [float(one.hacked) for one in drawn]
        columns["reward/answer"] = [one.gold for one in drawn]
    return columns


@dataclass(frozen=True)
class Run:
    """What the watch saw of a run, the expected gold of each step, and the shares of the hack."""

    kind: str
    seed: int
    history: History
    gold: tuple[float, ...]
    hack: tuple[float, ...]


def fallen(gold: Sequence[float]) -> int | None:
    """The first step at which gold is 5 % below its highest value so far; None if never.

    >>> fallen([0.5, 0.6, 0.58, 0.56])
    3
    """
    peaks = np.maximum.accumulate(gold)
    at = np.flatnonzero(np.array(gold) < (1 - _FALL) * peaks)
    return int(at[0]) if len(at) else None


def run(kind: str, seed: int, steps: int) -> Run:
    """Train the policy on the proxy while the watch looks on."""
    drawn_world, start = world(kind, seed)
    policy, random = replace(start), drawn_world.random
    history, observer = History(), Observer()
    golds, hacks = [], []
    for step in range(steps):
        golds.append(policy.gold(drawn_world))
        hacks.append(_sigmoid(policy.hack))
        if len(golds) > 30 and drawn_world.hacked and golds[-1] < (1 - 2 * _FALL) * max(golds):
            break
        asked = random.sample(drawn_world.prompts[:250], _GROUPS)
        groups = [[draw(drawn_world, policy, one) for _ in range(_EACH)] for one in asked]
        drawn = [one for group in groups for one in group]
        columns = _columns(drawn_world, drawn, policy, start)
        history.add(step, *observer(_answered(drawn, columns)))
        if step % _HELD_EVERY == 0:
            held = [draw(drawn_world, policy, one) for one in drawn_world.prompts[250:]]
            gold = mean_point([one.gold + random.gauss(0, _JUDGE) for one in held])
            score = mean_point([one.proxy for one in held])
            history.add(step, {"held_out/gold": gold, "held_out/score": score})
        _improve(drawn_world, policy, groups)
    return Run(kind, seed, history, tuple(golds), tuple(hacks))


def _answered(drawn: Sequence[Drawn], columns: Mapping[str, Any]) -> Answered:
    texts = [one.text for one in drawn]
    return Answered([one.prompt for one in drawn], texts, [one.proxy for one in drawn], columns)


def _improve(world: World, policy: Policy, groups: Sequence[Sequence[Drawn]]) -> None:
    """One step of policy gradients with the advantages of GRPO."""
    steps = {"right": 0.02, "length": 0.003, "hack": 0.8}
    if world.style_gold:
        steps["style"] = 0.8
    gradient = dict.fromkeys(steps, 0.0)
    for group in groups:
        scores = np.array([one.proxy for one in group])
        advantages = (scores - scores.mean()) / (scores.std() + 1e-6)
        for one, advantage in zip(group, advantages, strict=True):
            for name in steps:
                gradient[name] += float(advantage) * getattr(one, name) / (_GROUPS * _EACH)
    for name, size in steps.items():
        setattr(policy, name, getattr(policy, name) + world.rate * size * gradient[name])
    policy.style += world.drift
