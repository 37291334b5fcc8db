"""Faults beside a run: limits of the process, damaged state, changed inputs, clocks, two runs.

Each takes a `tests.faults.Bench`, a method and a number, by which it draws its place; it returns
what is wrong, or None. After it the bench has the output and the inputs of the beginning.
"""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.faults import Bench, Ended

__all__ = ["LIMITS", "STATE_FAULTS"]

_INPUTS: Final = {"curate": "rows.jsonl", "sft": "rows.jsonl", "ppo": "rows.jsonl"}
_LATER: Final = 2_000_000_000  # seconds: in the year 2033
_DAY: Final = 86_400
_MIB: Final = 1 << 20


def _limit_memory(draw: random.Random) -> None:
    """F4: address space for at most some MiB more than the process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + draw.randint(1, 256) * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit_files(draw: random.Random) -> None:
    """F15: few open files."""
    most = draw.randint(8, 24)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _limit_size(draw: random.Random) -> None:
    """F15: no file beyond so many bytes, as of a quota."""
    most = draw.choice([4_000, 8_000, 30_000, 60_000])  # what a command prints is less
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


LIMITS: Final[Mapping[str, Callable[[random.Random], None]]] = {
    "memory": _limit_memory,
    "open-files": _limit_files,
    "file-size": _limit_size,
}
"""Limits that a process sets itself before it runs a command."""


def _limited(bench: Bench, method: str, fault: str, number: int) -> str | None:
    ended = bench.run(method, fault, number)
    wrong = None if ended.code == -6 and fault == "memory" else _no_line(ended)
    return wrong or bench.compared(method)


def _no_line(ended: Ended) -> str | None:
    """What is wrong with an end that is either a good one or told in a line."""
    refused = ended.code in (1, 2, 3) and ended.message.startswith("siftune: ")
    if ended.code == 0 or (refused and "please report it" not in ended.message):
        return None
    return f"it ends with {ended.code}: {ended.message}"


def _cut_off(bench: Bench, method: str, draw: random.Random) -> None:
    """Kill a run somewhere in its second half, when there is state to go on from."""
    points = bench.points(method)
    bench.run(method, "kill", draw.randint(points // 2, points - 1))


def _damaged(bench: Bench, method: str, fault: str, number: int) -> str | None:
    """F10, F17: a state file that is cut, overwritten, emptied or gone is noticed, or not needed.

    F17 (``torn``) is a file of the newest checkpoint. A card is not looked at: people edit theirs.
    """
    draw = random.Random(f"{method} {fault} {number}")
    _cut_off(bench, method, draw)
    files = [path for path in bench.state() if path.name not in (".lock", "README.md")]
    if fault == "torn":
        files = _of_newest(files)
    if not files:
        return bench.compared(method)
    path = draw.choice(files)
    _damage(path, draw)
    again = bench.run(method)
    wrong = _no_line(again)
    if again.code == 0:
        return wrong or bench.compared(method)
    if not wrong and path.name not in again.message:
        wrong = f"{path.name} is damaged, and the line does not name it: {again.message}"
    bench.clear()  # as the line advises: what it names, or all, is moved away
    return wrong or bench.compared(method)


def _of_newest(files: list[Path]) -> list[Path]:
    steps = [one for one in files if any(part.startswith("checkpoint-") for part in one.parts)]
    folders = sorted({one.parent for one in steps}, key=lambda one: int(one.name.split("-")[1]))
    return [one for one in steps if one.parent == folders[-1]] if folders else []


def _damage(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    how = draw.choice(["cut", "flip", "zero", "gone"])
    if how == "gone":
        path.unlink()
        return
    at = draw.randrange(max(len(content), 1))
    flipped = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :] if content else b"x"
    path.write_bytes({"cut": content[:at], "flip": flipped, "zero": b""}[how])


def _changed(bench: Bench, method: str, fault: str, number: int) -> str | None:
    """F11: other input of the same size and time; it is noticed by its content."""
    draw = random.Random(f"{method} {fault} {number}")
    path = bench.folder / _INPUTS.get(method, "pairs.jsonl")
    content, facts = path.read_bytes(), path.stat()
    try:
        _rewrite(path, content.replace(b"Say 3", b"Ask 3"), facts)
        bench.run(method)  # what is right with the other input
        expected = bench.bytes()
        bench.clear()
        _rewrite(path, content, facts)
        _cut_off(bench, method, draw)
        _rewrite(path, content.replace(b"Say 3", b"Ask 3"), facts)
        again = bench.run(method)
        if again.code == 0:
            found = bench.bytes()  # stages of the old input may be there as well
            old = sorted(name for name, one in expected.items() if found.get(name) != one)
            return f"the input is another, results are old: {', '.join(old)}" if old else None
        return _no_line(again)
    finally:
        _rewrite(path, content, facts)
        bench.clear()


def _rewrite(path: Path, content: bytes, facts: os.stat_result) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _clock(bench: Bench, method: str, fault: str, number: int) -> str | None:
    """F14: files of the future, or of the day before, among state and inputs."""
    draw = random.Random(f"{method} {fault} {number}")
    _cut_off(bench, method, draw)
    for path in [*bench.state(), *bench.folder.glob("*.jsonl")]:
        time = _LATER if number % 2 else path.stat().st_mtime - _DAY
        os.utime(path, (time, time))
    return bench.compared(method)


def _two(bench: Bench, method: str, fault: str, number: int) -> str | None:
    """F13: two runs into one folder, begun at once: one is refused in a line, or both end well."""
    bench.points(method)
    first, second = bench.begin(method), bench.begin(method)
    ends = [bench.end(first), bench.end(second)]
    wrong = next((told for told in map(_no_line, ends) if told), None)
    if not wrong and all(ended.code for ended in ends):
        wrong = f"both are refused: {ends[0].message}; {ends[1].message}"
    return wrong or bench.compared(method)


def _stale(bench: Bench, method: str, fault: str, number: int) -> str | None:
    """F13: a lock that nobody holds, with the number of a dead process or of another one."""
    _cut_off(bench, method, random.Random(f"{method} {fault} {number}"))
    for path in bench.state():
        if path.name == ".lock":
            path.write_text(str(os.getpid() if number % 2 else 999_999_999))
    return bench.compared(method)


STATE_FAULTS: Final[Mapping[str, Callable[[Bench, str, str, int], str | None]]] = {
    **dict.fromkeys(LIMITS, _limited),
    "damaged": _damaged,
    "torn": _damaged,
    "changed-input": _changed,
    "clock": _clock,
    "two-runs": _two,
    "stale-lock": _stale,
}
"""Faults by name. Of F15 a folder that may not be written is left out: root may write in any."""
