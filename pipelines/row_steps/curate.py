"""Score and select rows that an earlier step made, by the stages of a curate recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from siftune.curate.core.ranges import Seed
from siftune.curate.core.schema import KINDS
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import Recipe, parse

__all__ = ["Curate"]


@dataclass(frozen=True)
class Curate:
    """Rows through the ``stages`` of a curate recipe; the folder is that of `siftune curate run`.

    A scorer among them may name a model of the pipeline: ``model: step:sft``.

    Options:
        stages: List of stages, as in a recipe of `siftune curate run`.
    """

    stages: list[dict[str, Any]] = field(default_factory=list)
    seed: Seed = 0

    reads: ClassVar = KINDS
    makes: ClassVar = None  # the kind that it reads

    def check_options(self) -> None:
        """Refuse a wrong stage before anything runs."""
        self.recipe("rows.parquet")

    def __call__(self, rows: Path, out: Path) -> Mapping[str, Any]:
        """Write the run folder ``out``; returns its manifest."""
        return run(self.recipe(str(rows)), out).manifest

    def recipe(self, source: str) -> Recipe:
        """The recipe of the stages, of a source."""
        return parse({"source": source, "seed": self.seed, "stages": self.stages})
