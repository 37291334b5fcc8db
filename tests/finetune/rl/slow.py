"""Advantages, policy losses, reductions and KL as plain loops over lists, written from the papers.

Nothing here reads our code. A `Row` is one completion; what belongs to a token is a list as long as
the row's own tokens: there is no padding here, and no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = [
    "ADVANTAGES",
    "LOSSES",
    "PULLS",
    "Row",
    "gae",
    "k1",
    "k2",
    "k3",
    "reduced",
    "returns_to_go",
    "token_rewards",
    "value_loss",
    "whitened",
]


@dataclass(frozen=True)
class Row:
    """A completion: its score, rewards and values a token, its group, its log-probs."""

    score: float
    rewards: list[float]
    group: int
    values: list[float] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    old: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.rewards)

    @property
    def whole(self) -> float:
        """What the completion earned: its score, and what was taken off at its tokens."""
        return sum(self.rewards)


def token_rewards(score: float, kl: Sequence[float], coef: float) -> list[float]:
    """InstructGPT, equation 2: the price of KL at every token, the score at the last."""
    rewards = [-coef * one for one in kl]
    rewards[-1] += score
    return rewards


# ---- KL, Schulman's three estimates


def k1(logp: float, ref: float) -> float:
    return logp - ref


def k2(logp: float, ref: float) -> float:
    return (logp - ref) ** 2 / 2


def k3(logp: float, ref: float) -> float:
    ratio = math.exp(ref - logp)
    return ratio - 1 - math.log(ratio)


# ---- advantages: a list of lists, one number a token


def _by_group(rows: Sequence[Row]) -> list[list[int]]:
    """The places of the rows of each group."""
    found: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        found.setdefault(row.group, []).append(at)
    return [*found.values()]


def mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def deviation(numbers: Sequence[float]) -> float:
    """The root of the unbiased variance."""
    middle = mean(numbers)
    return math.sqrt(math.fsum((x - middle) ** 2 for x in numbers) / (len(numbers) - 1))


def _on_tokens(rows: Sequence[Row], each: dict[int, float]) -> list[list[float]]:
    return [[each[at]] * row.length for at, row in enumerate(rows)]


def grpo(rows: Sequence[Row], eps: float = 1e-4) -> list[list[float]]:
    """DeepSeekMath, arXiv:2402.03300, section 4.1.2: (r - mean) / (std + eps); a lone row has 0."""
    found: dict[int, float] = {}
    for places in _by_group(rows):
        earned = [rows[at].whole for at in places]
        for at in places:
            if len(places) == 1:
                found[at] = 0.0
            else:
                found[at] = (rows[at].whole - mean(earned)) / (deviation(earned) + eps)
    return _on_tokens(rows, found)


def dr_grpo(rows: Sequence[Row]) -> list[list[float]]:
    """Understanding R1-Zero-like training, arXiv:2503.20783: r - mean, nothing divides."""
    found: dict[int, float] = {}
    for places in _by_group(rows):
        earned = [rows[at].whole for at in places]
        for at in places:
            found[at] = rows[at].whole - mean(earned)
    return _on_tokens(rows, found)


def rloo(rows: Sequence[Row]) -> list[list[float]]:
    """Back to Basics, arXiv:2402.14740: each against the mean of the others of its group."""
    found: dict[int, float] = {}
    for places in _by_group(rows):
        for at in places:
            others = [rows[other].whole for other in places if other != at]
            found[at] = rows[at].whole - mean(others) if others else 0.0
    return _on_tokens(rows, found)


def opo(rows: Sequence[Row]) -> list[list[float]]:
    """On-policy with the optimal baseline, arXiv:2505.23585: rewards weighted by length."""
    found: dict[int, float] = {}
    for places in _by_group(rows):
        tokens = sum(rows[at].length for at in places)
        baseline = math.fsum(rows[at].length * rows[at].whole for at in places) / tokens
        for at in places:
            found[at] = rows[at].whole - baseline
    return _on_tokens(rows, found)


def returns_to_go(rewards: Sequence[float], gamma: float = 1.0) -> list[float]:
    """The discounted sum of what comes from each token on."""
    return [
        math.fsum(gamma**k * rewards[t + k] for k in range(len(rewards) - t))
        for t in range(len(rewards))
    ]


def reinforce_pp(rows: Sequence[Row], gamma: float = 1.0) -> list[list[float]]:
    """REINFORCE++, arXiv:2501.03262: the return from each token, normalised over the batch."""
    return whitened([returns_to_go(row.rewards, gamma) for row in rows])


def gae(rewards: Sequence[float], values: Sequence[float], gamma: float, lam: float) -> list[float]:
    """arXiv:1506.02438, equation 16: a double sum over what comes after."""
    count = len(rewards)
    following = [*values[1:], 0.0]
    delta = [rewards[t] + gamma * following[t] - values[t] for t in range(count)]
    return [
        math.fsum((gamma * lam) ** k * delta[t + k] for k in range(count - t)) for t in range(count)
    ]


def gae_of_rows(rows: Sequence[Row], gamma: float = 1.0, lam: float = 0.95) -> list[list[float]]:
    return [gae(row.rewards, row.values, gamma, lam) for row in rows]


def whitened(each: Sequence[Sequence[float]], eps: float = 1e-8) -> list[list[float]]:
    """Mean 0 and variance 1 over all tokens of all rows; the variance is the unbiased one."""
    every = [x for row in each for x in row]
    middle = mean(every)
    scale = 1.0
    if len(every) > 1:
        variance = math.fsum((x - middle) ** 2 for x in every) / (len(every) - 1)
        scale = 1 / math.sqrt(variance + eps)
    return [[(x - middle) * scale for x in row] for row in each]


ADVANTAGES: dict[str, Callable[..., list[list[float]]]] = {
    "gae": gae_of_rows,
    "grpo": grpo,
    "rloo": rloo,
    "reinforce_pp": reinforce_pp,
    "dr_grpo": dr_grpo,
    "opo": opo,
}


# ---- policy losses: what each token of one row costs


def ppo_clip(
    row: Row, advantages: Sequence[float], clip: float = 0.2, dual: float | None = None
) -> list[float]:
    """arXiv:1707.06347, equation 7; the second clip is arXiv:1912.09729, equation 5."""
    return clip_higher(row, advantages, clip, clip, dual)


def clip_higher(
    row: Row,
    advantages: Sequence[float],
    low: float = 0.2,
    high: float = 0.28,
    dual: float | None = None,
) -> list[float]:
    """DAPO, arXiv:2503.14476, equation 8: two bounds of the ratio."""
    out = []
    for logp, old, advantage in zip(row.logps, row.old, advantages, strict=True):
        ratio = math.exp(logp - old)
        gained = min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
        if dual is not None and advantage < 0:
            gained = max(gained, dual * advantage)
        out.append(-gained)
    return out


def gspo(
    row: Row, advantages: Sequence[float], low: float = 3e-4, high: float = 4e-4
) -> list[float]:
    """GSPO, arXiv:2507.18071, equations 5 and 7: one ratio a completion, of its mean log-ratio."""
    ratio = math.exp(mean([a - b for a, b in zip(row.logps, row.old, strict=True)]))
    held = min(max(ratio, 1 - low), 1 + high)
    return [-min(ratio * advantage, held * advantage) for advantage in advantages]


def cispo(
    row: Row, advantages: Sequence[float], low: float | None = None, high: float = 4.0
) -> list[float]:
    """MiniMax-M1, arXiv:2506.13585, equations 4 and 5: the clipped ratio weighs log π."""
    out = []
    for logp, old, advantage in zip(row.logps, row.old, advantages, strict=True):
        weight = min(math.exp(logp - old), 1 + high)
        weight = weight if low is None else max(weight, 1 - low)
        out.append(-weight * advantage * logp)
    return out


def reinforce(row: Row, advantages: Sequence[float]) -> list[float]:
    """Williams 1992: A log π."""
    return [-a * logp for a, logp in zip(advantages, row.logps, strict=True)]


LOSSES: dict[str, Callable[..., list[float]]] = {
    "ppo_clip": ppo_clip,
    "clip_higher": clip_higher,
    "gspo": gspo,
    "cispo": cispo,
    "reinforce": reinforce,
}


def clip_pull(
    row: Row,
    advantages: Sequence[float],
    low: float = 0.2,
    high: float = 0.28,
    dual: float | None = None,
) -> list[float]:
    """The slope of `clip_higher` in log π: -A ρ, and 0 where a bound holds the loss."""
    out = []
    for logp, old, advantage in zip(row.logps, row.old, advantages, strict=True):
        ratio = math.exp(logp - old)
        held = ratio > 1 + high if advantage > 0 else ratio < 1 - low
        held = held or (dual is not None and advantage < 0 and ratio > dual)
        out.append(0.0 if held else -advantage * ratio)
    return out


def gspo_pull(
    row: Row, advantages: Sequence[float], low: float = 3e-4, high: float = 4e-4
) -> list[float]:
    """The slope of the sum of `gspo` over the row's tokens in each log π; A is one for all."""
    ratio = math.exp(mean([a - b for a, b in zip(row.logps, row.old, strict=True)]))
    held = ratio > 1 + high if advantages[0] > 0 else ratio < 1 - low
    return [0.0 if held else -advantages[0] * ratio] * row.length


