"""Atomic writes, locks and hashes of files and folders."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import orjson

from siftune.curate.core.errors import LockedError, UsageError, name_in_errors
from siftune.curate.core.redact import without_protected
from siftune.curate.files.lock_files import acquire_lock, open_lock_file

__all__ = [
    "LOCK",
    "atomic_write",
    "digest_of",
    "hash_file",
    "hash_tree",
    "is_name",
    "is_text",
    "kind_of_entry",
    "locked",
    "make_folder",
    "read_json",
    "refuse_other_than_file",
    "remove",
    "target_of_part",
    "to_disk",
    "unused_name",
    "write_json",
    "write_text",
]

LOCK: Final = ".lock"
_LONGEST_PID: Final = 20
_LONGEST_START: Final = 255 - len(".") - len(".0123456789abcdef.part")  # bytes of a name
_PART: Final = re.compile(r"(.*/)?\.([^/]+)\.[0-9a-f]{16}\.part")
_ENTRIES: Final[Mapping[int, str]] = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``; it is renamed to ``path`` when whole and on disk.

    A file replaces a regular file or nothing, a folder only nothing: `files.outputs` has what
    replaces folders.

    Raises:
        UsageError: ``path`` is a folder, a link or a device.
    """
    refuse_other_than_file(path)
    make_folder(path.parent)
    part = unused_name(path)
    try:
        with name_in_errors(path):
            yield part
            to_disk(part)
            refuse_other_than_file(path)
            part.replace(path)
    finally:
        remove(part)


def refuse_other_than_file(path: Path) -> None:
    """Refuse a name at which there is something other than a regular file.

    Raises:
        UsageError: the text names what is there.
    """
    found = kind_of_entry(path)
    if found is None or found == "a file":
        return
    if found == "a link":
        raise UsageError(
            f"{path} is a link: it is not written through; remove it or name another output"
        )
    raise UsageError(f"{path} is {found}: expected a file there; move it or name another output")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        UsageError: a file, or a link that leads nowhere, is in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(
            f"{path} cannot be made: a file is there, or where one above it is"
        ) from None


def kind_of_entry(path: Path) -> str | None:
    """What is at ``path``, in words: ``a file``, ``a folder``, ``a link``, …; None for nothing."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _ENTRIES.get(stat.S_IFMT(mode), "not a file")


def is_name(path: str) -> bool:
    """Whether ``path`` can name a file in our records: UTF-8, not empty, without NUL or newline."""
    return bool(path.strip()) and is_text(path) and not set(path) & set("\n\r")


def is_text(word: str) -> bool:
    """Whether a word of a command line, or a file's name, is UTF-8 without NUL."""
    try:
        word.encode()
    except UnicodeEncodeError:  # Python keeps other bytes as halves of surrogate pairs
        return False
    return "\0" not in word


def unused_name(path: Path) -> Path:
    """An unpredictable hidden name beside ``path``, for a file or folder of ours.

    It ends in a random number; a name too long for that is cut off.
    """
    start = os.fsencode(path.name)[:_LONGEST_START].decode(errors="ignore")
    return path.with_name(f".{start}.{secrets.token_hex(8)}.part")


def target_of_part(name: str) -> str | None:
    """The name that a file of a name from `unused_name` was to become; None for other names."""
    found = _PART.fullmatch(name)
    return None if found is None else (found[1] or "") + found[2]


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step, without keys and passwords in use."""
    with atomic_write(path) as part:
        part.write_text(without_protected(text), encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, in one step."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    write_text(path, text.decode() + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file that we wrote.

    Raises:
        UsageError: it is not JSON; the text names it.
    """
    try:
        return orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UsageError(
            f"{path} is damaged ({error}): correct it, or make or get it again"
        ) from None


def digest_of(value: Any) -> str:
    """128-bit hex digest of a JSON-like value; the order of keys does not matter."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_tree(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, hidden ones left out."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(
            part.startswith(".") for part in path.relative_to(folder).parts
        ):
            total.update(f"{path.relative_to(folder).as_posix()}\0{hash_file(path)}\n".encode())
    return total.hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this process; the lock is released when the process ends.

    Raises:
        LockedError: another process has the lock; the text names it.
        UsageError: ``folder`` is no folder, or its ``.lock`` is not a lock file.
    """
    if (found := kind_of_entry(folder)) not in (None, "a folder"):
        raise UsageError(f"{folder} is {found}: expected a folder, new or of an earlier run")
    make_folder(folder)
    with _lock_file(folder / LOCK) as lock:
        if not acquire_lock(lock.fileno()):
            holder = _content(lock).strip() or "unknown"
            raise LockedError(
                f"{folder} is in use by process {holder}: wait for it, or choose another --out"
            )
        if not _is_at(lock, folder / LOCK):  # another run removed it meanwhile, with its folder
            raise LockedError(f"{folder} was in use by another process: run the command again")
        lock.seek(0)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _lock_file(path: Path) -> IO[str]:
    """The lock file, opened; made where there is none.

    Raises:
        UsageError: it is a link, a device, or a file with other content than a process number.
    """
    refuse_other_than_file(path)
    lock = os.fdopen(open_lock_file(path), "r+", encoding="ascii", errors="replace")
    content = _content(lock)
    if len(content) > _LONGEST_PID or (content and not content.isdigit()):
        lock.close()
        raise UsageError(f"{path} is not a lock file of siftune: move it or name another output")
    return lock


def _content(lock: IO[str]) -> str:
    """The first characters of a lock file; empty where Windows lets nobody but the holder read."""
    lock.seek(0)
    with contextlib.suppress(PermissionError):
        return lock.read(_LONGEST_PID + 1)
    return ""


def to_disk(path: Path) -> None:
    """Flush a file, or a folder with all that is in it, to the disk."""
    windows = sys.platform == "win32"  # flushes what is open for writing; no folders
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if windows and item.is_dir():
            continue
        descriptor = os.open(item, os.O_RDWR if windows else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        for item in path.iterdir():
            remove(item)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
