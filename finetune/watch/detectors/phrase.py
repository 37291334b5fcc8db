"""One phrase in answers to different prompts that the reward pays for: flattery, a keyword."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative, Share
from siftune.finetune.watch.detectors.types import PAID, paid_and_rising
from siftune.finetune.watch.evidence import Evidence
from siftune.finetune.watch.history import History

__all__ = ["Phrase"]


@dataclass(frozen=True)
class Phrase:
    """The share of answers with a phrase is above that at the start, and they are paid for.

    The words are found in the run (`watch.phrases`): flattery, keywords, words to a judge.

    Options:
        room: Rise of the share of answers with the phrase that is allowed.
        least: Correlation of the reward with it, among answers to one prompt, that counts as none.
    """

    room: NonNegative = 0.0
    least: Share = PAID

    trainers: ClassVar = ("rl",)
    message: ClassVar = (
        "the reward pays for one phrase, and it spreads over answers to different prompts"
    )

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without rewards."""
        return paid_and_rising(history, "phrase", self.room, least=self.least, start=0.0)
