"""Batches one after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from siftune.curate.rows.conversation_views import score
from siftune.curate.rows.table import ROW
from siftune.curate.runs.recipe import Spec, component

__all__ = ["Local"]


@dataclass(frozen=True)
class Local:
    """The default runner; polars and the components use the machine's cores as they see fit."""

    def map(
        self, batches: Iterable[pl.DataFrame], spec: Spec, seed: int, cache: Path
    ) -> Iterator[pl.DataFrame]:
        """``_row``, ``id`` and the score columns of each batch, in order."""
        scorer = component(spec, seed, cache)
        for batch in batches:
            scores = score(scorer, batch, spec.sides, spec.turns)
            yield scores.insert_column(0, batch[ROW])
