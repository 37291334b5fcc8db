"""Checkpoints: only what is trained, sealed when whole, and only taken up by the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import echo
from siftune.curate.files.atomic import hash_file, read_json, write_json
from siftune.curate.files.output_marker import (
    Marker,
    marker_of,
    remove_matching,
    remove_own,
    write_marker,
    written_names,
)
from siftune.finetune.runs.run_folders import CHECKPOINT_FILES
from siftune.finetune.runs.run_record import differences, is_of, write_record

__all__ = [
    "checkpoints",
    "claim",
    "is_whole",
    "load_weights",
    "newest",
    "put_back",
    "refuse_other",
    "remove_checkpoint",
    "rotate",
    "save_weights",
    "seal",
    "trained",
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


def rotate(work: Path, spared: int | None = None) -> None:
    """Remove all but the last two sealed checkpoints, and that of the step ``spared``."""
    for folder in [one for one in checkpoints(work) if (one / _SEAL).is_file()][:-_KEPT]:
        if folder.name != f"checkpoint-{spared}":
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
