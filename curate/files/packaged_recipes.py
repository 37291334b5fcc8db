"""Recipes that come with siftune: ``recipes/NAME.yaml`` of a package, each with a header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import closest

__all__ = ["PRESETS", "PackagedRecipes"]

FIELDS: Final = (
    *("does", "paper", "data", "needs", "cost", "keeps", "leaves out", "not for", "run"),
)
_FIELD: Final = re.compile(rf"# ({'|'.join(FIELDS)}): (.*)")


@dataclass(frozen=True)
class PackagedRecipes:
    """The recipes of a folder; ``command`` is the one that lists them."""

    folder: Path
    command: str

    @property
    def headers(self) -> dict[str, dict[str, str]]:
        """The fields of each recipe's header by its name: what it does, the paper, its needs …."""
        return {path.stem: _header(path) for path in sorted(self.folder.glob("*.yaml"))}

    def file(self, given: Path) -> Path:
        """The file of a recipe: a path, or the name of one that comes with siftune.

        Raises:
            UsageError: it is neither.
        """
        if given.exists() or given.suffix or len(given.parts) != 1:
            return given
        return self._named(str(given))

    def text(self, name: str) -> str:
        """The text of a recipe that comes with siftune.

        Raises:
            UsageError: there is none of that name.
        """
        return self._named(name).read_text(encoding="utf-8").rstrip("\n")

    def _named(self, name: str) -> Path:
        known = tuple(path.stem for path in sorted(self.folder.glob("*.yaml")))
        if name not in known:
            raise UsageError(
                f"no file {name!r}, and no recipe of that name; {closest(name, known)} "
                f"({self.command})"
            )
        return self.folder / f"{name}.yaml"


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


PRESETS: Final = PackagedRecipes(
    Path(__file__).parents[1] / "recipes", "siftune curate methods lists them"
)
"""Those of `siftune curate run`: published selections as stages."""
