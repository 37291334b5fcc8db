"""Projected gradients of rows at checkpoints of a warm-up, and of a target set at the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Count, Positive, PositiveShare, check_ranges
from siftune.curate.core.schema import kind_of
from siftune.curate.dedup.reference_rows import check_against, reference_rows
from siftune.curate.files.atomic import atomic_write, make_folder
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.lm.reference_chats import reference_chats
from siftune.curate.rows.columns import groups
from siftune.finetune.influence.adapted_model import AdaptedModel, Row, row_key, rows_digest
from siftune.finetune.influence.lora_training import (
    Checkpoint,
    LoraTraining,
    Work,
    answers_of,
    none_fits,
    pairs_of,
)
from siftune.finetune.influence.projection import Projection

__all__ = ["Influence", "Projected"]

Floats = npt.NDArray[np.float64]
_BYTES: Final = 2**29
"""Most memory of the gradients that are projected together."""
_ROWS: Final = 64  # the most of them
_PAIR: Final = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Projected:
    """Unit vectors ``(n, d)`` and the lengths ``(n,)`` they had; a vector of zeros has length 0."""

    units: Tensor
    lengths: Tensor

    @property
    def vectors(self) -> Tensor:
        """The vectors themselves."""
        return self.units * self.lengths[:, None]


@dataclass(frozen=True, kw_only=True)
class Influence(LoraTraining):
    """What scorers that compare gradients with those of a target set share.

    Options:
        against: Target rows: a file, a run folder, or {path, format, map}.
        loss: Loss whose gradients are compared: of an answer (sft), or of a pair (dpo).
        beta: Factor β of the DPO loss.
        warmup: Share of the rows that the adapter is trained on first.
        dimension: Numbers that a gradient is projected to; none keeps it whole.
        subtask: Column of the target rows that names their sub-task, such as extra.task: the score
            is the largest of theirs; none makes all of them one.
    """

    lr: Positive = 2e-4
    epochs: Count = 4
    batch_size: Count = 32
    against: SourceOption
    loss: Literal["sft", "dpo"] = "sft"
    beta: Positive = 0.1
    warmup: PositiveShare = 0.05
    dimension: Count | None = 8192
    subtask: str | None = None

    whole: ClassVar = True

    def __post_init__(self) -> None:
        check_against(self.against)
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """A conversation, or a pair."""
        return ("messages",) if self.loss == "sft" else _PAIR

    def _each(self, table: pl.DataFrame) -> list[Row | None]:
        """What the model is given of each row; None where there is no answer or it is too long."""
        return pairs_of(self, table) if self.loss == "dpo" else answers_of(self, table)

    def _over_rows(
        self, table: pl.DataFrame, score: Callable[[_Gradients, Sequence[Row]], Floats]
    ) -> list[float | None]:
        """``score`` of the distinct rows, given to each row of the table; null where there is none.

        The distinct rows are sorted by content, so no score depends on the order of the table.
        """
        rows = self._each(table)
        distinct = {row_key(row): row for row in rows if row is not None}
        if not distinct:
            return [None] * len(rows)
        keys = sorted(distinct)
        gradients = _Gradients(self, self.adapted(self.beta), *self._targets())
        found = score(gradients, [distinct[key] for key in keys])
        scores = {
            key: float(one) if np.isfinite(one) else None
            for key, one in zip(keys, found, strict=True)
        }
        return [None if row is None else scores[row_key(row)] for row in rows]

    def _targets(self) -> tuple[list[Row], list[int]]:
        """The target rows, and the number of the sub-task of each.

        Raises:
            DataError: none can be scored.
        """
        path = SourceSpec.of(self.against, "against").path
        if self.loss == "sft":
            table = reference_chats(self.against, self._name)
        else:
            table = reference_rows(self.against)
            if kind_of(table) != "preference":
                raise DataError(
                    f"{self._name}: against: {path}: loss dpo expects preference pairs, found "
                    f"{kind_of(table)}"
                )
        rows = self._each(table)
        named = groups(table, self.subtask).to_list() if self.subtask else [None] * len(rows)
        known = [(row, name) for row, name in zip(rows, named, strict=True) if row is not None]
        if not known:
            raise none_fits(self, self._name, self.against)
        order = {name: at for at, name in enumerate(dict.fromkeys(name for _, name in known))}
        return [row for row, _ in known], [order[name] for _, name in known]

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    def drawn(self, rows: Sequence[Row]) -> list[Row]:
        """The rows of the warm-up: a share by the seed, which the order of rows does not change."""
        salt = self.seed.to_bytes(8, "little")
        keyed = sorted(rows, key=lambda row: blake2b(row_key(row), key=salt).digest())
        return keyed[: max(1, round(self.warmup * len(rows)))]


@dataclass
class _Gradients:
    """The gradients of rows and of the target set at checkpoints of one warm-up."""

    options: Influence
    model: AdaptedModel
    targets: list[Row]
    task_of: list[int]

    def __post_init__(self) -> None:
        self.project = Projection(self.model.size, self.options.dimension, self.options.seed)

    def warm_up(self, rows: Sequence[Row]) -> list[tuple[Checkpoint, Path | None]]:
        """The checkpoints after each epoch, and the folder for the gradients at each."""
        some = self.options.drawn(rows)
        once = len(some) + len(self.targets) + len(rows)
        self.work = Work(self.options.epochs * once)
        asked = {"loss": self.options.loss, "beta": self.options.beta, "rows": rows_digest(some)}
        folder = self.options.folder_of("adapter", **asked)
        found = self.options.train(self.model, some, folder, self.work)
        width = self.project.width
        folders = [
            self.options.folder_of("gradients", **asked, width=width, epoch=at)
            for at in range(len(found))
        ]
        return list(zip(found, folders, strict=True))

    def of_targets(self, folder: Path | None) -> Projected:
        """The gradients of the target rows, as they are: for a target no optimiser takes a step."""
        parts = [part for _, part in self._blocks(self.targets, lambda each: each, "sgd", folder)]
        units, lengths = zip(*((part.units, part.lengths) for part in parts), strict=True)
        return Projected(torch.cat(units), torch.cat(lengths))

    def task_means(self, vectors: Tensor) -> Tensor:
        """The mean vector of each sub-task ``(tasks, d)``."""
        means = vectors.new_zeros((max(self.task_of) + 1, vectors.shape[1]))
        index = torch.tensor(self.task_of, device=vectors.device)
        counts = torch.bincount(index)[:, None]
        return means.index_add(0, index, vectors) / counts

    def of_rows(
        self, rows: Sequence[Row], checkpoint: Checkpoint, adam: bool, folder: Path | None
    ) -> Iterator[tuple[slice, Projected]]:
        """Blocks of the rows' gradients, or with ``adam`` of the steps that they would cause."""
        done = checkpoint.state.direction if adam else lambda each: each
        yield from self._blocks(rows, done, "adam" if adam else "sgd", folder)

    def _blocks(
        self,
        rows: Sequence[Row],
        done: Callable[[Tensor], Tensor],
        how: str,
        folder: Path | None,
    ) -> Iterator[tuple[slice, Projected]]:
        height = min(_ROWS, max(1, _BYTES // (4 * self.model.size)))
        for start in range(0, len(rows), height):
            block = rows[start : start + height]
            path = folder and folder / f"{rows_digest(block, how)}.safetensors"
            known = path and _read(path, self.model.weights)
            if not known:
                known = self._projected(block, done)
                if path:
                    _write(path, known)
            self.work.add(len(block))
            yield slice(start, start + len(block)), _float(known)

    def best_task(
        self, rows: Sequence[Row], scores_at: Callable[[Checkpoint, Path | None], Floats]
    ) -> Floats:
        """The largest score ``(n,)`` over the tasks of each row.

        ``scores_at`` has the scores ``(n, tasks)`` at a checkpoint, whose weights the model has
        then; the checkpoints are weighted by their learning rates.
        """
        checkpoints = self.warm_up(rows)
        rates = np.array([checkpoint.rate for checkpoint, _ in checkpoints])
        found: Floats | float = 0.0
        for (checkpoint, folder), rate in zip(checkpoints, rates / rates.sum(), strict=True):
            self.model.weights = checkpoint.state.weights
            found = found + rate * scores_at(checkpoint, folder)
        best: Floats = np.asarray(found).max(axis=1)
        return best

    def _projected(self, rows: Sequence[Row], done: Callable[[Tensor], Tensor]) -> Projected:
        stacked = torch.stack([done(self.model.gradient(row)) for row in rows])
        found = self.project(stacked)
        lengths = found.double().norm(dim=1)
        units = found / lengths.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
        return Projected(units.half(), lengths)  # at half the bytes, on disk and in memory


def _float(known: Projected) -> Projected:
    return Projected(known.units.double(), known.lengths)


def _write(path: Path, known: Projected) -> None:
    make_folder(path.parent)
    with atomic_write(path) as part:
        save_file({"units": known.units.cpu(), "lengths": known.lengths.cpu()}, part)


def _read(path: Path, like: Tensor) -> Projected | None:
    if not path.is_file():
        return None
    try:
        return Projected(**load_file(path, device=str(like.device)))
    except (SafetensorError, TypeError):
        raise UsageError(f"cache {path} cannot be used: delete it and run again") from None
