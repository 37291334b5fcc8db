"""Random ragged rollouts: groups of unequal size, a lone answer, equal scores, one-token answers.

Each is made twice from the same numbers: as `slow.Row`, which has no padding, and as the tensors
of our code, with wrong numbers wherever no token was chosen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from siftune.finetune.advantages.types import Rewarded
from siftune.finetune.policy_losses.types import PolicyBatch
from tests.finetune.rl.slow import Row

__all__ = ["LONGEST", "Batch", "ragged"]

LONGEST = 7  # columns; no answer is that long, so all rows are padded

WRONG = 77.0
"""What stands where no token was chosen: no result may depend on it."""

GROUPS = (5, 5, 2, 5, 9, 2, 2, 7, 7, 7, 7)
"""Interleaved, of three, three, one (9) and four completions; those of 7 all score the same."""


@dataclass(frozen=True)
class Batch:
    """The rows, and where their tokens stand in tensors with ``LONGEST`` columns."""

    rows: list[Row]
    places: list[list[int]]

    @property
    def mask(self) -> Tensor:
        found = torch.zeros(len(self.rows), LONGEST, dtype=torch.bool)
        for at, places in enumerate(self.places):
            found[at, places] = True
        return found

    def spread(self, each: Sequence[Sequence[float]], elsewhere: float = WRONG) -> Tensor:
        """Numbers of the tokens as a tensor (B, T)."""
        found = torch.full((len(each), LONGEST), elsewhere, dtype=torch.float64)
        for at, (places, numbers) in enumerate(zip(self.places, each, strict=True)):
            found[at, places] = torch.tensor(list(numbers), dtype=torch.float64)
        return found

    def gathered(self, tensor: Tensor) -> list[list[float]]:
        """The numbers of the tokens of a tensor (B, T)."""
        return [row[places].tolist() for row, places in zip(tensor, self.places, strict=True)]

    def rewarded(self, critic: bool = True) -> Rewarded:
        return Rewarded(
            scores=torch.tensor([row.score for row in self.rows], dtype=torch.float64),
            rewards=self.spread([row.rewards for row in self.rows]),
            mask=self.mask,
            groups=torch.tensor([row.group for row in self.rows]),
            values=self.spread([row.values for row in self.rows]) if critic else None,
        )

    def policy(self, advantages: Sequence[Sequence[float]]) -> PolicyBatch:
        return PolicyBatch(
            logps=self.spread([row.logps for row in self.rows]).requires_grad_(),
            old_logps=self.spread([row.old for row in self.rows], -WRONG / 7),
            advantages=self.spread(advantages),
            mask=self.mask,
        )


def ragged(seed: int, gaps: bool = False, groups: Sequence[int] = GROUPS) -> Batch:
    """A rollout of the seed; with ``gaps`` a tool wrote some tokens between those of the policy."""
    draw = random.Random(seed)
    rows, places = [], []
    for at, group in enumerate(groups):
        length = 1 if at == 1 else draw.randint(1, LONGEST - 1)
        taken = sorted(draw.sample(range(LONGEST), length)) if gaps else list(range(length))
        score = 0.75 if group == GROUPS[-1] else draw.gauss(0, 1)
        kl = [0.0 if group == GROUPS[-1] else draw.gauss(0, 0.3) for _ in range(length)]
        rewards = [-0.4 * one for one in kl]
        rewards[-1] += score
        old = [draw.gauss(-2, 1) for _ in range(length)]
        rows.append(
            Row(
                score=score,
                rewards=rewards,
                group=group,
                values=[draw.gauss(0, 1) for _ in range(length)],
                logps=[one + draw.gauss(0, 0.5) for one in old],
                old=old,
            )
        )
        places.append(taken)
    return Batch(rows, places)
