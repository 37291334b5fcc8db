"""The series of a run: of each step the means of what is watched, with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from siftune.curate.files.atomic import write_text

__all__ = ["WATCH_FILE", "History", "Point", "cut", "mean_point"]

WATCH_FILE: Final = "watch.jsonl"
"""One object a step: ``step``, ``series`` (name: mean, standard error, count) and ``texts``."""


@dataclass(frozen=True)
class Point:
    """A mean at a step; ``error`` is its standard error, None where it is not known."""

    step: int
    mean: float
    error: float | None = None
    count: int = 0


def mean_point(values: Sequence[float | None]) -> tuple[float, float | None, int] | None:
    """Mean, standard error and number of the values that are there; None where none is.

    >>> mean_point([1.0, None, 3.0])
    (2.0, 1.0, 2)
    """
    known = np.array([one for one in values if one is not None and math.isfinite(one)], float)
    if not len(known):
        return None
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
    return float(known.mean()), error, len(known)


@dataclass
class History:
    """All that was measured of a run, in order: what alarms are a pure function of."""

    series: dict[str, list[Point]] = field(default_factory=dict)
    texts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def add(
        self,
        step: int,
        means: Mapping[str, tuple[float, float | None, int] | float | None],
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Add what was measured at a step; a number alone has no standard error.

        None and numbers that are not finite are left out: they are no measurement.
        """
        for name, given in means.items():
            mean, error, count = given if isinstance(given, tuple) else (given, None, 0)
            if mean is not None and math.isfinite(mean):
                self.series.setdefault(name, []).append(Point(step, float(mean), error, count))
        for name, text in (texts or {}).items():
            self.texts.setdefault(name, []).append((step, text))

    def points(self, name: str) -> list[Point]:
        """The points of a series; none where it was not measured."""
        return self.series.get(name, [])

    def names(self, prefix: str) -> list[str]:
        """The names of the series that begin with ``prefix``."""
        return sorted(name for name in self.series if name.startswith(prefix))

    def since(self, step: int) -> History:
        """What was measured after ``step``."""
        return self._part(lambda at: at > step)

    def until(self, step: int) -> History:
        """What was measured up to ``step``."""
        return self._part(lambda at: at <= step)

    def _part(self, wanted: Callable[[int], bool]) -> History:
        series = {
            name: [point for point in points if wanted(point.step)]
            for name, points in self.series.items()
        }
        return History({name: points for name, points in series.items() if points}, self.texts)

    @classmethod
    def read(cls, path: Path, last: int | None = None) -> History:
        """The history of a file, up to the step ``last``; a line cut off while written is none."""
        found = cls()
        lines = path.read_bytes().splitlines() if path.is_file() else []
        for line in _parsed(lines):
            if last is None or line["step"] <= last:
                means = {name: tuple(one) for name, one in line["series"].items()}
                found.add(line["step"], means, line.get("texts"))
        return found

    def line(self, step: int) -> str:
        """What was measured at the last step that was added, as one line of the file."""
        at = {name: points[-1] for name, points in self.series.items() if points[-1].step == step}
        series = {name: [one.mean, one.error, one.count] for name, one in at.items()}
        texts = {name: one[-1][1] for name, one in self.texts.items() if one[-1][0] == step}
        line = {"step": step, "series": series, **({"texts": texts} if texts else {})}
        return orjson.dumps(line).decode() + "\n"


def cut(path: Path, last: int) -> None:
    """Forget what the file of a run that was cut off holds of the steps after ``last``."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    kept = [line for line in _parsed(lines) if line["step"] <= last]
    write_text(path, "".join(orjson.dumps(line).decode() + "\n" for line in kept))


def _parsed(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield dict(orjson.loads(line))
        except orjson.JSONDecodeError:
            return
