"""Output paths of commands: which may be created or replaced, and who wrote what is there.

The rule: an output is created where there is nothing (or an empty folder), or it replaces what
carries our marker and came from the same command. With `overwriting` it also replaces outputs of
our other commands. What siftune did not write is never removed: not a file in a folder of ours, not
an input or a folder above one, not the current folder, a device, or what a link leads to.

The marker of a folder is its file ``.siftune``: the command, and patterns of the files that the
command writes. The marker of a page is its generator tag.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import orjson

from curate.core.errors import UsageError
from curate.core.files import (
    LOCK,
    kind_of_entry,
    locked,
    make_folder,
    remove,
    to_disk,
    unused_name,
    write_json,
    write_text,
)

__all__ = [
    "INPUTS",
    "MARKER",
    "Marker",
    "check_folder",
    "check_name",
    "check_page",
    "check_place",
    "check_run_folder",
    "generator_tag",
    "input_paths",
    "marker_of",
    "may_overwrite",
    "overwriting",
    "remove_own",
    "run_folder",
    "whole_folder",
    "whole_page",
]

MARKER: Final = ".siftune"

INPUTS: Final = frozenset(
    {
        *("source", "sources", "rows", "pairs", "prompts", "text", "run", "recipe"),
        *("base", "model", "ref_model", "critic_model", "reference", "reward", "tokenizer"),
        *("eval_rows", "ptx_rows", "against", "index"),
    }
)
"""Names of options, arguments and recipe keys whose values may be paths that are read."""

_EARLIER: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "curate": ("manifest.json", frozenset({"siftune", "recipe", "inputs"})),
    "pipelines": ("manifest.json", frozenset({"siftune", "recipe", "models"})),
    "finetune": ("run.json", frozenset({"run"})),
    "index": ("index.json", frozenset({"settings", "stretches"})),
}
"""What is known of folders that commands made before there were markers: a file and its keys."""

_overwrite: ContextVar[bool] = ContextVar("overwrite", default=False)
_TAG: Final = re.compile(rb'<meta name="generator" content="siftune ([a-z_ -]+)">')
_HEAD: Final = 4096  # bytes of a page that its generator tag is looked for in
_OF_A_START: Final = (LOCK, f".{MARKER}.*.part")
"""What a process that was killed before it had written the marker leaves in a run folder."""


@dataclass(frozen=True)
class Marker:
    """What the marker of an output tells: the command, and patterns of the files it writes.

    Patterns are `fnmatch`'s, on paths relative to the folder; those of folders end with ``/``.
    """

    command: str
    files: tuple[str, ...] = ()

    def covers(self, name: str) -> bool:
        """Whether the command writes a file (or folder: ``name`` ends with ``/``) of this name."""
        return any(fnmatchcase(name, one) for one in (MARKER, *_OF_A_START, *self.files))


@contextlib.contextmanager
def overwriting(allowed: bool) -> Iterator[None]:
    """Whether outputs of other commands of ours may be replaced (``--overwrite``)."""
    token = _overwrite.set(allowed)
    try:
        yield
    finally:
        _overwrite.reset(token)


def may_overwrite() -> bool:
    """Whether `overwriting` allows to replace outputs of other commands."""
    return _overwrite.get()


def check_place(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse a path at which no output can be made, whatever is there.

    Raises:
        UsageError: it is the current or the home folder or one above, a link, a device, below a
            file, or it is or holds one of the ``inputs``.
    """
    problem = next(_problems(path, inputs), None)
    if problem is not None:
        raise UsageError(f"output {path}: {problem}")


def _problems(path: Path, inputs: Iterable[Path]) -> Iterator[str]:
    yield from _problems_of_name(path)
    for parent in path.parents:
        if kind_of_entry(parent) is not None and not parent.is_dir():
            yield f"{parent} is {kind_of_entry(parent)}, and no folder can be made in it"
    found = kind_of_entry(path)
    if found == "a link":
        yield "it is a link, which is neither followed nor replaced; name another output"
    if found not in (None, "a file", "a folder"):
        yield f"it is {found}; name another output"
    if found == "a folder" and path.is_mount():
        yield "it is a mount point; name a folder in it"
    for given in map(_real, inputs):
        if _real(path) == given:
            yield "it is an input of this command; name another output"
        if _real(path) in given.parents:
            yield f"it holds the input {given.name}; name another output"


def _problems_of_name(path: Path) -> Iterator[str]:
    if os.path.expanduser(path) != str(path):  # noqa: PTH111 - a missing home is no error
        yield "the shell has not replaced ~: write the home folder's name out"
    for folder, name in ((".", "current"), (os.path.expanduser("~"), "home")):  # noqa: PTH111
        if _real(path) in (_real(folder), *_real(folder).parents):
            yield f"it is the {name} folder or one above it; name a new folder"
    if path.name == "..":
        yield "it ends in ..; write the folder's name"


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


