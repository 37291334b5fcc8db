"""Output paths: which may be created or replaced, by the marker of what is there.

The rule: an output is created where there is nothing (or an empty folder), or it replaces what
carries our marker and came from the same command. With `overwriting` it also replaces outputs of
our other commands. What siftune did not write is never removed: not a file in a folder of ours, not
an input or a folder above one, not the current folder, a device, or what a link leads to.

What a marker is, and what it covers, is in `files.output_marker`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Final

import orjson

from siftune.curate.core.errors import SiftuneError, UsageError, name_in_errors
from siftune.curate.files.atomic import (
    LOCK,
    kind_of_entry,
    locked,
    make_folder,
    remove,
    target_of_part,
    to_disk,
    unused_name,
    write_text,
)
from siftune.curate.files.output_marker import (
    MARKER,
    Marker,
    foreign,
    marker_of,
    remove_covered,
    remove_own,
    remove_parts,
    remove_unused,
    write_marker,
    written_names,
)

__all__ = [
    "check_folder",
    "check_name",
    "check_page",
    "check_place",
    "check_run_folder",
    "may_overwrite",
    "overwriting",
    "run_folder",
    "whole_folder",
    "whole_page",
]

_EARLIER: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "curate": ("manifest.json", frozenset({"siftune", "recipe", "inputs"})),
    "pipelines": ("manifest.json", frozenset({"siftune", "recipe", "models"})),
    "finetune": ("run.json", frozenset({"run"})),  # and no other key
    "index": ("index.json", frozenset({"settings", "stretches"})),
}
"""What is known of folders that commands made before there were markers: a file and its keys."""

_overwrite: ContextVar[bool] = ContextVar("overwrite", default=False)


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
    if found == "a folder" and os.path.ismount(path):
        yield "it is a mount point; name a folder in it"
    for given in map(_real, inputs):
        if _real(path) == given:
            yield "it is an input of this command; name another output"
        if _real(path) in given.parents:
            yield f"it holds the input {given.name}; name another output"


def _problems_of_name(path: Path) -> Iterator[str]:
    if any(len(os.fsencode(part)) > _LONGEST_PART for part in path.parts):
        yield f"a name of more than {_LONGEST_PART} bytes: no file system takes it"
    if os.path.expanduser(path) != str(path):  # noqa: PTH111 - a missing home is no error
        yield "the shell has not replaced ~: write the home folder's name out"
    for folder, name in ((".", "current"), (os.path.expanduser("~"), "home")):  # noqa: PTH111
        if _real(path) in (_real(folder), *_real(folder).parents):
            yield f"it is the {name} folder or one above it; name a new folder"
    if path.name == "..":
        yield "it ends in ..; write the folder's name"
    for at, part in enumerate(path.parts):
        front = Path(*path.parts[:at])
        if part == ".." and not front.is_dir():
            yield f"{front} is no folder, so nothing is at {front / part}; leave both out"


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
    _refuse_other_kinds(path, (LOCK,))
    if not _occupied(path, but=_is_of_a_start):
        return
    known = None if _is_run_without_marker(path, command) else _owner(path, command)
    if not path.is_dir():
        return
    if known is not None and known.command != command:
        _refuse_foreign_files(path, known)
        return
    _refuse_links(path)
    _refuse_other_kinds(path, files)
    if known is not None:
        _refuse_foreign_files(path, known, Marker(command, tuple(files)))


def _occupied(path: Path, but: Callable[[str], bool] = lambda name: False) -> bool:
    """Whether there is something at ``path`` other than a folder that is empty but for these."""
    if kind_of_entry(path) != "a folder":
        return kind_of_entry(path) is not None
    return not all(but(item.name) for item in path.iterdir())


def _is_of_a_start(name: str) -> bool:
    """Whether a process leaves such a file when it is killed before it has written the marker."""
    return name == LOCK or target_of_part(name) == MARKER


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
    names = {entry.name for entry in path.iterdir()}
    written = any((path / name).is_file() for name in ("siftune.json", "manifest.json"))
    begun = all(name == MARKER or _is_of_a_start(name) for name in names)
    missing = "has no list of the files that siftune wrote (an earlier version did not write one)"
    if kind_of_entry(path / MARKER) == "a file":
        missing = f"has a damaged list of the files that siftune wrote ({MARKER})"
    if written or (begun and MARKER in names):
        return f"{path} {missing}: name another --out, or move the folder away"
    marker = f"a damaged {MARKER}" if MARKER in names else f"no {MARKER}"
    holds = f"{min(names)} and {marker}"
    return (
        f"{path} is a folder that siftune did not make (it holds {holds}): name another --out, "
        "such as a new folder in it"
    )


def _is_run_without_marker(path: Path, command: str) -> bool:
    """Whether ``path`` is the folder of a run of such a command by its facts, without its marker.

    An earlier version wrote none, and one that is damaged is made anew.
    """
    name, keys = _EARLIER.get(command.partition(" ")[0], ("", frozenset()))
    if kind_of_entry(path / MARKER) not in (None, "a file") or marker_of(path) is not None:
        return False
    if kind_of_entry(path / name) != "a file":
        return False
    try:
        facts = orjson.loads((path / name).read_bytes())
    except orjson.JSONDecodeError:
        return False
    exact = name == "run.json"
    return isinstance(facts, dict) and (keys == facts.keys() if exact else keys <= facts.keys())


def _refuse_foreign_files(folder: Path, known: Marker, of: Marker | None = None) -> None:
    """Refuse files that the marker does not list; with ``of``, those that a run of it writes."""
    for item in foreign(folder, known):
        name = item.relative_to(folder).as_posix()
        if of is None or (item.is_file() and of.covers(name) and not known.covers(name)):
            raise UsageError(
                f"{item} was not written by `siftune {known.command}`: move it out of {folder}, "
                "or name another --out"
            )


def _refuse_links(folder: Path) -> None:
    for root, folders, names in os.walk(folder):
        for path in (Path(root, name) for name in (*folders, *names)):
            if path.is_symlink():
                raise UsageError(
                    f"{path} is a link, and runs write through no links: move it out of {folder}"
                )


def _refuse_other_kinds(folder: Path, files: Sequence[str]) -> None:
    """Refuse folders where a run writes files, or files where it makes folders."""
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
        with name_in_errors(path):
            yield part
            write_marker(part, Marker(command, written_names(part)))
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


def _replace(part: Path, path: Path) -> None:
    """Rename the folder ``part`` to ``path``; the output of ours that was there is removed."""
    if kind_of_entry(path) == "a file":
        path.unlink()
    if not _occupied(path):
        if path.is_dir():
            path.rmdir()  # Windows renames to no name that is taken
        part.rename(path)
        return
    old = unused_name(path)
    path.rename(old)
    part.rename(path)
    remove_own(old)


@contextlib.contextmanager
def run_folder(
    path: Path,
    command: str,
    files: Sequence[str],
    inputs: Iterable[Path] = (),
    scratch: Sequence[str] = (),
) -> Iterator[None]:
    """Lock the folder ``path``, into which a command writes file by file and may resume later.

    ``files`` are the names (see `Marker`) of all that the command writes there. Where it ends in an
    error of ours, such as refused input, before it has written anything but files of ``scratch``,
    nothing of it stays: no folder that was made for it, no marker, no lock.

    Raises:
        LockedError: another process has the lock.
        UsageError: the command may not write there (see `check_run_folder`).
    """
    check_run_folder(path, command, files, inputs)
    if kind_of_entry(path) == "a file":
        path.unlink()
    marker = Marker(command, tuple(files))
    made = [folder for folder in (path, *path.parents) if kind_of_entry(folder) is None]
    with locked(path):
        try:
            check_run_folder(path, command, files)
            _claim(path, marker)
            with name_in_errors(path):
                yield
        except SiftuneError:
            with contextlib.suppress(OSError):  # what cannot be removed stays
                remove_unused(path, marker, scratch)
                for folder in made:
                    folder.rmdir()
            raise


def _claim(folder: Path, marker: Marker) -> None:
    """Mark ``folder``; outputs of another command, which have been checked, are removed first."""
    known = marker_of(folder)
    if known is not None and known.command != marker.command:
        remove_covered(folder, known)
    remove_parts(folder, marker)
    if known != marker:
        write_marker(folder, marker)


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


_LONGEST_PART: Final = 255  # bytes of a name on disk
_LONGEST: Final = 200  # bytes of a name; with what is added to it, a file's name has at most 255
