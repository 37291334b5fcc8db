"""What a detector is, and the test that several of them are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Protocol

import numpy as np

from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.finetune.watch.evidence import Evidence, all_of, any_of, drift, e_process
from siftune.finetune.watch.history import History, Point

__all__ = ["PAID", "CheckedDetector", "Detector", "paid", "paid_and_rising"]

PAID: Final = 0.05
"""Correlation of a feature with the reward, among answers to one prompt, that counts as none."""


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
    no hack.
    """
    means, pays = history.points(name), history.points(f"paid/{name}")
    if not means or not pays:
        return None
    up = all_of(drift(means, room, relative, start=start), paid(pays, least))
    if not both_ways:
        return up
    return any_of(up, all_of(drift(means, room, relative, down=True), paid(pays, least, -1)))
