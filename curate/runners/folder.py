"""The files of a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from curate.core.outputs import check_run_folder

__all__ = ["OUTPUTS", "RUN_FILES", "check_run"]

OUTPUTS: Final = ("kept.parquet", "ledger.parquet", "quarantine.jsonl")
_STAGE: Final = "stages/*-" + "[0-9a-f]" * 16
RUN_FILES: Final = (
    *(*OUTPUTS, "manifest.json", "report.html", "stdin.jsonl", "pipe-*.jsonl"),
    *("stages/", f"{_STAGE}.parquet", f"{_STAGE}.json", f"{_STAGE}.quarantine.jsonl"),
    *("stages/.*.part", "stages/.ingest/", "stages/.ingest/*"),
    *("cache/", "cache/embedding-*.sqlite*"),
)
"""All that a curate run writes, as patterns of `curate.core.outputs.Marker`."""


def check_run(path: Path, command: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output path that ``command``, a curate run, may not write into."""
    check_run_folder(path, command, RUN_FILES, inputs)
