"""Checkpoints: trained weights, sealed when whole, and the record of the run they belong to."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import echo
from siftune.curate.files.atomic import digest_of, hash_file, read_json, write_json
from siftune.curate.files.output_marker import (
    Marker,
    marker_of,
    remove_matching,
    remove_own,
    write_marker,
    written_names,
)
from siftune.finetune.runs.run_folders import CHECKPOINT_FILES

__all__ = [
    "RUN_FILE",
    "checkpoints",
    "claim",
    "differences",
    "is_of",
    "is_whole",
    "load_weights",
    "newest",
    "put_back",
    "record_of",
    "refuse_other",
    "remove_checkpoint",
    "rotate",
    "save_weights",
    "seal",
    "trained",
    "write_record",
]

_KEPT: Final = 2  # where the newest is torn, the one before it serves
_WEIGHTS, _SEAL = "model.safetensors", "sealed.json"


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name; a tied one once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def save_weights(folder: Path, model: nn.Module) -> None:
    """Write the trained parameters of ``model`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().contiguous() for name, weight in trained(model).items()}
    save_file(weights, folder / _WEIGHTS)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Put the weights of ``folder`` into ``model``.

    Raises:
        UsageError: they are those of another model.
    """
    saved, known = load_file(folder / _WEIGHTS), trained(model)
    if saved.keys() != known.keys():
        raise UsageError(f"{folder} is a checkpoint of another model: delete it and start again")
    put_back(saved, model)


def put_back(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Copy ``weights`` over the parameters of the same names."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)


def refuse_other(work: Path, run: str, record: Mapping[str, Any]) -> None:
    """Refuse to train where checkpoints of another run are.

    Raises:
        UsageError: ``work`` holds checkpoints of a run with other options or data.
    """
    there = checkpoints(work)
    if not there or is_of(work, run):
        return
    raise UsageError(
        f"{there[-1]} is of an interrupted run that differs in {differences(work, record)}: give "
        "the options and data of that run to continue it, name another --out, or add --overwrite "
        "to remove its checkpoints and start again"
    )


def claim(work: Path, run: str, record: Mapping[str, Any]) -> None:
    """Make ``work`` the folder of ``run`` (a digest): checkpoints of another run are removed."""
    if is_of(work, run):
        return
    for folder in checkpoints(work):
        echo(f"{folder} is of a run with other options or data: removed", err=True)
        remove_checkpoint(folder)
    write_record(work, run, record)


def seal(folder: Path) -> None:
    """Mark a checkpoint as whole, by the hashes of its files, and as ours, by their names."""
    work = marker_of(folder.parent)
    command = "finetune" if work is None else work.command
    write_marker(folder, Marker(command, (*written_names(folder), _SEAL)))
    write_json(folder / _SEAL, _hashes(folder))


def rotate(work: Path, spared: Collection[int] = ()) -> None:
    """Remove all but the last two sealed checkpoints, and those of the steps ``spared``."""
    for folder in [one for one in checkpoints(work) if (one / _SEAL).is_file()][:-_KEPT]:
        if folder.name not in {f"checkpoint-{step}" for step in spared}:
            remove_checkpoint(folder)


def remove_checkpoint(folder: Path) -> None:
    """Remove what training wrote into a checkpoint, and the folder if nothing else is in it."""
    if marker_of(folder) is None:  # it was not sealed
        remove_matching(folder, CHECKPOINT_FILES)
    else:
        remove_own(folder)


def newest(work: Path) -> Path | None:
    """The last whole checkpoint of ``work``; torn ones are reported and removed."""
    for folder in reversed(checkpoints(work)):
        if is_whole(folder):
            return folder
        echo(f"{folder} is torn: removed, going on from the one before it", err=True)
        remove_checkpoint(folder)
    return None


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is as it was sealed."""
    sealed = _read(folder / _SEAL) if (folder / _SEAL).is_file() else None
    return isinstance(sealed, dict) and sealed.items() <= _hashes(folder).items()


def _read(path: Path) -> object:
    try:
        return read_json(path)
    except UsageError:
        return None  # half-written: as good as not there


def checkpoints(work: Path) -> list[Path]:
    """The checkpoint folders in ``work``, whole or not, by their step."""
    found = [path for path in work.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[11:]))


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _SEAL)
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


RUN_FILE: Final = "run.json"

_OPTIONS: Final = ("options", "loss")
_INPUTS: Final = {
    "base": "the model",
    "reference": "the reference model",
    "critic": "the model of the critic",
    "reward": "the reward model",
    "own_code": "the code of your own loss or reward",
    "data": "the rows",
    "eval": "the held-out rows",
    "eval_rows": "the held-out rows",
    "ptx_rows": "the supervised rows of ptx_rows",
    "gate": "the pairs of the gate",
    "pass_rate": "the pass rates",
    "rollouts_from": "the samples of rollouts_from",
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
    return _read_record(work).get("run") == run


def differences(work: Path, record: Mapping[str, Any]) -> str:
    """What differs between the run in ``work`` and that of ``record``, in words."""
    there = _read_record(work)
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


def _read_record(work: Path) -> dict[str, Any]:
    """The record of ``work``; empty where there is none that can be read."""
    try:
        found = read_json(work / RUN_FILE) if (work / RUN_FILE).is_file() else {}
    except UsageError:
        return {}
    return found if isinstance(found, dict) else {}
