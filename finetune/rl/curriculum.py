"""Which prompts a run of RL draws, how often and in what order, by their pass rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from siftune.curate.core.ranges import Count, Share

__all__ = ["Curriculum", "Order", "PromptOrder"]

Order: TypeAlias = Literal["shuffled", "easy_first", "hard_first"]

_ORDER: Final = 0  # purpose of these random numbers, part of their seeds


@dataclass(frozen=True)
class PromptOrder:
    """The endless order in which prompts are drawn: one pass over ``places`` after another.

    ``places`` are numbers of prompts; one that is there twice is drawn twice in each pass. A pass
    is a permutation by ``seed`` and its number: nothing comes twice before all came once. With
    ``keys``, a number for each place, it is then sorted by them, smallest first; equal ones stay
    shuffled. ``total`` draws are a run's: its last pass, of which only some places are drawn, is
    sorted among these, so that it is from easy to hard as well. Any part of the order can be
    computed alone, so a resumed run draws what the unbroken one does.

    >>> PromptOrder((0, 1, 2), 0, keys=(0.5, 0.1, 0.9))(0, 6)
    [1, 0, 2, 1, 0, 2]
    """

    places: tuple[int, ...]
    seed: int
    keys: tuple[float, ...] | None = None
    total: int | None = None

    def __call__(self, start: int, take: int) -> list[int]:
        """``take`` prompts from position ``start`` on."""
        count = len(self.places)
        positions = range(start, start + take)
        passes = {number: self._pass(number) for number in {at // count for at in positions}}
        return [self.places[passes[at // count][at % count]] for at in positions]

    def draws_before(self, start: int) -> Counter[int]:
        """How often each prompt is drawn before position ``start``."""
        passes, rest = divmod(start, len(self.places))
        found = Counter(self(start - rest, rest))
        if passes:
            for place in self.places:
                found[place] += passes
        return found

    def _pass(self, number: int) -> list[int]:
        """The order of the places in a pass."""
        count = len(self.places)
        seed = (self.seed, _ORDER, number)
        order = np.random.default_rng([len(seed), *seed]).permutation(count)
        if self.keys is None:
            return [int(at) for at in order]
        drawn = count if self.total is None else self.total - number * count
        drawn = drawn if 0 < drawn < count else count
        keys = np.asarray(self.keys)[order]
        first = np.argsort(keys[:drawn], kind="stable")
        rest = drawn + np.argsort(keys[drawn:], kind="stable")
        return [int(at) for at in order[np.concatenate([first, rest])]]


@dataclass(frozen=True)
class Curriculum:
    """A choice of prompts and their order by pass rate.

    ``order`` sorts each pass over the prompts: ``easy_first`` by falling pass rate (curriculum
    learning; Bengio et al. 2009), ``hard_first`` by rising. Only prompts with ``low <= p <= high``
    are drawn. A prompt with ``0 < p < replay_below``, hard but not beyond the policy, is drawn
    ``replay_times`` times in each pass; one that never passes is not, because a group of equal
    scores teaches nothing.

    >>> Curriculum(replay_below=0.5, replay_times=3, low=0.1).order_of([0.2, 0.9, 0.0], 0).places
    (0, 0, 0, 1)
    """

    order: Order = "shuffled"
    low: Share | None = None
    high: Share | None = None
    replay_below: Share | None = None
    replay_times: Count = 3

    @property
    def reads_rates(self) -> bool:
        """Whether pass rates matter at all."""
        bounds = (self.low, self.high, self.replay_below)
        return self.order != "shuffled" or any(one is not None for one in bounds)

    def order_of(self, rates: Sequence[float], seed: int, total: int | None = None) -> PromptOrder:
        """The order of prompts with these rates in a run of ``total`` draws."""
        low, high = self.low or 0.0, 1.0 if self.high is None else self.high
        inside = [at for at, rate in enumerate(rates) if low <= rate <= high]
        places = tuple(at for at in inside for _ in range(self._times(rates[at])))
        if self.order == "shuffled":
            return PromptOrder(places, seed)
        sign = -1 if self.order == "easy_first" else 1
        return PromptOrder(places, seed, tuple(sign * rates[at] for at in places), total)

    def _times(self, rate: float) -> int:
        below = self.replay_below
        return self.replay_times if below is not None and 0 < rate < below else 1
