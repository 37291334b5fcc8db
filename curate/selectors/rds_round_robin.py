"""RDS+: the rows nearest to a target set, each target taking its next one in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.dedup.reference_rows import check_against, reference_rows
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.columns import Reader, base_column, values
from siftune.curate.rows.decisions import decide, decide_some, details
from siftune.curate.vectors.unit_vectors import exact_products, vector_column, vectors_of

__all__ = ["RdsRoundRobin"]


@dataclass(frozen=True, kw_only=True)
class RdsRoundRobin(Budget):
    """Each target in turn takes its most similar row that is not yet taken (arXiv:2503.01807).

    Similarity is the cosine of the vectors in ``embedding``, which both the rows and the targets
    have: the scorer `rds` (RDS+), or `embedding`. The targets are a scored table of ours, such as
    the run folder of the target set with the same scorer under the same model. With ``tasks`` the
    similarity to a task is the largest one to its targets, and the tasks take turns, as the paper
    does with several target sets. Larger is nearer (the default of the paper's code has the wrong
    sign for cosines). All comparisons are exact, and ties go to the smaller digest.

    A row without a vector, or of unknown length where tokens are counted, is ``not_scored``; one
    that no target took within the budget is ``over_quota``. Detail: the ``target`` (or task) that
    took the row, or the nearest one, the ``similarity`` to it, and of a kept row its ``order``.

    Not for targets that you will test on, nor for a set without a target.

    Options:
        against: Target rows that have the vectors: a run folder, a table of ours, or {path,
            format, map}.
        embedding: Column with the vectors, in the rows and in the targets.
        tasks: Column of the targets with the name of each one's task, such as source; none makes
            each target take turns.
    """

    against: SourceOption
    embedding: str = "rds"
    tasks: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_against(self.against)

    @property
    def needs(self) -> tuple[str, ...]:
        """The vectors, and the column that counts tokens."""
        return (base_column(self.embedding), *super().needs)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The vectors, and the column that counts tokens."""
        return ((self.embedding, vector_column), *super().reads)

    @property
    def reads_reference(self) -> tuple[tuple[str, Reader], ...]:
        """The vectors of the targets, and their tasks."""
        tasks = () if self.tasks is None else ((self.tasks, values),)
        return ((self.embedding, vector_column), *tasks)

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Take rows in turn until the budget is spent."""
        vectors = vectors_of(table, self.embedding, self.known(table))
        if not len(vectors.rows):
            return decide([False] * table.height, "not_scored")
        names, targets = self._targets(vectors.units.shape[1])
        turns = _Turns(vectors.units, targets, self.limit(table.height))
        order, by = [], []
        left = self.cost_limit(table.height)
        costs = self.costs(table)[vectors.rows]
        for row, target in turns:
            left -= costs[row]
            if left < 0:
                break
            order.append(row)
            by.append(target)
        place = np.zeros(len(vectors.rows), dtype=np.int64)
        place[order] = np.arange(1, len(order) + 1)
        nearest, similarity = turns.nearest, turns.similarity
        nearest[order] = by
        similarity[order] = turns.similarity_of(order, by)
        particulars = pl.DataFrame(
            {
                "order": pl.Series(place).replace(0, None),
                "similarity": similarity,
                "target": names.gather(nearest),
            }
        )
        decided = pl.DataFrame(
            {"row": vectors.rows, "keep": place > 0, "detail": details(particulars)}
        ).with_columns(
            reason=pl.when("keep").then(pl.lit("selected")).otherwise(pl.lit("over_quota"))
        )
        return decide_some(table.height, decided)

    def _targets(self, width: int) -> tuple[pl.Series, list[np.ndarray]]:
        """The names of targets or tasks, and the vectors of each (m, d)."""
        given = reference_rows(self.against)
        path = SourceSpec.of(self.against, "against").path
        found = vectors_of(given, self.embedding)
        if not len(found.rows):
            raise DataError(f"rds_round_robin: {path}: no target has a vector in {self.embedding}")
        if found.units.shape[1] != width:
            raise DataError(
                f"rds_round_robin: {path}: the targets' vectors have {found.units.shape[1]} "
                f"numbers, those of the rows {width}: score both with the same model"
            )
        if self.tasks is None:
            return given["id"].gather(found.rows), list(found.units[:, None])
        task = values(given, self.tasks).cast(pl.String).fill_null("").gather(found.rows)
        names = task.unique().sort()
        return names, [found.units[(task == name).to_numpy()] for name in names]


@dataclass
class _Turns:
    """The rows that targets take in turn, with the number of the target; ``limit`` at most.

    Each target keeps only the head of its ranking, and ranks further when that is used up.
    """

    units: np.ndarray
    targets: list[np.ndarray]
    limit: int
    nearest: np.ndarray = field(init=False)
    similarity: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.nearest = np.zeros(len(self.units), dtype=np.int64)
        self.similarity = np.full(len(self.units), -np.inf)
        self._heads = []
        for at in range(len(self.targets)):
            scores = self._scores(at)
            nearer = scores > self.similarity
            self.nearest[nearer], self.similarity[nearer] = at, scores[nearer]
            self._heads.append(_best(scores, self._first))

    @cached_property
    def _first(self) -> int:
        return 8 + 2 * self.limit // len(self.targets)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        taken = np.zeros(len(self.units), dtype=bool)
        at = [0] * len(self.targets)
        for turn in range(min(self.limit, len(self.units))):
            target = turn % len(self.targets)
            row = self._next(target, at, taken)
            taken[row] = True
            yield row, target

    def _next(self, target: int, at: list[int], taken: np.ndarray) -> int:
        """The best row for ``target`` that is not taken; ``at`` is its place in each ranking."""
        while True:
            head = self._heads[target]
            if at[target] == len(head):
                head = self._heads[target] = _best(self._scores(target), 4 * len(head))
            row = int(head[at[target]])
            at[target] += 1
            if not taken[row]:
                return row

    def similarity_of(self, rows: list[int], targets: list[int]) -> np.ndarray:
        """The similarity of each row to the target that took it."""
        found = np.empty(len(rows))
        by = np.array(targets)
        for target in np.unique(by):
            places = np.flatnonzero(by == target)
            found[places] = _largest(self.units[np.array(rows)[places]], self.targets[target])
        return found

    def _scores(self, target: int) -> np.ndarray:
        return _largest(self.units, self.targets[target])


def _largest(units: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The largest product of each unit with one of ``targets``."""
    found: np.ndarray = exact_products(units, targets).max(axis=1)
    return found


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the ``count`` best scores or more, where some are equal; the first of equals."""
    at = np.arange(len(scores))
    if count < len(scores):
        at = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    found: np.ndarray = at[np.lexsort((at, -scores[at]))]
    return found
