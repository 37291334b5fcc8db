"""Lock files, on Linux, macOS and Windows; a lock ends with its process, however that ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["acquire_lock", "open_lock_file"]


def open_lock_file(path: Path) -> int:
    """Descriptor of a lock file, made where there is none; of a link or a pipe nothing is opened.

    Windows has no flags for that: the caller has checked ``path`` before.
    """
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    return os.open(path, flags, 0o666)


def acquire_lock(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file; False where another process has locked it and ``wait`` is not set.

    The lock is advisory on Linux and macOS (``flock``). Windows locks the first byte, which other
    processes cannot read then. Where the system has no locks at all, every process gets one.
    """
    from filelock import lock_descriptor  # 15 ms, which `--help` does not need

    try:
        return lock_descriptor(descriptor, blocking=wait)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return True
