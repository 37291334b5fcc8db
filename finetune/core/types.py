"""The protocol of trainers and their result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

from siftune.curate.core.ranges import Within

if TYPE_CHECKING:
    import polars as pl

__all__ = ["DualClip", "EvalResult", "Finishing", "TrainResult", "Trainer"]

DualClip: TypeAlias = Annotated[float, Within(1, above=True)]
"""How much a token with a negative advantage may cost, in units of that advantage."""

Finishing: TypeAlias = "Callable[[Any, Any, pl.DataFrame, Mapping[str, Any]], Mapping[str, Any]]"
"""What a training does before its folder is written: ``finishing(model, tokenizer, held_out,
facts)`` with the whole model gives facts that replace some of these."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run: the model folder, the number of rows, the last metrics."""

    model: Path
    rows: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvalResult:
    """Result of an evaluation: the number of rows, the metrics, and the folder that has them.

    ``model`` is that folder, or None where none was named.
    """

    model: Path | None
    rows: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """A frozen dataclass whose fields are the options of the run.

    It declares as ``reads: ClassVar`` which rows of a pipeline it trains on, ``"rows"`` or
    ``"pairs"``, and as ``command: ClassVar`` the name of its command where that is not its file's.
    """

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on ``rows`` (a run folder, a kept.parquet, any file), into the folder ``out``."""

    def check_options(self) -> None:
        """Refuse arguments of the Hugging Face trainer, before anything is read."""
