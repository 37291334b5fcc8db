"""Ancestors of a model by the hashes in its folder, and whether two models are kin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from siftune.curate.core.errors import SiftuneError
from siftune.curate.files.atomic import read_json
from siftune.curate.models.resolve import folder_hash, model_folder

__all__ = ["FACTS", "KIN", "Kinship", "kinship", "lineage"]

FACTS: Final = "siftune.json"
"""The facts of a model that was trained here: its base, with the base's ancestors."""

Kinship: TypeAlias = Literal["same", "kin", "not known"]
KIN: Final[tuple[Kinship, ...]] = ("same", "kin", "not known")
"""From the nearest."""


def lineage(model: str | Path) -> list[str]:
    """The hash of a model, then those of the models that it was trained from, the latest first.

    Ancestors are known of models that were trained here (`FACTS`); of others the list is their own
    hash alone.
    """
    folder = model_folder(model)
    base = _base(folder / FACTS)
    ancestors = [base.get("hash"), *(base.get("ancestors") or ())]
    return [folder_hash(folder), *(one for one in ancestors if isinstance(one, str))]


def _base(path: Path) -> dict[str, Any]:
    try:
        facts = read_json(path) if path.is_file() else {}
    except SiftuneError:  # another program's file
        return {}
    base = facts.get("base") if isinstance(facts, dict) else None
    return base if isinstance(base, dict) else {}


def kinship(judge: Sequence[str] | None, other: Sequence[str] | None) -> Kinship:
    """Whether two models, by their `lineage` (None: not known), are one, or have an ancestor.

    Models without a recorded ancestor in common may be kin all the same, such as two sizes of one
    family: that is not known.

    >>> kinship(["b", "a"], ["b", "a"]), kinship(["b", "a"], ["c", "a"]), kinship(["b"], ["a"])
    ('same', 'kin', 'not known')
    """
    if not judge or not other:
        return "not known"
    if judge[0] == other[0]:
        return "same"
    return "kin" if {*judge} & {*other} else "not known"
