"""The files of an arena's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from siftune.curate.files.outputs import check_run_folder

__all__ = ["COMMAND", "FILES", "check_arena"]

COMMAND: Final = "pipelines arena"
FILES: Final = (
    *("manifest.json", "results.json", "results.md", "samples.md", "recipe.yaml", "trial.json"),
    *("effects-{number}.svg", "leaks.json", "heldout/", "heldout/{name}.parquet"),
    *("selections/", "selections/{name}.parquet", "selections/{name}.json"),
    *("measured/", "measured/arm-{name}/", "measured/arm-{name}/arm.json"),
    *("measured/arm-{name}/{name}.{name}.json", "measured/arm-{name}/{name}.answers-{number}.json"),
    *("pool/", "models/", "models/{output}/"),
)


def check_arena(path: Path, command: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output path that an arena may not write into."""
    check_run_folder(path, command, FILES, inputs)
