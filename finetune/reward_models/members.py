"""The members of an ensemble of reward models: their folders, and the level of each's scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import digest_of, read_json, write_json
from siftune.finetune.models.loading import model_hash

__all__ = [
    "FILE",
    "GATE",
    "Member",
    "component_of",
    "ensemble_hash",
    "is_ensemble",
    "members_of",
    "write_members",
]

FILE: Final = "ensemble.json"
GATE: Final = "gate.safetensors"
"""Beside the weights of a reward model of several outputs: its gate (`reward_models.gate`)."""


class Member(NamedTuple):
    """A reward model, and the mean of its scores of the answers that give all members one level."""

    folder: Path
    level: float = 0.0


def is_ensemble(folder: str | Path) -> bool:
    """Whether a folder holds an ensemble."""
    return (Path(folder) / FILE).is_file()


def component_of(folder: str | Path) -> str:
    """The reward that reads a folder: of an ensemble, of one model, or of one with a gate."""
    if is_ensemble(folder):
        return "reward_ensemble"
    return "gated_attributes" if (Path(folder) / GATE).is_file() else "reward_model"


def members_of(model: str) -> tuple[Member, ...]:
    """The members of an ensemble's folder, or of folders with commas between.

    Raises:
        UsageError: there are fewer than two, or the folder holds no whole ensemble.
    """
    if is_ensemble(model):
        folder = Path(model)
        try:
            listed = read_json(folder / FILE)["members"]
            found = tuple(
                Member(folder / Path(one["folder"]).name, float(one["level"])) for one in listed
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{folder / FILE} is damaged ({error}): train the ensemble again"
            ) from None
    else:
        found = tuple(Member(Path(one.strip())) for one in model.split(",") if one.strip())
    if len(found) < 2:
        raise UsageError(
            f"{model}: expected an ensemble of `siftune finetune reward_ensemble`, or the folders "
            "of two reward models at least, with commas between"
        )
    return found


def ensemble_hash(model: str) -> str:
    """Digest of all that the scores of an ensemble depend on but its options."""
    return digest_of([(model_hash(one.folder), one.level) for one in members_of(model)])


def write_members(folder: Path, members: Sequence[Member]) -> None:
    """Write ``ensemble.json`` beside the members' folders."""
    listed = [{"folder": one.folder.name, "level": one.level} for one in members]
    write_json(folder / FILE, {"members": listed})
