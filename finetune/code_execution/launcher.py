"""The process that runs one program with its tests, and everything that it starts, in limits.

Started by `run` in an interpreter of its own, with the standard library alone; reads frames (four
bytes of length, then so many bytes) from its standard input and writes lines of JSON. The first
process of a new namespace of processes forks the program; the kernel ends all processes of a
namespace with its first, whatever sessions or groups they made. That one ends with its parent, and
so does its parent.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from siftune.finetune.code_execution import system_calls as calls
from siftune.finetune.code_execution.confinement import (
    confine,
    enter_namespaces,
    fresh_folder,
    make_root,
)
from siftune.finetune.code_execution.program import run_script, serve
from siftune.finetune.code_execution.test_driver import run_calls, run_tests

__all__ = ["main"]

_CHUNK: Final = 1 << 16


def main() -> NoReturn:
    """Enter the namespaces, and wait for their first process, which does the rest."""
    calls.die_with_parent()
    # nothing may be imported from a folder that a program can write, as the present one is to be
    sys.path[:] = [path for path in sys.path if path.startswith(sys.base_prefix)]
    job = json.loads(_frame() or b"{}")
    if os.getppid() != job["parent"]:
        os._exit(1)
    _be_killed_first()
    try:
        enter_namespaces(job["limits"]["network"])
    except OSError as error:
        _write({"refused": "namespaces", "why": str(error)})
        os._exit(0)
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        os._exit(0)
    try:
        calls.die_with_parent()
        _first_process(job)
    except BaseException as error:
        _write({"refused": "mounts", "why": f"{type(error).__name__}: {error}"})
    os._exit(0)


def _be_killed_first() -> None:
    """Where the machine runs out of memory, it is taken from programs, not from the training."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:  # not there, or not allowed: the limits hold all the same
        return


def _first_process(job: Mapping[str, Any]) -> None:
    make_root()
    fresh_folder(job["limits"], job["user"], is_first=True)
    if job["mode"] != "script":
        _write(_tested(job))
        return
    at, end = 0, ""
    while end not in ("time", "output") and (given := _frame()) is not None:
        if at:
            fresh_folder(job["limits"], job["user"], is_first=False)
        end, output = _script(job, given)
        _write({"case": at, "end": end, "output": output.decode("latin-1")})
        at += 1


def _script(job: Mapping[str, Any], given: bytes) -> tuple[str, bytes]:
    """Run the program once, with a standard input; how it ended, and its output."""
    source = os.memfd_create("input")
    with open(source, "wb", closefd=False) as file:
        file.write(given)
    os.lseek(source, 0, os.SEEK_SET)
    ends, begins = os.pipe()

    def own() -> int:
        return run_script(job["program"])

    process = _forked(own, job, job["user"], {0: source, 1: begins})
    os.close(source)
    os.close(begins)
    try:
        return _watched(process, ends, job["limits"])
    finally:
        _end_all()


def _tested(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run the program and its tests in two processes; the lines of the tests' verdict."""
    asked, ask = os.pipe()
    answer, answered = os.pipe()
    limits = job["limits"]

    def program() -> int:
        serve(job["program"], 3, 4, job["seconds_a_call"])
        return 0

    own = _forked(program, job, job["user"], {3: asked, 4: answered})
    os.close(asked)
    os.close(answered)
    tests = json.loads(_frame() or b"{}")  # after the fork: the program's memory has no tests
    verdict, told = os.pipe()

    def driver() -> int:
        os.chdir("/")
        limit = limits["output_kb"] << 10
        if job["mode"] == "calls":
            run_calls(tests["name"], tests["given"], 3, 4, 5, limit)
        else:
            run_tests(tests["code"], tests["names"], 3, 4, 5, limit)
        return 0

    judge = _forked(driver, job, job["user"] + 1, {3: ask, 4: answer, 5: told})
    for pipe in (ask, answer, told):
        os.close(pipe)
    end, output = _watched(judge, verdict, limits)
    if end == "exit 0":
        gone, status = os.waitpid(own, os.WNOHANG)
        end = _ending(status) if gone and status else end
    _end_all()
    return {"end": end, "output": output.decode("latin-1")}


def _forked(
    work: Callable[[], int], job: Mapping[str, Any], user: int, pipes: Mapping[int, int]
) -> int:
    """Fork a confined process in which the ``pipes`` (number there: number here) are all it has."""
    process = os.fork()
    if process:
        return process
    status = 120
    try:
        os.setsid()
        held = {there: os.dup2(here, 100 + there) for there, here in pipes.items()}
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        for there, here in held.items():
            os.dup2(here, there)
        os.closerange(max(2, *held) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        confine(job["limits"], user)
        status = work()
    except BaseException:  # nothing that happens to a program may go on as the launcher
        status = 121
    finally:
        os._exit(status & 0xFF)


def _watched(process: int, pipe: int, limits: Mapping[str, Any]) -> tuple[str, bytes]:
    """Read what a process writes until it ends, is out of time, or writes too much.

    What a child that outlives the process could still write is not waited for.
    """
    output, most = bytearray(), limits["output_kb"] << 10
    until = time.monotonic() + limits["wall_seconds"]
    ended = os.pidfd_open(process)
    end = "time"
    os.set_blocking(pipe, False)
    while (left := until - time.monotonic()) > 0:
        ready = select.select([pipe, ended], [], [], left)[0]
        if pipe in ready and not _read(pipe, output):
            ready = select.select([ended], [], [], max(0, until - time.monotonic()))[0]
        if len(output) > most:
            end = "output"
            break
        if ended in ready:
            _read(pipe, output, all_of_it=True)
            end = _ending(os.waitpid(process, 0)[1])
            break
    os.close(ended)
    os.close(pipe)
    return end, bytes(output[: most + 1])


def _read(pipe: int, output: bytearray, all_of_it: bool = False) -> bool:
    """Read what is there; whether more may come."""
    while True:
        try:
            part = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return True
        output += part
        if not part:
            return False
        if not all_of_it or len(output) > 1 << 26:
            return True


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit {code}"


def _end_all() -> None:
    """Kill all other processes of the namespace, and wait for them."""
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def _frame() -> bytes | None:
    """The next frame of the standard input; None at its end."""
    head = _exactly(4)
    return _exactly(struct.unpack("!I", head)[0]) if len(head) == 4 else None


def _exactly(count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (part := os.read(0, min(_CHUNK, count - len(found)))):
        found += part
    return bytes(found)


def _write(message: Mapping[str, Any]) -> None:
    line = json.dumps(message).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


if __name__ == "__main__":
    sys.exit("started by siftune.finetune.code_execution.run")
