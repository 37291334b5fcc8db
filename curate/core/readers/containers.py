"""Where raw records are: files, folders and globs of shards, stdin, saved datasets, the hub."""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import orjson

from curate.core.errors import DataError, UsageError
from curate.core.files import is_text
from curate.core.readers.binary import SUFFIXES, shown
from curate.core.readers.hub import download, hub_name
from curate.core.readers.part import DATA, Part, part_of
from curate.core.readers.pipes import open_pipe

__all__ = ["expand", "name_parts"]


def expand(source: str) -> list[Part]:
    """The parts of one source, in order of their paths.

    ``source`` is a file, a folder or glob of shards, ``-`` (standard input), a run folder, a saved
    `datasets` folder, or a hub dataset (``OWNER/NAME``, ``hf://…``).

    Raises:
        DataError: there is nothing to read, or something that is not data.
    """
    if source == "-":
        return [_spooled(sys.stdin.buffer, "stdin")]
    if not source.strip() or not is_text(source):
        raise UsageError(f"{source!r} cannot be the name of a file: name a file or folder of rows")
    path = Path(source)
    if _there(path):
        return _at(path, source)
    if glob.has_magic(source):
        found = sorted(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207
        if not found:
            raise DataError(f"{shown(source)}: no file matches")
        return [part for path in found for part in _at(path, str(path))]
    if (name := hub_name(source)) is not None:
        return [Part(source, tuple(download(name)), "arrow")]
    raise DataError(f"{shown(source)}: {_why_not(path)}")


def name_parts(parts: Sequence[Part]) -> list[str]:
    """The shortest name that tells each part from the others, the same number of steps for all.

    >>> [Path("a/x.jsonl.zst").name, _name("a/x.jsonl.zst", 0), _name("a/x.jsonl.zst", 2)]
    ['x.jsonl.zst', 'x', 'a/x.jsonl.zst']
    """
    seen: dict[Path, str] = {}
    for part in parts:
        where = part.paths[0].resolve()
        if where in seen:
            raise UsageError(f"{shown(part.shown)} is given twice; its rows would have one id")
        seen[where] = part.shown
    paths = list(seen.values())
    levels = ([_name(path, steps) for path in paths] for steps in count())
    return next(names for names in levels if len(set(names)) == len(names))


def _name(path: str, steps: int) -> str:
    last = Path(path).parts[-max(steps, 1) :]
    name = "/".join(last) or path
    while steps == 0 and Path(name).suffix.lower() in (*SUFFIXES, *DATA):
        name = name.removesuffix(Path(name).suffix)
    return name or path


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than any file's
        return False


def _why_not(path: Path) -> str:
    try:
        if path.is_symlink():
            return "a link that leads nowhere"
    except OSError:
        return "not a possible file name"
    return "no such file or folder here, and not a hub dataset (OWNER/NAME)"


def _at(path: Path, given: str) -> list[Part]:
    if path.is_dir():
        return _folder(path, given)
    if not path.is_file():  # a pipe, as in <(command)
        with open_pipe(path) as stream:
            return [_spooled(stream, given)]
    if not is_text(given):
        raise DataError(f"{given!r}: its name is not UTF-8 text, as ids of rows are: rename it")
    return [part_of(path, given)]


def _folder(folder: Path, given: str) -> list[Part]:
    for name in ("kept.parquet", "rows.parquet"):
        if (folder / name).is_file():
            return [part_of(folder / name, str(Path(given) / name))]
    if (folder / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(path.parent.name for path in folder.glob("*/state.json")))
        raise DataError(f"{shown(given)} has the splits {splits}: name one, as {given}/SPLIT")
    if (folder / "state.json").is_file():
        return [Part(given, _arrow_files(folder), "arrow")]
    return _shards(folder, given)


def _arrow_files(folder: Path) -> tuple[Path, ...]:
    state = folder / "state.json"
    try:
        files = [Path(entry["filename"]).name for entry in _loaded(state)["_data_files"]]
    except (KeyError, TypeError):
        raise DataError(f"{shown(state)} is not that of a saved dataset") from None
    if not files:
        raise DataError(f"{shown(folder)} is a saved dataset without rows")
    return tuple(folder / name for name in files)


def _loaded(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{shown(path)} is not JSON ({error})") from None


def _shards(folder: Path, given: str) -> list[Part]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(step.startswith(".") for step in path.relative_to(folder).parts)
    )
    data = [path for path in files if _name(path.name, 0) != path.name]
    if not data:
        raise DataError(f"{shown(given)} holds no data file ({', '.join(DATA)}, perhaps .gz, .zst)")
    parts = [
        part for path in data for part in _at(path, str(Path(given) / path.relative_to(folder)))
    ]
    left_out = [path.name for path in files if path not in set(data)]
    if left_out:
        note = f"{shown(given)}: not data and left out: {', '.join(map(shown, left_out[:5]))}"
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        parts[0] = parts[0].noting(note + more)
    return parts


_HELD: Final = ".jsonl"


def _spooled(stream: BinaryIO, given: str) -> Part:
    """A stream that can be read once, as a file that can be looked at, hashed and read."""
    held = tempfile.NamedTemporaryFile(suffix=_HELD)  # noqa: SIM115  (lives as long as the part)
    shutil.copyfileobj(stream, cast("BinaryIO", held), 1 << 20)
    held.flush()
    return part_of(Path(held.name), given, held)
