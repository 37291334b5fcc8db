"""The exact expected update of a group's advantages on a bandit, in plain loops, and its zero.

A bandit: K one-token answers with known rewards. The update of the logits is the sum over all
groups of G answers, each with its probability, of the mean of ``A_i ∇log π(y_i)``, less
``β ∇KL`` where KL is in the loss.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from tests.finetune.rl.slow import Row

__all__ = ["expected_update", "softmax", "zero_of"]

Advantages = Callable[[Sequence[Row]], list[list[float]]]


def softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    each = [math.exp(one - top) for one in logits]
    return [one / sum(each) for one in each]


def expected_update(
    policy: Sequence[float],
    reference: Sequence[float],
    scores: Sequence[float],
    size: int,
    advantages: Advantages,
    beta: float,
    kl: str,
) -> list[float]:
    """By logit; ``kl``: ``reward`` (k1), ``k2`` or ``k3`` in the loss, or ``none``."""
    arms = range(len(policy))
    logs = [math.log(p / q) for p, q in zip(policy, reference, strict=True)]
    earned = [r - beta * d if kl == "reward" else r for r, d in zip(scores, logs, strict=True)]
    update = [0.0 for _ in arms]
    for group in itertools.product(arms, repeat=size):
        chance = math.prod(policy[a] for a in group)
        found = advantages([Row(scores[a], [earned[a]], 0) for a in group])
        for a, (worth,) in zip(group, found, strict=True):
            for b in arms:
                update[b] += chance * worth * ((a == b) - policy[b]) / size
    middle = math.fsum(p * d for p, d in zip(policy, logs, strict=True))
    for a in arms:
        if kl == "k3":  # ∇KL(π_ref ‖ π)
            update[a] -= beta * (policy[a] - reference[a])
        elif kl == "k2":  # of one-token answers it is ∇KL(π ‖ π_ref)
            update[a] -= beta * policy[a] * (logs[a] - middle)
    return update


def zero_of(
    reference: Sequence[float],
    scores: Sequence[float],
    size: int,
    advantages: Advantages,
    beta: float,
    kl: str,
) -> list[float]:
    """The policy at which `expected_update` is 0, by natural gradient from the reference on."""
    logits = [math.log(one) for one in reference]
    known: dict[tuple[float, ...], list[list[float]]] = {}

    def remembered(rows: Sequence[Row]) -> list[list[float]]:
        key = tuple(row.whole for row in rows)
        if key not in known:
            known[key] = advantages(rows)
        return known[key]

    for _ in range(2000):
        policy = softmax(logits)
        update = expected_update(policy, reference, scores, size, remembered, beta, kl)
        if max(map(abs, update)) < 1e-13:
            return policy
        logits = [z + 0.3 * u / p / beta for z, u, p in zip(logits, update, policy, strict=True)]
    raise ArithmeticError(f"no zero was found: {update}")
