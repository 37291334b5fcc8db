"""Recipes that come with siftune: ``pipelines/recipes/NAME.yaml``, each with a header."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import closest

__all__ = ["packaged", "recipe_file", "recipe_text", "recipes_text"]

_FOLDER: Final = Path(__file__).parent / "recipes"
_FIELDS: Final = ("does", "paper", "needs", "keeps", "leaves out", "run")
_FIELD: Final = re.compile(rf"# ({'|'.join(_FIELDS)}): (.*)")


def packaged() -> dict[str, dict[str, str]]:
    """The fields of each recipe's header by its name: what it does, the paper, what it needs …."""
    return {path.stem: _header(path) for path in sorted(_FOLDER.glob("*.yaml"))}


def _header(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = _FIELD.match(line)
        if found:
            name = found[1]
            fields[name] = found[2].strip()
        elif name and line.startswith("#   "):
            fields[name] += f" {line[4:].strip()}"
        else:
            name = ""
    return fields


def recipe_file(given: Path) -> Path:
    """The file of a recipe: a path, or the name of one that comes with siftune.

    Raises:
        UsageError: it is neither.
    """
    if given.exists() or given.suffix or len(given.parts) != 1:
        return given
    return _named(str(given))


def _named(name: str) -> Path:
    known = tuple(packaged())
    if name not in known:
        raise UsageError(
            f"no file {name!r}, and no recipe of that name; {closest(name, known)} "
            "(siftune pipelines recipes)"
        )
    return _FOLDER / f"{name}.yaml"


def recipe_text(name: str) -> str:
    """The text of a recipe that comes with siftune.

    Raises:
        UsageError: there is none of that name.
    """
    return _named(name).read_text(encoding="utf-8").rstrip("\n")


def recipes_text() -> str:
    """All recipes in words."""
    lines = []
    for name, fields in packaged().items():
        lines.append(f"{name}: {fields['does']}")
        lines += [f"  {field}: {fields[field]}" for field in _FIELDS[1:]]
    return "\n".join(lines)
