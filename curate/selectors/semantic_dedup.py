"""Drop near-duplicates by cosine of embeddings; each dropped row names its survivor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl

from siftune.curate.core.progress import log_metrics
from siftune.curate.core.ranges import ColumnExpression, Natural, PositiveShare, check_ranges
from siftune.curate.dedup.cover_rule import (
    best_first,
    duplicate_decisions,
    naming_guarded,
    ranking_columns,
)
from siftune.curate.dedup.default_rule import RowSides
from siftune.curate.dedup.reference_rows import check_against, naming_reference, reference_rows
from siftune.curate.dedup.semantic_rule import FactGuard, whole_first
from siftune.curate.files.source_spec import SourceOption
from siftune.curate.models.precision import Precision
from siftune.curate.rows.chat import Part
from siftune.curate.rows.columns import Reader, base_column, sortable
from siftune.curate.rows.expressions import reads_of
from siftune.curate.vectors.cosine_neighbors import Dtype, cover_vectors, products
from siftune.curate.vectors.ivf_neighbors import cover_clustered
from siftune.curate.vectors.unit_vectors import vector_column, vectors_of

__all__ = ["SemanticDedup"]

_DTYPES: Final[Mapping[Precision, Dtype]] = {
    "auto": "auto",
    "fp32": "float32",
    "bf16": "bfloat16",
}


@dataclass(frozen=True)
class SemanticDedup:
    """Near-duplicates by cosine similarity of the embeddings in column ``embedding``.

    From best to worst, a row is dropped if a row kept before it has a cosine of at least
    ``threshold``. So every dropped row names such a survivor, and no two survivors are that
    similar: exactly up to ``exact_to`` rows, among more for the share ``recall`` of pairs or
    better, at 95 % confidence by a sample of rows (rows are compared with those of the nearest
    clusters, for which faiss is needed, or with all where pairs are too rare for a sample; the
    manifest has the share).

    Rows of a source preferred more survive, then the best score ``by``; without a score the whole
    row, as in `minhash_dedup` (not one that is cut off, or has words around its answer; then the
    longest), or without a guard the one of the smaller digest. Up to ``exact_to`` rows the
    decisions are the same in every ``precision``. A row without an embedding is kept as
    ``not_scored``.

    Prompts that differ in a number, a name or a negation have nearly equal vectors. So a guard
    compares the texts of each similar pair (`curate.dedup.row_guard`): rows are no duplicates if
    their prompts have other numbers (in digits) or negations, or if both prompts, or both answers,
    have a number or a name that the other lacks. A row that is kept because of it has the reason
    ``kept_by_guard``, with the most similar of these rows and the cosine in the detail, and the
    manifest has the number of such rows. Names and negations are found in English texts. With
    ``guard: none`` cosines alone decide.

    A row near one of ``against`` (a rows table or run folder that has the column ``embedding``) is
    dropped as ``semantic_duplicate_of_reference``.

    Where there is a column of the same name with ``_cut`` behind it (`embedding_cut`), the manifest
    and the last line have ``dropped_on_truncated_text``: the number of dropped rows whose text, or
    whose survivor's, was cut by the model's window. With ``long: pool`` the scorer `embedding` cuts
    nothing.

    Not for prompts that differ in another word alone, such as a colour or a unit: their vectors are
    nearly the same.

    Options:
        embedding: Column with the embeddings, such as the scorer `embedding` adds.
        threshold: Cosine similarity, up to 1, from which on two rows are duplicates.
        by: Column with a score by which, of duplicates, the best row survives, or an expression of
            columns; none takes the whole one, or without a guard the smaller digest.
        descending: Take larger values of ``by`` as better; false takes smaller ones.
        prefer_source: Sources whose rows survive those of all others, the first source first.
        guard: Text in which numbers, names and negations must agree: every turn (both), the prompt,
            the response, or none; that of the embedding.
        precision: Number format that similarities are computed in: fp32, bf16, or the faster one
            here (auto).
        exact_to: Largest number of rows of which all pairs are compared; among more, pairs are
            searched in near clusters.
        recall: Smallest share of duplicate pairs to find among more rows than ``exact_to``.
        against: Reference rows, a file, a run folder or {path, format, map}: rows that duplicate
            one of them are dropped.
    """

    embedding: str = "embedding"
    threshold: PositiveShare = 0.9
    by: ColumnExpression | None = None
    descending: bool = True
    prefer_source: tuple[str, ...] = ()
    guard: Part | Literal["none"] = "both"
    precision: Precision = "auto"
    exact_to: Natural = 200_000
    recall: PositiveShare = 0.99
    against: SourceOption | None = None

    renamed: ClassVar = (("dtype", "precision"), ("rank_by", "by"))

    def __post_init__(self) -> None:
        check_against(self.against)
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The embeddings, the content for the guard, and the column that ranks."""
        content = () if self.guard == "none" else ("content",)
        return (
            base_column(self.embedding),
            *content,
            *ranking_columns(self.by, self.prefer_source),
        )

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings, and the column that ranks."""
        return ((self.embedding, vector_column), *reads_of(self.by, sortable))

    @property
    def reads_reference(self) -> tuple[tuple[str, Reader], ...]:
        """The embeddings of the reference."""
        return ((self.embedding, vector_column),)

    @property
    def wants(self) -> tuple[str, ...]:
        """The share of each text beyond the model's window."""
        return (self._cut,)

    @property
    def _cut(self) -> str:
        return f"{base_column(self.embedding)}_cut"

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row; ``detail`` of a dropped one is ``{"similarity", "survivor"}``.

        Where the survivor is a reference row, ``reference`` is the path of ``against``.
        """
        reference, fixed = reference_rows(self.against), 0
        sides = None if self.guard == "none" else RowSides.of((table, reference), self.guard)
        rows, units = self._ranked(table, sides)
        if reference.height:
            known = vectors_of(reference, self.embedding)
            units, fixed = np.concatenate([known.units, units]), len(known.rows)
            rows = np.concatenate([known.rows + table.height, rows])
        exact = len(units) <= self.exact_to
        engine = products(_DTYPES[self.precision], len(units), small=not exact)
        allowed = FactGuard(sides, rows) if sides is not None else None
        if exact:
            cover = cover_vectors(units, self.threshold, engine, fixed, allowed)
        else:
            cover, _ = cover_clustered(units, self.threshold, engine, self.recall, fixed, allowed)
        dropped = np.flatnonzero(cover.survivor >= 0)
        if self._cut in table.columns:
            cut = np.concatenate([_truncated(each, self._cut) for each in (table, reference)])
            pairs = rows[np.stack([dropped, cover.survivor[dropped]])]
            log_metrics(dropped_on_truncated_text=int(cut[pairs].any(axis=0).sum()))
        unscored = np.delete(np.arange(table.height), rows[fixed:])
        decisions = duplicate_decisions(
            table["id"],
            rows[dropped],
            rows[cover.survivor[dropped]],
            cover.similarity[dropped],
            "semantic_duplicate",
            (unscored, "not_scored"),
            reference["id"],
        )
        if allowed is not None:
            decisions = naming_guarded(decisions, table["id"].append(reference["id"]), rows, cover)
        return naming_reference(decisions, self.against)

    def _ranked(self, table: pl.DataFrame, sides: RowSides | None) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and unit vectors, best first."""
        found = vectors_of(table, self.embedding)
        more: list[pl.Series] = []
        if self.by is None and sides is not None and self.guard != "none":
            more = [each.gather(found.rows) for each in whole_first(table, sides, self.guard)]
        if self.by is None and not self.prefer_source and not more:
            return found.rows, found.units
        better = self.descending or bool(more)
        prefer = self.prefer_source
        order = best_first(table, found.rows, self.by, prefer, descending=better, more=more)
        return found.rows[order], found.units[order]


def _truncated(table: pl.DataFrame, cut: str) -> np.ndarray:
    """Which rows have a text that was cut; none where the column is missing."""
    if cut not in table.columns:
        return np.zeros(table.height, np.bool_)
    return table.select((pl.col(cut) > 0).fill_null(False)).to_series().to_numpy()
