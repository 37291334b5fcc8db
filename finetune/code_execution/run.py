"""Runs programs that a model wrote: with standard inputs, with the code of tests, or call by call.

Each program has an interpreter, namespaces and a user of its own, started by `launcher`; what it
wrote is read here, and compared outside of its reach.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from siftune.finetune.code_execution.limits import Limits
from siftune.finetune.code_execution.values import read, written

__all__ = [
    "Ended",
    "NotRunError",
    "ProgramError",
    "TestsRun",
    "call_function",
    "run_script",
    "run_tests",
]

_USERS: Final = range(61184, 65519, 2)  # those that systemd gives to passing services
_counter: Final = itertools.count(os.getpid())
_PACKAGES: Final = str(Path(__file__).absolute().parents[3])
_START: Final = (
    f"import sys; sys.path[:0] = [{_PACKAGES!r}]; "
    "from siftune.finetune.code_execution.launcher import main; main()"
)
_GRACE: Final = 30.0  # seconds for the start, and for the kernel to take it all away


class NotRunError(Exception):
    """The machine did not run the program; ``args``: which limit could not be set, and why."""


class ProgramError(Exception):
    """A program failed before its function could be called; the text is the error's."""


@dataclass(frozen=True)
class Ended:
    """How one run ended (``exit N``, ``signal N``, ``time``, ``output``), and what it wrote."""

    end: str
    output: str


@dataclass(frozen=True)
class TestsRun:
    """What the asserts of tests came to: how many held and failed, and whether all code was run.

    ``sites`` counts the asserts of the text; those that were not reached are in neither number.
    """

    __test__ = False  # no test, whatever pytest thinks of the name

    sites: int
    held: int
    failed: int
    is_ended: bool
    end: str


def run_script(program: str, inputs: Sequence[str], limits: Limits) -> list[Ended]:
    """Run a program once for each standard input, each time as if for the first.

    A run that is out of time or writes too much is the last: there are fewer results then.

    Raises:
        NotRunError: the machine did not run it.
    """
    frames = [text.encode("utf-8", "replace") for text in inputs]
    job = {"mode": "script", "program": program}
    lines = _launched(job, frames, limits, len(inputs))
    return [
        Ended(line["end"], line["output"].encode("latin-1").decode("utf-8", "replace"))
        for line in lines
    ]


def run_tests(program: str, code: str, names: Mapping[str, str], limits: Limits) -> TestsRun:
    """Run the code of tests on a program; ``names`` in it are those of the program, as it has them.

    Raises:
        NotRunError: the machine did not run it, or the tests give it what is no plain data.
    """
    job = {"mode": "tests", "program": program, "seconds_a_call": None}
    frame = json.dumps({"code": code, "names": dict(names)}).encode()
    (line,) = _launched(job, [frame], limits, 1)
    told = _told(line["output"])
    if any("unsent" in one for one in told):
        raise NotRunError("tests", "they give the program what is no plain data")
    state = {one["site"]: one["held"] for one in told if "site" in one}
    held = sum(state.values())
    sites = next((one["sites"] for one in told if "sites" in one), 0)
    is_ended = any(one.get("ended") for one in told)
    return TestsRun(sites, held, len(state) - held, is_ended, line["end"])


def call_function(
    program: str, name: str, calls: Sequence[Sequence[Any]], limits: Limits, seconds: float | None
) -> list[tuple[bool, Any]]:
    """Call a function of a program; of each call whether it gave plain data, and that or why not.

    ``seconds``: each call is made in a process of its own, and has that long.

    Raises:
        NotRunError: the machine did not run it.
        ProgramError: the program did not run to its end, so that nothing could be called.
        TypeError: an argument is no plain data.
    """
    job = {"mode": "calls", "program": program, "seconds_a_call": seconds}
    given = written([list(one) for one in calls], _refuse)
    frame = json.dumps({"name": name, "given": given}).encode()
    (line,) = _launched(job, [frame], limits, 1)
    why = f"the program ended, {line['end']}"
    found: list[tuple[bool, Any]] = [(False, why)] * len(calls)
    for one in _told(line["output"]):
        if "failed" in one:
            raise ProgramError(one["failed"])
        if "call" in one:
            found[one["call"]] = _result(one)
    return found


def _result(told: Mapping[str, Any]) -> tuple[bool, Any]:
    if "raises" in told:
        return False, told["raises"]
    try:
        return True, read(told["result"], _refuse)
    except ValueError as error:  # too deep for this process
        return False, str(error)


def _refuse(value: Any) -> int:
    raise TypeError(f"expected plain data, got {type(value).__name__}")


def _told(output: str) -> list[dict[str, Any]]:
    """The whole lines that the process of the tests wrote."""
    return [json.loads(line) for line in output.split("\n")[:-1]]


def _launched(
    job: Mapping[str, Any], frames: Sequence[bytes], limits: Limits, runs: int
) -> list[dict[str, Any]]:
    """What a launcher writes about a job."""
    user = _USERS[next(_counter) % len(_USERS)]
    own = {"limits": asdict(limits), "user": user, "parent": os.getpid()}
    sent = [json.dumps({**job, **own}).encode(), *frames]
    given = b"".join(struct.pack("!I", len(one)) + one for one in sent)
    with subprocess.Popen(
        [sys.executable, "-S", "-s", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONHASHSEED": "0"},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(given, limits.wall_seconds * runs + _GRACE)
        except subprocess.TimeoutExpired:
            raise NotRunError("launcher", "it did not end in time") from None
        finally:
            process.kill()  # with it goes all that it started
    try:
        lines = [json.loads(line) for line in output.decode().splitlines()]
    except ValueError:  # it was killed while it wrote
        lines = []
    if not lines:
        raise NotRunError("launcher", f"it ended with {process.returncode}")
    if "refused" in lines[-1]:
        raise NotRunError(lines[-1]["refused"], lines[-1]["why"])
    return lines
