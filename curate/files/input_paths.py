"""Which options, arguments and keys of a recipe name what is read, and the paths that they name."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["INPUTS", "input_paths"]

INPUTS: Final = frozenset(
    {
        *("source", "sources", "rows", "pairs", "prompts", "text", "run", "recipe"),
        *("base", "model", "ref_model", "critic_model", "reference", "reward", "tokenizer"),
        *("eval_rows", "ptx_rows", "against", "index"),
    }
)
"""Names of options, arguments and recipe keys whose values may be paths that are read."""


def input_paths(given: Any, key: str = "") -> Iterator[Path]:
    """The paths in options or a recipe that are there: values of the names in `INPUTS`."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            of_source = name == "path" and key in INPUTS  # {path, format, map}
            yield from input_paths(value, key if of_source else str(name))
    elif isinstance(given, (list, tuple)):
        for value in given:
            yield from input_paths(value, key)
    elif isinstance(given, (str, Path)) and key in INPUTS:
        yield from _there(str(given))


def _there(given: str) -> Iterator[Path]:
    try:
        if os.path.lexists(given):
            yield Path(given)
        elif glob.has_magic(given):
            yield from map(Path, glob.glob(given, recursive=True))  # noqa: PTH207
    except (OSError, ValueError):  # a name longer than any file's, or with a null in it
        return
