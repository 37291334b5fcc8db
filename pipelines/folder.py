"""The files of a pipeline's run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from siftune.curate.files.outputs import check_run_folder

__all__ = ["COMMAND", "FILES", "check_pipeline"]

COMMAND: Final = "pipelines run"
FILES: Final = (
    *("manifest.json", "arms.json", "report.html", "models/", "evaluations/", "arms/", "made/"),
    *("rows/", "pairs/", "heldout-prompts/", "heldout-pairs/"),  # run folders, with own markers
    *("models/{output}/", "evaluations/{output}/", "arms/{output}/"),
    "made/{output}/",
)
"""All that a pipeline writes, but for what is in folders that have a marker of their own."""


def check_pipeline(path: Path, command: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output path that a pipeline may not write into."""
    check_run_folder(path, command, FILES, inputs)
