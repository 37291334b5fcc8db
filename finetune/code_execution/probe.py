"""Each limit is tried once in a process before a model's program is run: one that holds is seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Final

from siftune.curate.core.errors import UsageError
from siftune.finetune.code_execution.limits import Limits, check_platform
from siftune.finetune.code_execution.run import NotRunError, run_script

__all__ = ["LIMITS", "check_limits", "missing_limits", "needs_network"]

LIMITS: Final[Mapping[str, str]] = {
    "namespaces": "it runs in namespaces of its own",
    "mounts": "it has a root folder of its own",
    "launcher": "it runs at all",
    "user": "it is another user, without root's rights",
    "network": "it has no network",
    "file_system": "it sees no file of the machine but Python's library",
    "environment": "it has none of the environment",
    "descriptors": "it has none of the open files",
    "system_calls": "it can neither trace processes nor make namespaces",
    "memory": "its memory is limited",
    "disk": "what it writes is limited",
    "files": "the number of its files is limited",
    "processes": "the number of its processes is limited",
    "core": "it leaves no core dump",
    "left_over": "processes that it leaves behind are ended",
    "cpu_time": "its processor time is limited",
    "output": "its output is limited",
    "wall_time": "its time is limited",
}
"""What is tried, by the name that refuses or allows it."""

_ADVICE: Final[Mapping[str, str]] = {
    "namespaces": "run as root, or let plain users make namespaces (sysctl "
    "user.max_user_namespaces above 0 and kernel.apparmor_restrict_unprivileged_userns=0; a "
    "container needs its security options seccomp and apparmor set to unconfined)",
    "mounts": "take Linux 5.12 or newer, on a disk rather than in an initial RAM disk",
}
_LIMITS: Final = Limits(
    cpu_seconds=1,
    wall_seconds=300,
    memory_mb=128,
    disk_mb=1,
    files=24,
    processes=3,
    output_kb=64,
)
_PROBE: Final = """
import ctypes, errno, json, os, resource, time

def fails(step, *kinds):
    try:
        step()
    except kinds or OSError:
        return True
    except BaseException:
        return False
    return False

def user():
    return os.getuid() != 0 and os.getppid() <= 1 and fails(lambda: os.setuid(0))

def network():
    import socket
    try:
        socket.socket().connect(("127.0.0.1", 9))
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES, errno.ENETUNREACH, errno.ENETDOWN)
    return False

def file_system():
    seen = ["/etc/passwd", "/proc/self", "/sys/kernel", "/dev/shm", "/usr/bin"]
    write = lambda folder: open(folder + "/probe", "w")
    folders = ["/", "/dev", os.path.dirname(os.__file__)]
    return not any(map(os.path.exists, seen)) and all(fails(lambda: write(f)) for f in folders)

def environment():
    return not {*os.environ} - {"PYTHONHASHSEED", "LC_CTYPE"}

def descriptors():
    return all(fails(lambda: os.fstat(number)) for number in range(3, 1024))

def system_calls():
    library = ctypes.CDLL(None, use_errno=True)
    tried = [library.ptrace(0, 0, 0, 0), library.unshare(0x10000000), library.unshare(0x20000)]
    return tried == [-1, -1, -1]

def memory():
    return fails(lambda: bytearray(129 << 20), MemoryError)

def disk():
    def write():
        for number in range(3):
            with open(f"disk{number}", "wb", buffering=0) as file:
                if file.write(bytes(1 << 19)) < 1 << 19:
                    raise OSError
    held = fails(write)
    for number in range(3):
        if os.path.exists(f"disk{number}"):
            os.remove(f"disk{number}")
    return held

def files():
    made = fails(lambda: [open(f"file{number}", "w").close() for number in range(30)])
    opened = fails(lambda: [os.dup(0) for number in range(30)])
    os.closerange(3, 64)
    return made and opened

def core():
    return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)

def processes():
    def start():
        for number in range(8):
            if not os.fork():
                os.setsid()
                time.sleep(1000)
                os._exit(0)
    return fails(start)

def left_over():
    return all(fails(lambda: os.kill(one, 0)) for one in range(2, 100) if one != os.getpid())

def cpu_time():
    while True:
        pass

def output():
    while True:
        print("x" * 1000)

def wall_time():
    time.sleep(1000)

def all_others():
    tried = (user, network, file_system, environment, descriptors, system_calls, memory, disk)
    return [one.__name__ for one in (*tried, files, core, processes) if not one()]

print(json.dumps(globals()[input()]()))
"""


def check_limits(allowed: tuple[str, ...] = ()) -> None:
    """Refuse to run programs where a limit does not hold; it is tried once in a process.

    Raises:
        UsageError: this is no such Linux, or a limit does not hold that is not ``allowed`` to fail.
    """
    check_platform()
    if unknown := [name for name in allowed if name not in LIMITS]:
        raise UsageError(f"allow: no limit is called {unknown[0]!r}; there are {', '.join(LIMITS)}")
    for name, why in missing_limits(needs_network(allowed)).items():
        if name not in allowed:
            otherwise = f"name {name} in the option allow where that does no harm"
            raise UsageError(
                f"programs of a model are not run here: that {LIMITS[name]} does not hold "
                f"({name}: {why}); {_ADVICE.get(name, otherwise)}"
            )


@cache
def needs_network(allowed: tuple[str, ...]) -> bool:
    """Whether programs have to be run with the network, which has to be allowed."""
    if "network" not in allowed:
        return False
    try:
        run_script("", [""], _LIMITS)
    except NotRunError as error:
        return str(error.args[0]) == "namespaces"
    return False


@cache
def missing_limits(with_network: bool = False) -> Mapping[str, str]:
    """Limits that do not hold, each with what was seen."""
    limits = replace(_LIMITS, network=with_network)
    steps = ["all_others", "left_over", "cpu_time", "output"]
    try:
        found = run_script(_PROBE, steps, limits)
        (slept,) = run_script(_PROBE, ["wall_time"], replace(limits, wall_seconds=0.2))
    except NotRunError as error:
        return {error.args[0]: error.args[1]}
    ends = dict(zip(steps, found, strict=False))
    missing = {}
    first = ends["all_others"]
    if first.end != "exit 0":
        missing["launcher"] = f"the probe ended with {first.end}"
    else:
        missing |= dict.fromkeys(json.loads(first.output), "it could do otherwise")
    if "left_over" in ends and ends["left_over"].output.strip() != "true":
        missing["left_over"] = "one was still there"
    expected = {"cpu_time": ("signal 9", "signal 24"), "output": ("output",)}
    for name, known in expected.items():
        end = ends[name].end if name in ends else "never"
        if end not in known:
            missing[name] = f"it ended with {end}"
    if slept.end != "time":
        missing["wall_time"] = f"it ended with {slept.end}"
    return missing
