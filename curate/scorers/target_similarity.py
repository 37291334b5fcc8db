"""Similarity to a target set: largest and mean cosine to its rows, and the nearest of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.dedup.reference_rows import check_against, reference_rows
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.rows.columns import Reader, base_column
from siftune.curate.vectors.row_columns import of_rows
from siftune.curate.vectors.unit_vectors import exact_products, slices, vector_column, vectors_of

__all__ = ["TargetSimilarity"]

_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class TargetSimilarity:
    """Cosines of a row's vector and those of a set of target rows.

    * ``target_similarity``: the largest
    * ``target_similarity_mean``: the mean over all targets
    * ``target_similarity_nearest``: the id of the nearest target, of equal ones the smallest digest

    The largest finds rows for any one of the targets, the mean those that resemble all of them; a
    target set of several tasks has a mean that means little (arXiv:2503.01807 takes the largest, in
    turns: the selector `rds_round_robin`). The targets are a scored table of ours, such as the run
    folder of the target set, with the same scorer under the same model. Products are exact. A row
    without a vector has null.

    Not for targets that you will test on, nor for finding leaks: these are in `contamination`.

    Options:
        against: Target rows that have the vectors: a run folder, a table of ours, or {path,
            format, map}.
        embedding: Column with the vectors, in the rows and in the targets.
    """

    against: SourceOption
    embedding: str = "embedding"

    content: ClassVar = ("embedding",)
    data: ClassVar = "rows of any kind"
    adds: ClassVar = {
        "target_similarity": pl.Float64,
        "target_similarity_mean": pl.Float64,
        "target_similarity_nearest": pl.String,
    }

    def __post_init__(self) -> None:
        check_against(self.against)

    @property
    def needs(self) -> tuple[str, ...]:
        """The vectors, and the digests by which rows are ordered."""
        return (base_column(self.embedding), "digest")

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The vectors."""
        return ((self.embedding, vector_column),)

    @property
    def reads_reference(self) -> tuple[tuple[str, Reader], ...]:
        """The vectors of the targets."""
        return ((self.embedding, vector_column),)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Compare each row with every target."""
        vectors = vectors_of(batch, self.embedding)
        units, (ids, targets) = vectors.units, self._targets
        if len(units) and units.shape[1] != targets.shape[1]:
            raise DataError(
                f"target_similarity: the targets' vectors have {targets.shape[1]} numbers, those "
                f"of the rows {units.shape[1]}: score both with the same model"
            )
        largest, mean = np.empty(len(units)), np.empty(len(units))
        nearest = np.empty(len(units), dtype=np.int64)
        for part in slices(len(units), _BLOCK):
            cosines = exact_products(units[part], targets)
            nearest[part] = cosines.argmax(axis=1)
            largest[part] = cosines.max(axis=1)
            mean[part] = cosines.sum(axis=1) / len(targets)
        found = {
            "target_similarity": largest,
            "target_similarity_mean": mean,
            "target_similarity_nearest": ids.gather(nearest),
        }
        return of_rows(batch.height, vectors, found, self.adds)

    @cached_property
    def _targets(self) -> tuple[pl.Series, np.ndarray]:
        """Ids and unit vectors of the targets, in the order of digests."""
        given = reference_rows(self.against)
        found = vectors_of(given, self.embedding)
        if not len(found.rows):
            path = SourceSpec.of(self.against, "against").path
            raise DataError(f"target_similarity: {path}: no row has a vector in {self.embedding}")
        return given["id"].gather(found.rows), found.units