def cispo_pull(
    row: Row, advantages: Sequence[float], low: float | None = None, high: float = 4.0
) -> list[float]:
    """The slope of `cispo`: no gradient goes through the weight."""
    losses = cispo(row, advantages, low, high)
    return [loss / logp for loss, logp in zip(losses, row.logps, strict=True)]


def reinforce_pull(row: Row, advantages: Sequence[float]) -> list[float]:
    return [-a for a in advantages]


PULLS: dict[str, Callable[..., list[float]]] = {
    "ppo_clip": lambda row, a, clip=0.2, dual=None: clip_pull(row, a, clip, clip, dual),
    "clip_higher": clip_pull,
    "gspo": gspo_pull,
    "cispo": cispo_pull,
    "reinforce": reinforce_pull,
}


def value_loss(value: float, old: float, target: float, clip: float | None = 0.2) -> float:
    """Half the worse of the squared errors of the value and of the value held near the old one."""
    near = value if clip is None else min(max(value, old - clip), old + clip)
    return max((value - target) ** 2, (near - target) ** 2) / 2


# ---- reductions


def reduced(each: Sequence[Sequence[float]], how: str, longest: int = 1) -> float:
    """One number of the losses a token of the rows of a mini-batch."""
    if how == "token_mean":
        return math.fsum(x for row in each for x in row) / sum(len(row) for row in each)
    if how == "answer_mean":
        return mean([mean(row) for row in each])
    if how == "fixed_length":
        return math.fsum(x for row in each for x in row) / (len(each) * longest)
    raise ValueError(how)
