"""The files of a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from siftune.curate.files.output_marker import STAGE_FILES
from siftune.curate.files.outputs import check_run_folder

__all__ = ["INGEST_FILES", "OUTPUTS", "PARTS", "RUN_FILES", "STREAMS", "check_run"]

OUTPUTS: Final = ("kept.parquet", "ledger.parquet", "quarantine.jsonl")
PARTS: Final = tuple(
    f"{part}{more}.parquet" for part in ("train", "test") for more in ("", "-{number}")
)
"""What a selector may set aside; of several of one name the later ones are numbered from 2."""

INGEST_FILES: Final = ("rows.parquet", "quarantine.jsonl")
"""What ingestion writes into ``stages/.ingest`` before the stage appears."""

STREAMS: Final = ("stdin.jsonl", "pipe-{number}.jsonl")
"""What came through standard input and pipes."""

_CACHE: Final = "cache/embedding-{hex32}.sqlite"
RUN_FILES: Final = (
    *(*OUTPUTS, *STREAMS, "manifest.json", "report.html"),
    *("stages/", *(f"stages/{name}" for name in STAGE_FILES)),
    *("stages/.ingest/", *(f"stages/.ingest/{name}" for name in INGEST_FILES)),
    *("cache/", _CACHE, *(f"{_CACHE}-{part}" for part in ("wal", "shm", "journal"))),
)
"""All that a curate run writes but its parts, as names of `output_marker.Marker`."""


def check_run(path: Path, command: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output path that ``command``, a curate run, may not write into."""
    check_run_folder(path, command, RUN_FILES, inputs)
