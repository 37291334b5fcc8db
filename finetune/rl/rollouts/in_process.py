"""Completions from the policy in this process, in batches of prompts of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from siftune.curate.text.sampling import Sampling, sample
from siftune.finetune.rl.rollouts.types import Draw, Sampled

__all__ = ["InProcess"]

_PADDED: Final = 1.5  # of the shortest prompt of a batch
_SHORT: Final = 32  # tokens: below that padding costs nothing


@dataclass(frozen=True)
class InProcess:
    """Each draw has random numbers of its own, so a completion does not depend on its batch.

    Prompts are padded to the longest of their batch. A batch holds prompts of at most 1.5 times the
    tokens of its shortest (or of 32), so one long prompt does not pad all others; that many short
    ones are answered together is what makes sampling fast.
    """

    sampling: Sampling

    def __call__(self, policy: Any, draws: Sequence[Draw]) -> Sampled:
        """A completion of each draw."""
        found: dict[int, list[int]] = {}
        for batch in _batches([len(draw.ids) for draw in draws]):
            prompts, seeds = [draws[at].ids for at in batch], [draws[at].seed for at in batch]
            found |= dict(zip(batch, sample(policy, prompts, self.sampling, seeds), strict=True))
        return Sampled([found[at] for at in range(len(draws))])


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of prompts of similar length, in their order.

    >>> list(_batches([40, 500, 10, 60, 700]))
    [[0, 2], [3], [1, 4]]
    """
    order = sorted(range(len(lengths)), key=lambda at: lengths[at])
    batch: list[int] = []
    for at in order:
        if batch and lengths[at] > _PADDED * max(lengths[batch[0]], _SHORT):
            yield sorted(batch)
            batch = []
        batch.append(at)
    if batch:
        yield sorted(batch)
