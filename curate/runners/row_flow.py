"""How many rows each stage of a plan will be given: by budgets, quotas, trials and earlier runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from siftune.curate.io.containers import expand
from siftune.curate.runners.plan import Plan, Step
from siftune.curate.runners.prior_runs import Earlier
from siftune.curate.runners.timing import Sampled
from siftune.curate.runs.recipe import Recipe, component

__all__ = ["Between", "flow"]

_SLACK: Final = 1.5  # rows that are expected to be kept may turn out to be so many times as many


@dataclass(frozen=True)
class Between:
    """The rows that are expected, and the most that there can be."""

    least: int
    most: int


def flow(
    plan: Plan, rows: int, known: Mapping[int, Earlier], timed: Sampled | None
) -> list[Between]:
    """The rows that are given to each stage of ``plan``, and at the end to the outputs.

    ``rows`` are those that ingestion gives; ``known`` and ``timed`` are of earlier runs and trials.
    """
    left, found = Between(rows, rows), []
    sources = _sources(plan.recipe)
    for place, step in enumerate(plan.steps, 1):
        found.append(left)
        if step.spec.group == "select":
            made = component(step.spec, plan.recipe.seed)
            tried = timed if timed is not None and place in timed.places else None
            one = _Selector(made, step, place, sources, known.get(place), tried)
            left = one.leaves(left)
    return [*found, left]


def _sources(recipe: Recipe) -> int | None:
    """How many values the column ``source`` will have; None where tables of ours are read."""
    parts = [part for source in recipe.source for part in expand(source)]
    return None if any(part.container == "rows" for part in parts) else len(parts)


@dataclass(frozen=True)
class _Selector:
    """A selector of a plan, and what is known of it: from its options, a run, or trials."""

    made: Any
    step: Step
    place: int
    sources: int | None
    before: Earlier | None
    tried: Sampled | None

    def leaves(self, given: Between) -> Between:
        """The rows that it keeps."""
        if self.step.kept is not None:
            return Between(self.step.kept, self.step.kept)
        most = min(self._limit(given.most), self._bound(given.most))
        return Between(min(most, self._limit(given.least), self._expected(given.least)), most)

    def _limit(self, rows: int) -> int:
        """The most rows of so many, by its options."""
        known = hasattr(self.made, "most_kept")
        return int(self.made.most_kept(rows, self.sources)) if known else rows

    def _bound(self, rows: int) -> int:
        """The most rows of a token budget, or of quotas of values that nobody has counted."""
        if not hasattr(self.made, "most_kept") or self._limit(rows) < rows or self.tried is None:
            return rows
        tokens = getattr(self.made, "tokens", None)
        if tokens is None:
            return min(rows, math.ceil(_SLACK * self._expected(rows)))
        each = self.tried.tokens_a_row(self.place)
        return rows if each is None else min(rows, math.ceil(_SLACK * tokens / each))

    def _expected(self, rows: int) -> int:
        """The rows that it keeps of so many; all, where nothing is known of it."""
        if self.before is not None and self.before.kept is not None:
            return round(rows * self.before.kept / max(self.before.rows, 1))
        return rows if self.tried is None else round(self.tried.kept(self.place, rows))
