"""Copy the model: a training that learns nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from siftune.finetune.core.types import TrainResult

__all__ = ["CopyModel"]


@dataclass(frozen=True)
class CopyModel:
    """Copies the model, whatever the rows are.

    Options:
        model: Model to copy: a folder.
    """

    reads: ClassVar = "rows"

    model: str

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Copy the folder."""
        shutil.copytree(self.model, out)
        return TrainResult(out, 0)

    def check_options(self) -> None:
        """Nothing: there is no Hugging Face trainer."""
