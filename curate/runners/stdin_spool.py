"""Standard input and pipes: they come once, and are kept in a file to be hashed and read again."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from siftune.curate.files.atomic import aside
from siftune.curate.files.pipes import copy_stream, open_pipe, open_stdin
from siftune.curate.runs.recipe import Recipe

__all__ = ["has_streams", "hold_streams"]


def hold_streams(recipe: Recipe, folder: Path) -> Recipe:
    """``recipe`` with each source that comes once read into a file of ``folder``."""
    held = [_held(source, at, folder) for at, source in enumerate(recipe.source, 1)]
    names = dict(zip(recipe.source, held, strict=True))
    given = {names[path]: how for path, how in recipe.given.items()}
    return replace(recipe, source=tuple(held), given=given)


def has_streams(recipe: Recipe) -> bool:
    """Whether a source of ``recipe`` comes once, and cannot be read ahead of the run."""
    return any(map(_comes_once, recipe.source))


def _held(source: str, number: int, folder: Path) -> str:
    if not _comes_once(source):
        return source
    held = folder / ("stdin.jsonl" if source == "-" else f"pipe-{number}.jsonl")
    with aside(held) as part, _opened(source) as coming, part.open("wb") as stream:
        copy_stream(coming, stream, "standard input" if source == "-" else source)
    return str(held)


def _comes_once(source: str) -> bool:
    if source == "-":
        return True
    try:
        return Path(source).is_fifo() or Path(source).is_char_device()
    except OSError:  # a name longer than any file's
        return False


def _opened(source: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(open_stdin()) if source == "-" else open_pipe(Path(source))
