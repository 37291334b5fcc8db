"""Alarms: which detectors have enough evidence, with one false alarm rate for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.watch.detectors.types import Detector
from siftune.finetune.watch.evidence import level
from siftune.finetune.watch.history import History

__all__ = ["DETECTORS", "FALSE_ALARMS", "Alarm", "Training", "alarms", "detectors_of", "strongest"]

DETECTORS: Final = "finetune.watch.detectors"
FALSE_ALARMS: Final = 0.05
"""Probability of any alarm in a run in which nothing is wrong, however long it is."""

Training: TypeAlias = Literal["sft", "preference", "reward", "rl"]


@dataclass(frozen=True)
class Alarm:
    """What is wrong, from which step on, and the step at which there was enough evidence."""

    detector: str
    step: int
    since: int
    log_evidence: float
    message: str
    phrase: str | None = None

    def __str__(self) -> str:
        """One line.

        >>> str(Alarm("length", 40, 22, 6.1, "the reward pays for length"))
        'step 40: the reward pays for length, since about step 22 (length)'
        """
        words = f' ("{self.phrase}")' if self.phrase else ""
        return (
            f"step {self.step}: {self.message}{words}, since about step {self.since} "
            f"({self.detector})"
        )

    def as_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def detectors_of(
    training: Training, given: Mapping[str, Mapping[str, Any] | None] | None = None
) -> dict[str, Detector]:
    """The detectors of a kind of training, by name, with options.

    ``given`` has the options of a detector by its name, None to leave one out, and may name a
    user's own (``path/file.py:NAME``).

    Raises:
        UsageError: no detector is called so, or it does not have that option.
    """
    given = given or {}
    own = [name for name in registry.usable(DETECTORS) if name not in given]
    asked = [name for name, options in given.items() if options is not None]
    for name in set(given) - set(asked):
        registry.find(DETECTORS, name)  # a wrong name is refused where it is left out, too
    built = {
        name: registry.build(DETECTORS, name, given.get(name) or {}) for name in [*own, *asked]
    }
    for name in asked:
        if training not in built[name].trainers:
            fits = ", ".join(built[name].trainers)
            raise UsageError(f"watch: the detector {name} is for {fits}, not for {training}")
    return {name: one for name, one in built.items() if training in one.trainers}


def alarms(
    history: History, detectors: Mapping[str, Detector], false_alarms: float = FALSE_ALARMS
) -> list[Alarm]:
    """The first alarm of each detector, in the order of their steps."""
    limit = level(false_alarms, max(len(detectors), 1))
    found = []
    for name, detector in detectors.items():
        evidence = detector(history)
        at = None if evidence is None else evidence.first(limit)
        if evidence is None or at is None:
            continue
        step = evidence.steps[at]
        phrase = _phrase(history, step) if name == "phrase" else None
        since, log_e = evidence.since[at], float(evidence.log_e[at])
        found.append(Alarm(name, step, since, log_e, detector.message, phrase))
    return sorted(found, key=lambda one: (one.step, one.detector))


def strongest(
    history: History, detectors: Mapping[str, Detector], false_alarms: float = FALSE_ALARMS
) -> float:
    """The most log evidence of a detector at the end of ``history``, as a share of an alarm's.

    >>> strongest(History(), {})
    0.0
    """
    found = [detector(history) for detector in detectors.values()]
    last = [float(one.log_e[-1]) for one in found if one is not None and len(one.log_e)]
    return max(last, default=0.0) / level(false_alarms, max(len(detectors), 1))


def _phrase(history: History, step: int) -> str | None:
    texts: Sequence[tuple[int, str]] = history.texts.get("phrase", [])
    return next((text for at, text in reversed(texts) if at <= step), None)