def check_folder(path: Path, command: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output path that `whole_folder` may not create or replace.

    Raises:
        UsageError: what is there is not ours, is of another command, or holds files of others.
    """
    check_place(path, inputs)
    if _occupied(path):
        marker = _owner(path, command)
        if path.is_dir():
            _refuse_foreign_files(path, marker)


def check_page(path: Path, command: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output path that `whole_page` may not create or replace.

    Raises:
        UsageError: as `check_folder`, or it is an empty folder.
    """
    check_folder(path, command, inputs)
    if path.is_dir() and not _occupied(path):
        raise UsageError(f"{path} is a folder: expected the name of a file")


def check_run_folder(
    path: Path, command: str, files: Sequence[str], inputs: Iterable[Path] = ()
) -> None:
    """Refuse an output path that `run_folder` may not write into; ``files`` as in `Marker`.

    Raises:
        UsageError: it is not ours or of another command, or something in it is in the way.
    """
    check_place(path, inputs)
    if not _occupied(path, _OF_A_START):
        return
    if not _is_of_earlier_version(path, command):
        marker = _owner(path, command)
        if path.is_dir() and marker.command != command:
            _refuse_foreign_files(path, marker)
            return
    if path.is_dir():
        _refuse_obstacles(path, files)


def _occupied(path: Path, ignored: Sequence[str] = ()) -> bool:
    """Whether there is something at ``path`` other than a folder that is empty but for these."""
    if kind_of_entry(path) != "a folder":
        return kind_of_entry(path) is not None
    return not all(
        any(fnmatchcase(item.name, pattern) for pattern in ignored) for item in path.iterdir()
    )


def _owner(path: Path, command: str) -> Marker:
    """The marker of what is at ``path``, where ``command`` may replace it or write into it."""
    marker = marker_of(path)
    if marker is None:
        raise UsageError(_not_ours(path))
    if marker.command != command and not may_overwrite():
        raise UsageError(
            f"{path} was written by `siftune {marker.command}`: name another --out, or add "
            "--overwrite to replace it"
        )
    return marker


def _not_ours(path: Path) -> str:
    if path.is_file():
        return f"{path} is a file that siftune did not write: name another --out"
    if any((path / name).is_file() for name in ("siftune.json", "manifest.json")):
        return (
            f"{path} has no list of the files that siftune wrote (an earlier version did not "
            "write one): name another --out, or move the folder away"
        )
    first = min(entry.name for entry in path.iterdir())
    return (
        f"{path} is a folder that siftune did not make (it holds {first}): name another --out, "
        "such as a new folder in it"
    )


def _is_of_earlier_version(path: Path, command: str) -> bool:
    """Whether an earlier version, which wrote no markers, made ``path`` with such a command."""
    name, keys = _EARLIER.get(command.partition(" ")[0], ("", frozenset()))
    if kind_of_entry(path / MARKER) is not None or kind_of_entry(path / name) != "a file":
        return False
    try:
        facts = orjson.loads((path / name).read_bytes())
    except orjson.JSONDecodeError:
        return False
    return isinstance(facts, dict) and keys <= facts.keys()


def marker_of(path: Path) -> Marker | None:
    """The marker of a folder or page of ours; None where there is none."""
    if path.is_dir():
        return _read_marker(path / MARKER)
    with path.open("rb") as stream:
        found = _TAG.search(stream.read(_HEAD))
    return None if found is None else Marker(found[1].decode())


def _read_marker(path: Path) -> Marker | None:
    if kind_of_entry(path) != "a file":
        return None
    try:
        facts = orjson.loads(path.read_bytes())
        return Marker(str(facts["command"]), tuple(map(str, facts["files"])))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def generator_tag(command: str) -> str:
    """The tag in the head of a page that marks it as written by ``command``."""
    return f'<meta name="generator" content="siftune {command}">'


def _refuse_foreign_files(folder: Path, marker: Marker) -> None:
    other = next(_foreign(folder, marker), None)
    if other is not None:
        raise UsageError(
            f"{other} was not written by `siftune {marker.command}`: move it out of {folder}, or "
            "name another --out"
        )


def _foreign(folder: Path, marker: Marker) -> Iterator[Path]:
    """What is in a folder of ours that its marker, or that of a folder in it, does not cover."""
    for item, name, inner in _entries(folder):
        if inner is not None:
            yield from _foreign(item, inner)
        elif not marker.covers(name):
            yield item


def _entries(folder: Path) -> Iterator[tuple[Path, str, Marker | None]]:
    """Each thing in ``folder``, its relative name, and the marker of an output folder in it.

    Links and devices have the name "": no marker covers them. What is in a folder that has a marker
    of its own is not listed.
    """
    for root, folders, files in os.walk(folder):
        for one in sorted(folders):
            path = Path(root, one)
            inner = None if path.is_symlink() else _read_marker(path / MARKER)
            if inner is not None:
                folders.remove(one)
            yield path, _name_in(folder, path), inner
        for one in sorted(files):
            yield Path(root, one), _name_in(folder, Path(root, one)), None


def _name_in(folder: Path, path: Path) -> str:
    found, name = kind_of_entry(path), path.relative_to(folder).as_posix()
    return {"a file": name, "a folder": f"{name}/"}.get(str(found), "")


def _refuse_obstacles(folder: Path, files: Sequence[str]) -> None:
    """Refuse links in a run folder, and folders where a run writes files, or files for folders."""
    for root, folders, names in os.walk(folder):
        for path in (Path(root, name) for name in (*folders, *names)):
            if path.is_symlink():
                raise UsageError(
                    f"{path} is a link, and runs write through no links: move it out of {folder}"
                )
    for name in files:
        expected = "a folder" if name.endswith("/") else "a file"
        found = kind_of_entry(folder / name)
        if found not in (None, expected):
            raise UsageError(
                f"{folder / name} is {found}, where the run writes {expected}: move it out of "
                f"{folder}, or name another --out"
            )


@contextlib.contextmanager
def whole_folder(path: Path, command: str) -> Iterator[Path]:
    """A new folder to write to; it becomes ``path``, whole and on disk and marked, or nothing does.

    Raises:
        UsageError: ``path`` may not be replaced (see `check_folder`).
    """
    check_folder(path, command)
    make_folder(path.parent)
    part = unused_name(path)
    part.mkdir()
    try:
        yield part
        names = sorted(glob.escape(name) for _, name, _ in _entries(part))
        _write_marker(part, Marker(command, tuple(names)))
        to_disk(part)
        check_folder(path, command)
        _replace(part, path)
    finally:
        remove(part)


def whole_page(path: Path, text: str, command: str) -> None:
    """Write a page that has the `generator_tag` of ``command``, in one step.

    Raises:
        UsageError: ``path`` may not be replaced (see `check_page`).
    """
    check_page(path, command)
    if not path.is_dir():
        write_text(path, text)
        return
    old = unused_name(path)
    path.rename(old)
    write_text(path, text)
    remove_own(old)


def _write_marker(folder: Path, marker: Marker) -> None:
    write_json(folder / MARKER, asdict(marker))


def _replace(part: Path, path: Path) -> None:
    """Rename the folder ``part`` to ``path``; the output of ours that was there is removed."""
    if kind_of_entry(path) == "a file":
        path.unlink()
    if not _occupied(path):  # rename takes the place of an empty folder
        part.rename(path)
        return
    old = unused_name(path)
    path.rename(old)
    part.rename(path)
    remove_own(old)


def remove_own(folder: Path) -> None:
    """Remove from a folder with a marker what the marker covers, and the folder if it is empty."""
    marker = _read_marker(folder / MARKER)
    if marker is None:
        return
    _clear(folder, marker)
    if {item.name for item in folder.iterdir()} <= {MARKER, LOCK}:
        remove(folder)


def _clear(folder: Path, marker: Marker) -> None:
    """Remove what the marker covers, but the marker itself and the lock."""
    found = [one for one in _entries(folder) if one[1] not in (MARKER, LOCK)]
    for item, name, inner in reversed(found):
        if inner is not None:
            remove_own(item)
        elif name.endswith("/") and marker.covers(name):
            with contextlib.suppress(OSError):  # it is not empty
                item.rmdir()
        elif marker.covers(name):
            item.unlink()


@contextlib.contextmanager
def run_folder(
    path: Path, command: str, files: Sequence[str], inputs: Iterable[Path] = ()
) -> Iterator[None]:
    """Hold the folder ``path``, into which a command writes file by file, and can go on later.

    ``files`` are the patterns (see `Marker`) of all that the command writes there.

    Raises:
        LockedError: another process holds it.
        UsageError: the command may not write there (see `check_run_folder`).
    """
    check_run_folder(path, command, files, inputs)
    if kind_of_entry(path) == "a file":
        path.unlink()
    with locked(path):
        check_run_folder(path, command, files)
        _claim(path, Marker(command, tuple(files)))
        yield


def _claim(folder: Path, marker: Marker) -> None:
    """Mark ``folder``; outputs of another command, which have been checked, are removed first."""
    known = _read_marker(folder / MARKER)
    if known is not None and known.command != marker.command:
        _clear(folder, known)
    for left in folder.glob(".*.part"):
        if kind_of_entry(left) == "a file":
            left.unlink()  # of a killed process
    if known != marker:
        _write_marker(folder, marker)


def check_name(name: str, key: str = "name") -> None:
    """Refuse a name that cannot be the plain name of a file or folder.

    Raises:
        UsageError: it is empty or hidden, holds a separator or a control character, or is too long.
    """
    plain = name.isprintable() and not set(name) & set("/\\") and len(name.encode()) <= _LONGEST
    if not plain or not name.strip() or name.startswith((".", "~")):
        raise UsageError(
            f"{key}: it names a folder too; expected a plain name, with no path and no leading "
            f"dot, got {name!r}"
        )


_LONGEST: Final = 200  # bytes of a name; with what is added to it, a file's name has at most 255


def input_paths(given: Any, key: str = "") -> Iterator[Path]:
    """The paths in options or a recipe that are there: values of the names in `INPUTS`."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            yield from input_paths(value, str(name))
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
