"""Stages that load a model, timed by themselves on very few rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final

from siftune.curate.core.errors import SiftuneError
from siftune.curate.runners.timing import Trial
from siftune.curate.runs.recipe import Recipe, Spec, component

__all__ = ["Loaded", "loads_model", "models_tried"]

_SIZES: Final = (8, 32, 128, 512)  # rows; the first trial loads the model, and is not believed
_SECONDS: Final = 2.0  # CPU seconds that a trial may be expected to take


@dataclass(frozen=True)
class Loaded:
    """What loading took, and then each of the ``rows`` of the last trial, in CPU seconds."""

    loading: float
    per_row: float
    rows: int

    @property
    def how(self) -> str:
        """How the rate was found."""
        return f"model loaded, timed on the first {self.rows:,} rows"

    def seconds(self, rows: int) -> float:
        """CPU seconds for so many rows."""
        return self.loading + self.per_row * rows


def loads_model(spec: Spec, seed: int) -> bool:
    """Whether a stage scores under a model."""
    return spec.group == "score" and "model" in component(spec, seed).__dataclass_fields__


def models_tried(
    recipe: Recipe, places: Iterable[int], rows: int, trial: Trial
) -> dict[int, Loaded]:
    """Each stage at one of ``places`` (1 is the first), by itself on the first rows of the source.

    What cannot be tried, since it reads what an earlier stage adds, is left out. The model stays
    loaded in this process, so that a run that follows does not load it again.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for at in places:
            with suppress(SiftuneError):
                found[at] = _tried(recipe, at, rows, trial, Path(folder))
    return found


def _tried(recipe: Recipe, at: int, rows: int, trial: Trial, folder: Path) -> Loaded:
    numbers = count()

    def took(size: int) -> float:
        alone = replace(recipe, limit=size, stages=(recipe.stages[at - 1],))
        manifest = trial(alone, folder / f"{at}-{next(numbers)}")
        return float(manifest["clock"][manifest["stages"][1]["stage"]]["cpu_seconds"])

    size, *larger = [size for size in _SIZES if size <= rows] or [rows]
    with_loading, spent = took(size), took(size)
    for more in larger:
        if spent * more / size > _SECONDS:
            break
        size, spent = more, took(more)
    return Loaded(max(0.0, with_loading - spent), spent / size, size)
