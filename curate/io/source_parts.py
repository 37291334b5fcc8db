"""Expand a source into its parts: files, folders, globs, stdin, saved datasets, the hub."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import orjson

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.atomic import is_text, kind_of_entry
from siftune.curate.files.byte_streams import SUFFIXES, copy_stream, open_pipe, open_stdin, shown
from siftune.curate.files.output_marker import marker_of
from siftune.curate.io.file_part import DATA, Part, part_of
from siftune.curate.io.hub import download, hub_name

__all__ = ["data_files", "expand", "name_parts"]


def expand(source: str) -> list[Part]:
    """The parts of one source, in order of their paths.

    ``source`` is a file, a folder or glob of shards, ``-`` (standard input), a run folder, a saved
    `datasets` folder, or a hub dataset (``OWNER/NAME``, ``hf://…``).

    Raises:
        DataError: there is nothing to read, or a file is no data.
    """
    if source == "-":
        return [_spooled(open_stdin(), "stdin")]
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


def data_files(source: str) -> list[str]:
    """The files that are looked at by their bytes: the one named, or all shards of a folder."""
    path = Path(source)
    if path.is_file():
        return [source]
    ours = (*_OURS, *_SAVED, "dataset_dict.json")
    if not path.is_dir() or any((path / name).is_file() for name in ours):
        return []
    found = [one for one in sorted(_entries(path, source)) if _is_data(one) and one.is_file()]
    return [str(path / one.relative_to(path)) for one in found]


def name_parts(parts: Sequence[Part]) -> list[str]:
    """The shortest names that differ between all parts, each with the same number of folders.

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
    for name in _OURS:
        if (folder / name).is_file():
            part = part_of(folder / name, str(Path(given) / name))
            if part.container == "rows":
                _check_run(folder, name)
                return [_noting_others(part, folder, given)]
    if (folder / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(path.parent.name for path in folder.glob("*/state.json")))
        raise DataError(f"{shown(given)} has the splits {splits}: name one, as {given}/SPLIT")
    if (folder / "state.json").is_file():
        return [_noting_others(Part(given, _arrow_files(folder), "arrow"), folder, given)]
    return _shards(folder, given)


def _check_run(folder: Path, name: str) -> None:
    """Refuse the kept rows of a finished run that are not what it wrote."""
    if name == _OURS[0] and marker_of(folder) and (folder / "manifest.json").is_file():
        from siftune.curate.runs.run_manifest import (
            verified,  # pydantic, which other sources do without
        )

        verified(folder, name)


_OURS: Final = ("kept.parquet", "rows.parquet")
"""Tables of ours whose folder may be named instead."""
_BESIDE: Final = (*_OURS, "ledger.parquet", "quarantine.jsonl", "manifest.json", "siftune.json")
"""Other files of our commands, where the folder has no marker that lists them."""
_SAVED: Final = ("state.json", "dataset_info.json")


def _noting_others(part: Part, folder: Path, given: str) -> Part:
    """``part``, which is read alone, with a note of the data files that are beside it.

    These are files with a data ending that neither commands of ours nor `datasets` write.
    """
    marker = marker_of(folder)
    known = {*_BESIDE, *_SAVED, *(path.name for path in part.paths)}
    others = [
        entry.name
        for entry in sorted(folder.iterdir())
        if _is_data(entry)
        and not entry.is_dir()
        and entry.name not in known
        and not (marker is not None and marker.covers(entry.name))
    ]
    what = "tables that siftune wrote are" if part.container == "rows" else "the saved dataset is"
    return (
        part.with_note(f"{shown(given)}: {what} read alone, left out: {_few(others)}")
        if (others)
        else part
    )


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
    entries = sorted(_entries(folder, given))
    data = [path for path in entries if _is_data(path) and not path.is_dir()]
    if not data:
        raise DataError(f"{shown(given)} holds no data file ({', '.join(DATA)}, perhaps .gz, .zst)")
    parts = []
    for path in data:
        where = str(Path(given) / path.relative_to(folder))
        if not path.is_file():
            raise DataError(f"{shown(where)}: {_no_shard(path)}")
        parts += _at(path, where)
    left_out = [path for path in entries if path not in set(data)]
    for what, some in (
        ("not data and left out", [path.name for path in left_out if not path.is_dir()]),
        ("links to folders are left out", [path.name for path in left_out if path.is_dir()]),
    ):
        if some:
            parts[0] = parts[0].with_note(f"{shown(given)}: {what}: {_few(some)}")
    return parts


def _entries(folder: Path, given: str) -> Iterator[Path]:
    """The entries of a folder and of its folders; hidden ones are left out, links not followed.

    A folder is an entry only where it is a link, whose files are not among the entries.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{shown(error.filename)} cannot be read: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if Path(root, name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in links]
        yield from (Path(root, name) for name in (*files, *links) if not name.startswith("."))


def _is_data(path: Path) -> bool:
    return _name(path.name, 0) != path.name


def _no_shard(path: Path) -> str:
    """Why an entry with the name of a data file cannot be read as one."""
    if not _there(path):
        return "a link that leads nowhere: remove it, or put the file there"
    return f"{kind_of_entry(path.resolve())}, not a file: name it by itself, or move it away"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


_HELD: Final = ".jsonl"


def _spooled(stream: BinaryIO, given: str) -> Part:
    """A stream that can be read once, copied to a temporary file."""
    held = tempfile.NamedTemporaryFile(suffix=_HELD)  # noqa: SIM115  (lives as long as the part)
    copy_stream(stream, cast("BinaryIO", held), given)
    held.flush()
    return part_of(Path(held.name), given, held)
