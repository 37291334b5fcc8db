"""The record of an interrupted run: which options and inputs its checkpoints were made with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import digest_of, read_json, write_json

__all__ = ["RUN_FILE", "differences", "is_of", "record_of", "write_record"]

RUN_FILE: Final = "run.json"

_OPTIONS: Final = ("options", "loss")
_INPUTS: Final = {
    "base": "the model",
    "reference": "the reference model",
    "reward": "the reward model",
    "own_code": "the code of your own loss or reward",
    "data": "the rows",
    "eval": "the held-out rows",
    "eval_rows": "the held-out rows",
    "ptx_rows": "the supervised rows of ptx_rows",
}
"""Parts of a run's key (`Run.of`) that are hashes of inputs."""


def record_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` by name, and a digest of each other part of a run's key."""
    options = {
        name: value
        for part in _OPTIONS
        for name, value in (parts.get(part) or {}).items()
        if isinstance(name, str)
    }
    others = {name: digest_of(part) for name, part in parts.items() if name not in _OPTIONS}
    return {"options": options, "inputs": others}


def write_record(work: Path, run: str, record: Mapping[str, Any]) -> None:
    """Note in ``work`` that its checkpoints are of the run with the digest ``run``."""
    write_json(work / RUN_FILE, {"run": run, **record})


def is_of(work: Path, run: str) -> bool:
    """Whether the checkpoints of ``work`` are of the run with the digest ``run``."""
    return _read(work).get("run") == run


def differences(work: Path, record: Mapping[str, Any]) -> str:
    """What differs between the run in ``work`` and that of ``record``, in words."""
    there = _read(work)
    found = [*_options(there, record), *_inputs(there, record)]
    return "; ".join(found) or "options or data"


def _options(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    before, now = there.get("options"), here["options"]
    if not isinstance(before, dict):
        return
    for name in sorted({*before, *now}):
        old, new = _text(before.get(name)), _text(now.get(name))
        if old != new:
            yield f"{name.replace('_', '-')} ({old} there, {new} here)"


def _inputs(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    before = there.get("inputs")
    if not isinstance(before, dict):
        return
    for name, words in _INPUTS.items():
        if before.get(name) != here["inputs"].get(name):
            yield words


def _text(value: Any) -> str:
    return "none" if value is None else json.dumps(value, sort_keys=True)


def _read(work: Path) -> dict[str, Any]:
    """The record of ``work``; empty where there is none that can be read."""
    try:
        found = read_json(work / RUN_FILE) if (work / RUN_FILE).is_file() else {}
    except UsageError:
        return {}
    return found if isinstance(found, dict) else {}
