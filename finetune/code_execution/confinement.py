"""Namespaces, a root folder of its own, another user and limits, for a process that forks programs.

Of the standard library only, as `launcher` is run without any other package.
"""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from siftune.finetune.code_execution import system_calls as calls

__all__ = ["WORK", "confine", "enter_namespaces", "fresh_folder", "make_root"]

WORK: Final = "/tmp"
"""The one folder in which a program can write."""

_NEW_MOUNTS, _NEW_NAMES, _NEW_QUEUES = 0x20000, 0x4000000, 0x8000000
_NEW_USERS, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_INSIDE: Final = 1000  # the one user of a namespace that a plain user made
_LIBRARIES: Final = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64")
_STACK: Final = 64 << 20
_MOUNTED_AT: Final = "/proc"  # is there on every Linux, and needed by nothing later


def enter_namespaces(with_network: bool) -> bool:
    """Leave the machine's processes, mounts, network and queues; whether as root.

    A user who is not root gets a namespace of users, in which only they exist.
    """
    is_root = os.geteuid() == 0
    flags = _NEW_MOUNTS | _NEW_NAMES | _NEW_QUEUES | _NEW_PROCESSES
    flags |= 0 if with_network else _NEW_NETWORK
    user, group = os.getuid(), os.getgid()
    calls.unshare(flags if is_root else flags | _NEW_USERS)
    if not is_root:
        maps = {"setgroups": "deny", "uid_map": f"{_INSIDE} {user} 1"}
        maps["gid_map"] = f"{_INSIDE} {group} 1"
        for name, text in maps.items():
            Path("/proc/self", name).write_text(text, encoding="ascii")
    return is_root


def make_root() -> None:
    """Leave nothing of the file system but Python's library and shared libraries, read-only."""
    calls.mount("", "/", None, calls.MS_REC | calls.MS_PRIVATE)
    flags = calls.MS_NOSUID | calls.MS_NODEV
    calls.mount("tmpfs", _MOUNTED_AT, "tmpfs", flags, "size=1m,mode=755")
    for source in _shown():
        _show(source)
    for device in ("/dev/null", "/dev/urandom"):
        _bind(device, file=True)
    Path(_MOUNTED_AT + WORK).mkdir()
    calls.pivot_root(_MOUNTED_AT)
    calls.make_read_only("/", recursive=False)


def _shown() -> Iterator[str]:
    """Folders and files of the host that programs can read."""
    own = {*map(sysconfig.get_path, ("stdlib", "platstdlib"))}
    if sys.base_prefix not in ("/usr", "/usr/local"):
        own.add(str(Path(sys.base_prefix, "lib")))
    taken: list[str] = []
    for path in sorted({*own, *_LIBRARIES, "/etc/ld.so.cache"}):
        if Path(path).exists() and not any(path.startswith(f"{one}/") for one in taken):
            taken.append(path)
            yield path


def _show(source: str) -> None:
    if Path(source).is_symlink():
        target = Path(_MOUNTED_AT + source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(source).readlink())
        return
    calls.make_read_only(_bind(source, file=Path(source).is_file()))


def _bind(source: str, file: bool) -> str:
    target = Path(_MOUNTED_AT + source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if file:
        target.touch()
    else:
        target.mkdir(exist_ok=True)
    calls.mount(source, str(target), None, calls.MS_BIND | calls.MS_REC)
    return str(target)


def fresh_folder(limits: Mapping[str, Any], user: int, is_first: bool) -> None:
    """Mount an empty folder of limited size in place of what was there."""
    if not is_first:
        calls.detach(WORK)
    user = user if os.geteuid() == 0 else _INSIDE
    size, files = limits["disk_mb"] << 20, limits["files"]
    options = f"size={size},nr_inodes={files + 1},mode=700,uid={user},gid={user}"
    calls.mount("tmpfs", WORK, "tmpfs", calls.MS_NOSUID | calls.MS_NODEV, options)


def confine(limits: Mapping[str, Any], user: int) -> None:
    """Make this process, and all that it starts, the unprivileged ``user`` within the limits."""
    os.chdir(WORK)
    os.umask(0o077)
    is_root = os.geteuid() == 0
    kinds = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory_mb"] << 20,
        resource.RLIMIT_FSIZE: limits["disk_mb"] << 20,
        resource.RLIMIT_NOFILE: limits["files"],
        # a plain user's namespace has the other processes of this run, too
        resource.RLIMIT_NPROC: limits["processes"] + (0 if is_root else 3),
        resource.RLIMIT_STACK: _STACK,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, most in kinds.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    if is_root:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    calls.drop_capabilities()
    calls.filter_system_calls()
