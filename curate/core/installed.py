"""Components of other installed packages, which offer them by entry points."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Container
from dataclasses import is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from siftune.curate.core.adapted import adapted_class, lacking
from siftune.curate.core.errors import UsageError

__all__ = ["about", "loaded", "module_file", "points"]


def points(group: str, taken: Container[str]) -> tuple[dict[str, EntryPoint], dict[str, str]]:
    """The entry points of a group by their names, and a line on those that are left out.

    Names that are ``taken`` stay what they are.
    """
    found: dict[str, EntryPoint] = {}
    left_out: dict[str, str] = {}
    for point in entry_points(group=group):
        if point.name in taken or point.name in found:
            whose = _package(found[point.name]) if point.name in found else "siftune"
            why = f"{whose} has a component of that name"
            left_out[point.name] = f"{_label(point)} is left out: {why}"
        else:
            found[point.name] = point
    return found, left_out


@cache
def loaded(group: str, point: EntryPoint) -> type[Any]:
    """The class of a component; a function or a plain class is adapted as a user's own is.

    Raises:
        UsageError: it cannot be imported, or lacks what components of the group have.
    """
    try:
        thing = point.load()
    except (Exception, SystemExit) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{_label(point)} cannot be imported ({text})") from error
    try:
        if not (isinstance(thing, type) and is_dataclass(thing)):
            return adapted_class(group, point.name, thing, module_file(point))
        lacking(group, point.name, thing)
    except UsageError as error:
        raise UsageError(f"{_label(point)} cannot be used ({error})") from None
    return thing


def about(point: EntryPoint) -> str:
    """The first line of a component's documentation, or why there is none."""
    try:
        text = importlib.import_module(point.module).__doc__ or point.load().__doc__
    except (Exception, SystemExit) as error:
        return f"{_label(point)} cannot be imported ({type(error).__name__})."
    return (text or f"{_label(point)}.").strip().partition("\n")[0]


def module_file(point: EntryPoint) -> Path | None:
    """The file of its module; None where there is none."""
    try:
        spec = importlib.util.find_spec(point.module)
    except (Exception, SystemExit):  # of the package that it is in
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _label(point: EntryPoint) -> str:
    return f"{point.name!r} of the package {_package(point)}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.module
