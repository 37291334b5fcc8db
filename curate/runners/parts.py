"""Rows that a selector sets aside, such as the test part of a split: a file each in the run."""

from __future__ import annotations

from collections.abc import Container
from itertools import chain, count
from pathlib import Path
from typing import Any

from curate.core.output_marker import expression_of
from curate.runners.folder import PARTS

__all__ = ["part_file", "remove_parts_but"]


def part_file(selector: Any, taken: Container[str]) -> str | None:
    """The name of the file for the rows that a selector sets aside; None if it sets none aside.

    Of several of one name, the first that is not in ``taken``.
    """
    name = getattr(selector, "sets_aside", None)
    if name is None:
        return None
    names = (f"{name}{more}.parquet" for more in chain([""], (f"-{at}" for at in count(2))))
    return next(one for one in names if one not in taken)


def remove_parts_but(folder: Path, names: Container[str]) -> None:
    """Remove parts that an earlier recipe left in a run folder."""
    for path in sorted(folder.glob("t*.parquet")):
        ours = any(expression_of(one).fullmatch(path.name) for one in PARTS)
        if ours and path.name not in names and path.is_file():
            path.unlink()
