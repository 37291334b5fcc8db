"""System calls of Linux that Python lacks: namespaces, mounts, capabilities and a seccomp filter.

Of the standard library only, as `launcher` is run without any other package.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from typing import Final

__all__ = [
    "MS_BIND",
    "MS_NODEV",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_REC",
    "detach",
    "die_with_parent",
    "drop_capabilities",
    "filter_system_calls",
    "make_read_only",
    "mount",
    "pivot_root",
    "unshare",
]

MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
_DETACH: Final = 2
_AT_CWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_ATTR_READ_ONLY_NO_DEVICES: Final = 0x1 | 0x2 | 0x4  # RDONLY, NOSUID, NODEV
_MOUNT_SETATTR: Final = 442  # one number on all processors

_NUMBERS: Final = """
pidfd_getfd 438 438  process_madvise 440 440  mount_setattr 442 442  memfd_secret 447 447
open_tree 428 428  move_mount 429 429  fsopen 430 430  fsconfig 431 431  fsmount 432 432
fspick 433 433  io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  kcmp 312 272
unshare 272 97  setns 308 268  mount 165 40  umount2 166 39  pivot_root 155 41  chroot 161 51
socket 41 198  shmget 29 194  msgget 68 186  semget 64 190  mq_open 240 180
memfd_create 319 279  add_key 248 217  request_key 249 218  keyctl 250 219  bpf 321 280
perf_event_open 298 241  userfaultfd 323 282  open_by_handle_at 304 265  acct 163 89
name_to_handle_at 303 264  quotactl 179 60  swapon 167 224  reboot 169 142  kexec_load 246 104
kexec_file_load 320 294  init_module 175 105  finit_module 313 273  delete_module 176 106
iopl 172 -  ioperm 173 -  personality 135 92
"""
"""Name, number on x86-64 and number on 64-bit ARM of each call that is refused."""

_MACHINES: Final = ("x86_64", "aarch64")
_ARCHITECTURE: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE3: Final = 435
_NEW_NAMESPACES: Final = 0x7E020000  # every CLONE_NEW... flag
_X32: Final = 0x40000000  # numbers of another calling convention begin here
_C: Final = ctypes.CDLL(None, use_errno=True)


def _checked(what: str, result: int) -> None:
    """Raise what a call of the C library failed with."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces of the ``flags`` for new ones."""
    _checked("unshare", _C.unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount a file system, or a folder at another place."""
    encoded = (source.encode(), target.encode(), kind.encode() if kind else None)
    _checked(f"mount {target}", _C.mount(*encoded, ctypes.c_ulong(flags), data.encode()))


def make_read_only(path: str, recursive: bool = True) -> None:
    """Nothing below a mount can be written, is a device or changes its user."""
    attributes = struct.pack("QQQQ", _ATTR_READ_ONLY_NO_DEVICES, 0, 0, 0)
    size = ctypes.c_size_t(len(attributes))
    how = _AT_RECURSIVE if recursive else 0
    result = _C.syscall(_MOUNT_SETATTR, _AT_CWD, path.encode(), how, attributes, size)
    _checked(f"mount_setattr {path}", result)


def pivot_root(folder: str) -> None:
    """Make ``folder``, a mount, the root; nothing else is reachable by a path."""
    os.chdir(folder)
    number = {"x86_64": 155, "aarch64": 41}[platform.machine()]
    _checked("pivot_root", _C.syscall(number, b".", b"."))
    detach(".")
    os.chdir("/")


def detach(path: str) -> None:
    """Unmount, also what is in use."""
    _checked(f"umount {path}", _C.umount2(path.encode(), _DETACH))


def die_with_parent() -> None:
    """Be killed when the process (thread) that started this one ends."""
    _checked("prctl", _C.prctl(1, signal.SIGKILL, 0, 0, 0))


def drop_capabilities() -> None:
    """Give up every privilege, and never get one from a program's file."""
    _checked("prctl", _C.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    header, none = struct.pack("Ii", 0x20080522, 0), struct.pack("IIIIII", *[0] * 6)
    _checked("capset", _C.capset(header, none))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_system_calls() -> None:
    """Refuse, from here on, calls that no unit test needs and that limits do not cover.

    They fail with EPERM: sockets, new namespaces and mounts, memory of other processes, shared
    memory and queues (which no limit on a process counts), kernel keys, BPF, io_uring, modules.
    """
    program = b"".join(_instructions(platform.machine()))
    held = _Filter(len(program) // 8, program)
    _checked("seccomp", _C.prctl(22, 2, ctypes.byref(held), 0, 0))


def _instructions(machine: str) -> list[bytes]:
    """The filter as classic BPF: code, jump if true, jump if false, value."""
    load, equals, bits, at_least, result = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, kill, fail = 0x7FFF0000, 0x80000000, 0x00050000

    def one(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    found = [one(load, 4), one(equals, _ARCHITECTURE[machine], 1), one(result, kill)]
    found += [one(load, 0), one(at_least, _X32, 0, 1), one(result, kill)]
    # glibc takes clone where there is no clone3, whose flags no filter can read
    found += [one(equals, _CLONE3, 0, 1), one(result, fail | errno.ENOSYS)]
    numbers = _NUMBERS.split()[1 + _MACHINES.index(machine) :: 3]
    for number in sorted(int(one) for one in numbers if one != "-"):
        found += [one(equals, number, 0, 1), one(result, fail | errno.EPERM)]
    found += [one(equals, _CLONE[machine], 1), one(result, allow), one(load, 16)]
    found += [one(bits, _NEW_NAMESPACES, 0, 1), one(result, fail | errno.EPERM)]
    return [*found, one(result, allow)]
