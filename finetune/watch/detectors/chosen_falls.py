"""Preference training that unlearns the better answers: margins rise, chosen log-probs fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.ranges import NonNegative
from siftune.finetune.watch.evidence import Evidence, all_of, drift
from siftune.finetune.watch.history import History

__all__ = ["ChosenFalls"]


@dataclass(frozen=True)
class ChosenFalls:
    """The margin of the rewards rises while the log-probability of the chosen answers falls.

    Likelihood displacement (Razin et al., arXiv:2410.08847; Pal et al., arXiv:2402.13228): the
    probability moves to answers that are in no pair. A small fall is what most losses on pairs do.

    Options:
        relative: Fall of the chosen log-probability, as a share of that at the start, that is
            allowed.
    """

    relative: NonNegative = 0.2

    trainers: ClassVar = ("preference",)
    message: ClassVar = "margins rise while the chosen answers become less likely"

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step; None without pairs."""
        margins, chosen = history.points("margins"), history.points("logps_chosen")
        if not margins or not chosen:
            return None
        return all_of(drift(margins), drift(chosen, relative=self.relative, down=True))
