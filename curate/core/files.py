"""Writing so that a name only ever holds a whole file, and hashing so that content has a name."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from curate.core.errors import LockedError, UsageError

__all__ = [
    "aside",
    "digest_of",
    "hash_file",
    "hash_tree",
    "locked",
    "read_json",
    "remove",
    "write_json",
    "write_text",
]


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; it becomes ``path``, whole and on disk, or nothing does.

    Works for a file and for a folder. A link at the final name is refused, not followed.
    """
    if path.is_symlink():
        raise UsageError(
            f"{path} is a link: it is not written through; remove it or name another output"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    remove(part)
    try:
        yield part
        _to_disk(part)
        if path.is_dir():
            remove(path)
        part.replace(path)
    finally:
        remove(part)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    with aside(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


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
        raise UsageError(f"{path} is damaged ({error}): delete it and run again") from None


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
    """Hold ``folder`` for this process; the lock goes when the process does, however it ends.

    Raises:
        LockedError: another process holds it; the text names it.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: expected a folder, new or of an earlier run")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise LockedError(
                f"{folder} is in use by process {holder}: wait for it, or choose another --out"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _to_disk(path: Path) -> None:
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        descriptor = os.open(item, os.O_RDONLY)
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
