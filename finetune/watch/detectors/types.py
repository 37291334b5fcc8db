"""What a detector is, and the test that several of them are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Protocol

import numpy as np

from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.finetune.watch.evidence import Evidence, all_of, any_of, drift, e_process
from siftune.finetune.watch.history import History, Point

__all__ = [
    "PAID",
    "CheckedDetector",
    "Detector",
    "fact_rises",
    "paid",
    "paid_and_rising",
    "unpaid_by_gold",
]

PAID: Final = 0.05
"""Correlation of a feature with the reward, among answers to one prompt, that counts as none."""


_GOLD: Final = 0.5
"""Part of what the reward pays for a feature that a gold score has to pay for it, too."""


class Detector(Protocol):
    """Reads the series of a run and gives the evidence, at each step, that one thing is wrong.

    ``trainers`` are the kinds of training in which that would be wrong: ``rl``, ``preference``,
    ``reward``, ``sft``. ``message`` is the sentence of the alarm.
    """

    trainers: ClassVar[Sequence[str]]
    message: ClassVar[str]

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step (`evidence.e_process`); None where what it reads was not measured."""


class _DetectorFunction(FunctionComponent):
    """A detector made from a function: in every training, with its first line as the message."""

    declared: ClassVar[Sequence[str]] = ("trainers", "message")
    trainers: ClassVar[Sequence[str]] = ("sft", "preference", "reward", "rl")
    message: ClassVar[str] = "a detector of your own has raised an alarm"

    def __call__(self, history: History) -> Any:
        return self._function(history, **self._options)


class CheckedDetector(Checked):
    """A user's own detector, whose answer is evidence or None."""

    required: ClassVar[Sequence[str]] = ("__call__",)
    function: ClassVar[type[FunctionComponent]] = _DetectorFunction
    defaults: ClassVar[type[Any]] = _DetectorFunction

    @classmethod
    def _complete(cls, made: Any) -> None:
        """Take the first line of a function's docstring as the message."""
        written = getattr(getattr(made, "_annotated", None), "__doc__", None)
        if written and issubclass(made, _DetectorFunction):
            made.message = str(written).strip().partition("\n")[0]

    def __call__(self, history: History) -> Evidence | None:
        """Evidence by step.

        Raises:
            UsageError: it is neither `Evidence` nor None.
        """
        own: Any = super().__call__  # type: ignore[misc]
        found = self._call(own, history)
        if found is not None and not isinstance(found, Evidence):
            raise self._refused(f"expected Evidence or None, got {type(found).__name__}")
        return found


def paid(points: Sequence[Point], least: float = PAID, sign: int = 1) -> Evidence:
    """Evidence that the reward pays for a feature: its correlation is above ``least``.

    ``sign`` -1: that it pays for less of it.
    """
    limit = float(np.arctanh(least))
    log_e, since = e_process([(sign * one.mean - limit) / (one.error or 1.0) for one in points])
    steps = [one.step for one in points]
    return Evidence(steps, log_e, [steps[at] for at in since])


def paid_and_rising(
    history: History,
    name: str,
    room: float,
    relative: float = 0.0,
    least: float = PAID,
    both_ways: bool = False,
    start: float | None = None,
) -> Evidence | None:
    """Evidence that the reward pays for a feature and that it rises (or that it falls).

    Each alone is no harm: a better answer may be longer, and a style that no reward asks for is
    no hack. Where answers have a gold score, that one has to pay less for the feature: what makes
    an answer better is rightly paid for.
    """
    means, pays = history.points(name), history.points(f"paid/{name}")
    golds = history.points(f"gold_paid/{name}")
    if not means or not pays:
        return None

    def one_way(sign: int) -> Evidence:
        moves = drift(means, room, relative, down=sign < 0, start=start)
        wrong = [unpaid_by_gold(pays, golds, sign)] if golds else []
        return all_of(moves, paid(pays, least, sign), *wrong)

    return any_of(one_way(1), one_way(-1)) if both_ways else one_way(1)


def unpaid_by_gold(pays: Sequence[Point], golds: Sequence[Point], sign: int = 1) -> Evidence:
    """Evidence that a gold score pays less than half of what the reward does for a feature.

    Both are correlations (Fisher's z). Their errors are added up, the most that they can come to
    together, as both are of the same answers. ``sign`` -1: for less of the feature.
    """
    reward = {point.step: point for point in pays}
    both = [(reward[gold.step], gold) for gold in golds if gold.step in reward]
    z = [
        sign * (_GOLD * own.mean - gold.mean) / (_GOLD * (own.error or 1.0) + (gold.error or 1.0))
        for own, gold in both
    ]
    log_e, since = e_process(z)
    steps = [gold.step for _, gold in both]
    return Evidence(steps, log_e, [steps[at] for at in since])


def fact_rises(history: History, fact: str, relative: float, least: float) -> Evidence | None:
    """Evidence that the mean of a fact of a reward rises, or the share of answers far above it.

    The latter have to be paid for. Of several rewards the evidence is the mean.
    """
    found = [
        one
        for name in history.names(fact)
        for one in (
            drift(history.points(name), relative=relative),
            paid_and_rising(history, f"high/{name}", 0.0, least=least),
        )
        if one is not None
    ]
    return any_of(*found) if found else None
