"""Drift of a judge over the rounds of a loop, and the limits that stop it.

A loop that trains on its own judge's labels amplifies the judge's biases: the answers grow longer,
or please one judge and no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from siftune.curate.judge_stats.intervals import Estimate

__all__ = ["Drift", "Limits", "Round", "measure_drift"]


@dataclass(frozen=True)
class Round:
    """Figures of one round, each with its interval; None where it was not measured.

    ``length`` is the mean length of the answers (any unit, the same in all rounds), ``position``
    `PositionBias.bias`, ``self_preference`` `SelfPreference.bias`, ``agreement`` the kappa with a
    second judge that no model is trained on.
    """

    length: Estimate | None = None
    position: Estimate | None = None
    self_preference: Estimate | None = None
    agreement: Estimate | None = None


@dataclass(frozen=True)
class Limits:
    """How far a figure may move from the first round; None is no limit.

    ``length`` is a ratio of growth, ``position`` and ``self_preference`` an increase away from 0,
    ``agreement`` a loss.
    """

    length: float | None = 1.5
    position: float | None = 0.1
    self_preference: float | None = 0.1
    agreement: float | None = 0.1


@dataclass(frozen=True)
class Drift:
    """Whether to stop, and a sentence for each figure that is the reason or moved.

    ``changes`` has the change of each figure from the first round to the last, with its interval:
    of ``length`` the ratio, of the others the difference (for the two biases, of their sizes).
    """

    stop: bool
    reasons: tuple[str, ...]
    changes: Mapping[str, Estimate]

    def __str__(self) -> str:
        if self.stop:
            return "stop: " + "; ".join(self.reasons)
        return "go on: no figure is beyond its limit"


_NAMES: Final = {
    "length": "answers grew to {value} times their length in round 1",
    "position": "the position bias grew by {value}",
    "self_preference": "the self-preference grew by {value}",
    "agreement": "the kappa with the second judge fell by {value}",
}


def measure_drift(rounds: Sequence[Round], limits: Limits | None = None) -> Drift:
    """Compare the last round with the first.

    A figure stops the loop when its change is beyond the limit and its interval excludes no change:
    so neither noise alone nor a sure but small change does. The rounds' samples are taken as
    independent (Welch's difference of two estimates).

    >>> before = Round(agreement=Estimate(0.70, 0.66, 0.74, 400, 400))
    >>> after = Round(agreement=Estimate(0.45, 0.39, 0.51, 400, 400))
    >>> print(measure_drift([before, after]))
    stop: the kappa with the second judge fell by 0.250 (0.178 … 0.322), the limit is 0.1
    """
    limits = limits or Limits()
    changes: dict[str, Estimate] = {}
    reasons: list[str] = []
    for name, first, last in _pairs(rounds):
        change = _change(name, first, last)
        changes[name] = change
        limit = getattr(limits, name)
        none = 1.0 if name == "length" else 0.0
        if limit is not None and change.value > limit and change.low > none:
            sentence = _NAMES[name].format(value=change)
            reasons.append(f"{sentence}, the limit is {limit:g}")
    return Drift(bool(reasons), tuple(reasons), changes)


def _pairs(rounds: Sequence[Round]) -> Iterable[tuple[str, Estimate, Estimate]]:
    for field in fields(Round):
        first, last = getattr(rounds[0], field.name), getattr(rounds[-1], field.name)
        if len(rounds) > 1 and first is not None and last is not None:
            yield field.name, first, last


def _change(name: str, first: Estimate, last: Estimate) -> Estimate:
    """The change in the direction that is bad."""
    if name == "length":
        ratio = _difference(_mapped(last, _log), _mapped(first, _log))
        return _mapped(ratio, math.exp)
    if name == "agreement":
        return _difference(first, last)
    return _difference(_size(last), _size(first))


def _log(value: float) -> float:
    return math.log(max(value, 1e-9))


def _size(bias: Estimate) -> Estimate:
    """A bias as one that is positive."""
    if bias.value >= 0:
        return bias
    return replace(bias, value=-bias.value, low=-bias.high, high=-bias.low)


def _mapped(one: Estimate, by: Callable[[float], float]) -> Estimate:
    return replace(one, value=by(one.value), low=by(one.low), high=by(one.high))


def _difference(first: Estimate, second: Estimate) -> Estimate:
    """First less second; Newcombe's 1998 interval, of two whose intervals need not be symmetric."""
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    rows, prompts = min(first.rows, second.rows), min(first.prompts, second.prompts)
    return Estimate(value, value - below, value + above, rows, prompts)
