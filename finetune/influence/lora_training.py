"""Short training of a LoRA adapter by Adam, with a checkpoint after each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.progress import report_progress
from siftune.curate.core.ranges import Count, Positive, Seed
from siftune.curate.files.atomic import atomic_write, digest_of, make_folder
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.lm.answer_model import AnswerModel
from siftune.curate.lm.answer_tokens import Template
from siftune.finetune.influence.adam import AdamState
from siftune.finetune.influence.adapted_model import AdaptedModel, Row
from siftune.finetune.models.loading import DType

__all__ = ["Checkpoint", "LoraTraining", "Work", "answers_of", "none_fits", "pairs_of", "rates"]

_LAYOUT: Final = 1  # raise when a change here changes what is stored
_TRAINING: Final = ("rank", "alpha", "lr", "epochs", "batch_size", "seed")
_RISE: Final = 0.03  # share of the steps in which the learning rate rises, as in LESS


@dataclass(frozen=True)
class Checkpoint:
    """Adam's state after an epoch, and the mean learning rate of its steps."""

    state: AdamState
    rate: float


@dataclass
class Work:
    """Rows that are run, of those that are to be run in all, for the progress of a stage."""

    total: int
    done: int = 0

    def add(self, rows: int) -> None:
        """Report so many more."""
        self.done += rows
        report_progress(self.done, self.total, "rows")


@dataclass(frozen=True, kw_only=True)
class LoraTraining(AnswerModel):
    """Options of scorers that train an adapter.

    Options:
        rank: Rank of the LoRA adapter, on every linear layer but the head.
        alpha: Numerator of the adapter's scale, alpha / rank.
        lr: Learning rate of the first steps; it falls to 0 linearly.
        epochs: Number of epochs of training; each gives a checkpoint.
        batch_size: Number of rows of a training step.
        seed: Seed of the adapter, of the rows that are drawn and of their order.
    """

    template: Template = "chat"
    rank: Count = 8
    alpha: Positive = 16.0
    lr: Positive = 1e-4
    epochs: Count = 1
    batch_size: Count = 8
    seed: Seed = 0

    trains: ClassVar = True  # so that no trial for a forecast does

    @property
    def forward_pass(self) -> tuple[Any, ...]:
        """No other scorer runs its passes."""
        return ()

    def adapted(self, beta: float = 0.1) -> AdaptedModel:
        """The model under a new adapter, where models run."""
        return AdaptedModel.load(self.model, self._dtype, self.rank, self.alpha, self.seed, beta)

    @property
    def _dtype(self) -> DType:
        return "bfloat16" if self._lm.number_format == "bf16" else "float32"

    def train(
        self,
        model: AdaptedModel,
        rows: Sequence[Row],
        store: Path | None,
        work: Work | None = None,
    ) -> list[Checkpoint]:
        """Train the adapter of ``model`` on ``rows``; its state after each epoch.

        Each row counts the same in a step, whatever its number of tokens. With ``store``, a folder
        of this training alone, finished epochs are read from there. ``work`` counts its rows.
        """
        state, found = AdamState.start(model.weights), []
        work = work or Work(self.epochs * len(rows))
        steps = math.ceil(len(rows) / self.batch_size)
        scheduled = [self.lr * part for part in rates(steps * self.epochs)]
        for epoch in range(self.epochs):
            part = scheduled[epoch * steps : (epoch + 1) * steps]
            path = store and store / f"epoch-{epoch + 1}.safetensors"
            known = path and _read(path, state)
            if known:
                work.add(len(rows))
            else:
                state = self._epoch(model, rows, state, part, epoch, work)
                known = Checkpoint(state, float(np.mean(part)))
                if path:
                    _write(path, known)
            state = known.state
            found.append(known)
        model.weights = state.weights
        return found

    def _epoch(
        self,
        model: AdaptedModel,
        rows: Sequence[Row],
        state: AdamState,
        scheduled: Sequence[float],
        epoch: int,
        work: Work,
    ) -> AdamState:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(rows))
        for step, lr in enumerate(scheduled):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            model.weights = state.weights
            total = torch.zeros_like(state.weights)
            for at in batch:
                total += model.gradient(rows[at])
            state = state.step(total / len(batch), lr)
            work.add(len(batch))
        return state

    def folder_of(self, kind: str, **of: Any) -> Path | None:
        """The folder in ``cache`` for what depends on the training, and on all of ``of``."""
        if self.cache is None:
            return None
        own = {name: getattr(self, name) for name in _TRAINING}
        where = [self._lm.identity, self._dtype, self._lm.device, _LAYOUT]
        return Path(self.cache) / f"{kind}-{digest_of([own, where, of])}"

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: a process that reads them loads its own models."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def rates(steps: int) -> list[float]:
    """Factors of the learning rate: a linear rise in the first 3 % of the steps, then a fall.

    >>> rates(4)
    [1.0, 0.75, 0.5, 0.25]
    """
    rise = int(_RISE * steps)
    return [min((at + 1) / (rise + 1), (steps - at) / (steps - rise)) for at in range(steps)]


def answers_of(scorer: LoraTraining, table: pl.DataFrame) -> list[Row | None]:
    """The last answer of each conversation after its prompt; None where one cannot be read."""
    rows = scorer._tokens.after_prompt(table["messages"])
    return [None if row is None else (row,) for row in rows]


def none_fits(scorer: LoraTraining, name: str, against: SourceOption) -> DataError:
    """The error of target rows of which none can be trained on."""
    return DataError(
        f"{name}: against: {SourceSpec.of(against, 'against').path}: no row has a prompt and an "
        f"answer that fit the window of {scorer._lm.window:,} tokens"
    )


def pairs_of(scorer: LoraTraining, table: pl.DataFrame) -> list[Row | None]:
    """Chosen and rejected answer of each pair after the prompt; None where one cannot be read."""
    sides = [
        scorer._tokens.after_prompt(table.select(pl.col("prompt").list.concat(side)).to_series())
        for side in ("chosen", "rejected")
    ]
    both = zip(*sides, strict=True)
    return [None if one is None or other is None else (one, other) for one, other in both]


def _write(path: Path, known: Checkpoint) -> None:
    state = known.state
    tensors = {"weights": state.weights, "first": state.first, "second": state.second}
    numbers = {"steps": str(state.steps), "rate": repr(known.rate)}
    make_folder(path.parent)
    with atomic_write(path) as part:
        save_file({name: each.cpu() for name, each in tensors.items()}, part, metadata=numbers)


def _read(path: Path, like: AdamState) -> Checkpoint | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt", device=str(like.weights.device)) as file:
            numbers = file.metadata()
            tensors = {name: file.get_tensor(name) for name in ("weights", "first", "second")}
        return Checkpoint(AdamState(**tensors, steps=int(numbers["steps"])), float(numbers["rate"]))
    except (SafetensorError, KeyError, ValueError):
        raise UsageError(f"cache {path} cannot be used: delete it and run again") from None
