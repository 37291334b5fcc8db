"""Results of an arena: every arm beside `random`, paired, with intervals and corrected p-values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.curate.files.atomic import read_json
from siftune.pipelines.arena.recipe import REFERENCE, Arena
from siftune.pipelines.arena.statistics import (
    Components,
    Difference,
    arm_mean,
    components_of,
    holm,
    paired_difference,
    power,
    seeds_needed,
)

__all__ = ["Line", "arm_name", "compare", "comparisons_of", "powers", "results_of"]

Floats = npt.NDArray[np.float64]
_ALPHA: Final = 0.05


def arm_name(method: str, budget: str, seed: int) -> str:
    """The name of an arm, and of its folder.

    >>> arm_name("ifd", "150 rows", 0)
    'ifd-150rows-seed0'
    """
    return f"{method}-{budget.replace(' ', '')}-seed{seed}"


@dataclass(frozen=True)
class Line:
    """One measure of a method at a budget: its mean, and its difference from `random`.

    ``by_template`` are the smallest and the largest difference under one template. ``adjusted`` is
    Holm's p-value among all tested comparisons, None where the measure is not tested;
    ``together`` the interval that holds for all of these at once. ``better`` is the direction that
    is good.
    """

    measure: str
    budget: str
    method: str
    mean: float
    reference: float
    difference: Difference
    by_template: tuple[float, float]
    better: str
    tested: bool
    adjusted: float | None = None
    together: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """What may be concluded, in words."""
        found = self.difference
        if found.p is None:
            return found.why
        if not self.tested:
            return "not tested"
        if self.adjusted is None or self.adjusted >= _ALPHA:
            return "not significant"
        if self.better == "neither":
            return "different"
        return "better" if (found.effect < 0) == (self.better == "lower") else "worse"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        found = self.difference
        share = found.effect / abs(self.reference) if self.reference else None
        return {
            "measure": self.measure,
            "budget": self.budget,
            "method": self.method,
            "mean": self.mean,
            "random": self.reference,
            "difference": found.effect,
            "low": found.low,
            "high": found.high,
            "share_of_random": share,
            "p": found.p,
            "holm": self.adjusted,
            "corrected": self.together,
            "by_template": self.by_template,
            "seeds": found.seeds,
            "prompts": found.prompts,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class _Table:
    """Values of one arm (seeds, templates, prompts) and the weights of the prompts."""

    values: Floats
    weights: Floats | None

    @property
    def averaged(self) -> Floats:
        """Means over templates (seeds, prompts); NaN where one is missing."""
        return np.asarray(self.values.mean(axis=1))


def comparisons_of(arena: Arena) -> int:
    """How many comparisons with `random` the recipe tests, whether they are measured or not."""
    return len(set(arena.tested)) * len(arena.budgets) * (len(arena.arms) - 1)


def results_of(
    arena: Arena, folder: Path, ids: Mapping[str, Sequence[str]], done: Collection[str] | None
) -> list[Line]:
    """The lines of all measures, of the arms and seeds that are measured in ``folder``.

    ``ids`` are the held-out rows of each set, ``done`` the names of the arms whose values are those
    of this recipe; None takes all that have the same rows and templates, for a plan.
    """
    measured = _Measured(folder, ids, len(arena.templates), done)
    lines = []
    for name, held in arena.heldout.items():
        for measure in held.measures:
            label = f"{name}/{measure.label}"
            better = str(getattr(measure.made(), "better", "higher"))
            for budget in arena.budgets:
                lines += _lines(arena, measured, label, budget, better)
    return _corrected(lines, comparisons_of(arena))


def _lines(arena: Arena, measured: _Measured, label: str, budget: str, better: str) -> list[Line]:
    arms = {
        method: {
            seed: one
            for seed in arena.seeds
            if (one := measured.read(method, budget, seed, label)) is not None
        }
        for method in arena.arms
    }
    found = []
    for method, by_seed in arms.items():
        seeds = [seed for seed in by_seed if seed in arms[REFERENCE]]
        if method != REFERENCE and seeds:
            own, other = (
                _stacked([group[s] for s in seeds]) for group in (by_seed, arms[REFERENCE])
            )
            found.append(compare(label, budget, method, own, other, better, label in arena.tested))
    return found


def compare(
    measure: str,
    budget: str,
    method: str,
    own: _Table,
    other: _Table,
    better: str = "higher",
    tested: bool = True,
) -> Line:
    """One method beside another on the same seeds, templates and prompts."""
    difference = paired_difference(own.averaged, other.averaged, own.weights)
    each = [
        paired_difference(own.values[:, at], other.values[:, at], own.weights).effect
        for at in range(own.values.shape[1])
    ]
    both = np.where(np.isfinite(own.averaged) & np.isfinite(other.averaged), 0.0, np.nan)
    return Line(
        measure,
        budget,
        method,
        arm_mean(own.averaged + both, own.weights),
        arm_mean(other.averaged + both, own.weights),
        difference,
        (min(each), max(each)),
        better,
        tested,
    )


def _corrected(lines: Sequence[Line], family: int = 0) -> list[Line]:
    """The lines with Holm's p-values among the ``family`` of all comparisons of the recipe.

    A comparison that is not measured yet counts as one whose p-value is 1.
    """
    tested = [at for at, one in enumerate(lines) if one.tested and one.difference.p is not None]
    family = max(family, len(tested))
    known = [lines[at].difference.p for at in tested]
    adjusted = dict(zip(tested, holm([*known, *[1.0] * (family - len(known))]), strict=False))
    return [
        Line(
            **{
                **vars(one),
                "adjusted": adjusted.get(at),
                "together": one.difference.corrected(family) if at in adjusted else None,
            }
        )
        for at, one in enumerate(lines)
    ]


@dataclass(frozen=True)
class _Measured:
    """Values in the folder ``folder`` of the arms ``done``, of these held-out rows by set."""

    folder: Path
    ids: Mapping[str, Sequence[str]]
    templates: int
    done: Collection[str] | None

    def read(self, method: str, budget: str, seed: int, label: str) -> _Table | None:
        """Values of one measure of an arm; None where there are none of this recipe."""
        name, (rows, _, measure) = arm_name(method, budget, seed), label.partition("/")
        path = self.folder / f"arm-{name}" / f"{rows}.{measure}.json"
        if not path.is_file() or (self.done is not None and name not in self.done):
            return None
        facts = read_json(path)
        if facts["ids"] != [*self.ids[rows]] or len(facts["values"]) != self.templates:
            return None
        values = np.array(facts["values"], dtype=np.float64)
        weights = facts["weights"]
        return _Table(values, None if weights is None else np.array(weights, dtype=np.float64))


def _stacked(tables: Sequence[_Table]) -> _Table:
    return _Table(np.stack([one.values for one in tables]), tables[0].weights)


def powers(arena: Arena, lines: Sequence[Line], prompts: Mapping[str, int]) -> dict[str, Any]:
    """Power of each tested measure for a difference of ``arena.detect`` of the mean of `random`.

    Variances are those measured so far, else the expected ones of the recipe; ``prompts`` are the
    held-out rows of each set. ``seeds`` is how many would be needed for a power of .8, None where
    60 are too few.
    """
    comparisons = comparisons_of(arena)
    found: dict[str, Any] = {}
    for label in arena.tested:
        own = [one for one in lines if one.measure == label and one.difference.squares is not None]
        parts, source = _expected(arena), "expected"
        if own:
            scaled = [(one, abs(one.reference)) for one in own if one.reference]
            parts = components_of([one.difference for one, _ in scaled])
            mean = float(np.mean([scale for _, scale in scaled])) if scaled else 0.0
            parts = None if parts is None or not mean else _over(parts, mean**2)
            source = "measured"
        if parts is None:
            found[label] = {"known": False, "comparisons": comparisons}
            continue
        size = max(2, prompts[label.partition("/")[0]])
        seeds = len(arena.seeds)
        chance = power(parts, seeds, size, arena.detect, comparisons) if seeds > 1 else 0.0
        found[label] = {
            "known": True,
            "variances": source,
            "sd": {name: float(np.sqrt(getattr(parts, name))) for name in _PARTS},
            "comparisons": comparisons,
            "difference": arena.detect,
            "seeds": seeds,
            "prompts": size,
            "power": chance,
            "seeds_needed": seeds_needed(parts, size, arena.detect, comparisons),
        }
    return found


_PARTS: Final = ("seeds", "prompts", "rest")


def _expected(arena: Arena) -> Components | None:
    if not arena.expect:
        return None
    return Components(*(arena.expect[name] ** 2 for name in _PARTS))


def _over(parts: Components, square: float) -> Components:
    return Components(*(getattr(parts, name) / square for name in _PARTS))
