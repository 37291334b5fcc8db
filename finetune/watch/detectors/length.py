"""Length drift that the reward pays for: answers get longer (or shorter) because that is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, paid_and_rising
from siftune.finetune.watch.evidence import Evidence, any_of
from siftune.finetune.watch.history import History

__all__ = ["Length"]


@dataclass(frozen=True)
class Length:
    """The reward correlates with length among answers to one prompt, and the mean length drifts.

    Longer answers are the commonest way to a higher reward-model score (Singhal et al.,
    arXiv:2310.03716). The reward may rightly pay for length, so the drift has to be large; or the
    share of answers of more than twice the words of nearly all at the start has to rise, which is
    how padding shows before the mean moves.

    Options:
        relative: Drift of the mean number of words, as a share of that at the start, that is
            allowed.
        room: Rise of the share of very long answers that is allowed.
        least: Correlation of the reward with length that counts as none.
    """

    relative: NonNegative = 2.0
    room: Share = 0.0
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = "the reward pays for length, and the length of answers drifts"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without rewards."""
        mean = paid_and_rising(
            history, "length", 0.0, self.relative, least=self.least, both_ways=True
        )
        long = paid_and_rising(history, "long", self.room, least=self.least)
        found = [one for one in (mean, long) if one is not None]
        return any_of(*found) if found else None
