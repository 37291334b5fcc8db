"""Runs contestants in processes of their own, in turns, and measures time and memory of each."""

from __future__ import annotations

import json
import mmap
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "PEERS",
    "ROOT",
    "Contestant",
    "Failed",
    "Sample",
    "Spread",
    "alternate",
    "ratios",
    "run_once",
]

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-peers/bin/python"
_ROOM_MB = 2048
Say = Callable[[str], None]


@dataclass(frozen=True)
class Contestant:
    """One way to do the work: a module of `benchmarks.ours` or `benchmarks.peers`.

    ``rows`` is what it is given: slow peers get fewer, and are compared by the row. ``install`` is
    what to ask pip for if the module cannot be imported.
    """

    name: str
    module: str
    options: Mapping[str, Any]
    rows: int
    repeats: int = 1
    install: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The interpreter that has it."""
        return str(PEERS) if self.module.startswith("benchmarks.peers") else sys.executable


@dataclass(frozen=True)
class Sample:
    """One run: seconds of the work itself, of the whole process, peak memory, reported facts."""

    cpu: float
    wall: float
    process_cpu: float
    peak_mb: float
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """Least, middle and greatest of some figures."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        return cls(min(values), statistics.median(values), max(values))


class Failed(Exception):
    """A contestant could not run; the text is the reason, in one line."""


def alternate(
    contestants: Sequence[Contestant], say: Say, room_mb: int = _ROOM_MB
) -> dict[str, list[Sample]]:
    """Samples of each contestant, run in turns A B C A B C; who cannot run is reported and left.

    A contestant of fewer ``repeats`` drops out of the later turns. Each finds its files read and
    its memory warm (`_warm`), with ``room_mb`` for what it writes.
    """
    samples: dict[str, list[Sample]] = {one.name: [] for one in contestants}
    out: set[str] = set()
    for turn in range(max((one.repeats for one in contestants), default=0)):
        for one in contestants:
            if turn >= one.repeats or one.name in out:
                continue
            _warm(one, max((sample.peak_mb for sample in samples[one.name]), default=0) + room_mb)
            try:
                samples[one.name].append(run_once(one))
                say(f"  {one.name}: {samples[one.name][-1].cpu:.2f} CPU s, {one.rows:,} rows")
            except Failed as error:
                out.add(one.name)
                say(f"  {one.name}: {error}")
                samples.pop(one.name)
    return samples


def _warm(one: Contestant, memory_mb: float) -> None:
    """Read the files that it is given, and touch as much memory as it will take.

    A virtual machine gives memory that is free for some seconds back to its host, and drops files
    that nothing reads: who comes next pays in system time, up to 3 ms a MB where this was written,
    ten times what the memory costs otherwise. The order of contestants would change their figures.
    """
    for path in _files(one.options):
        with path.open("rb") as file:
            while file.read(2**24):
                pass
    how = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
    mmap.mmap(-1, int(memory_mb * 2**20), flags=how).close()


def _files(options: Mapping[str, Any]) -> Iterator[Path]:
    for option in options.values():
        if isinstance(option, Mapping):
            yield from _files(option)
        elif isinstance(option, str) and Path(option).is_file():
            yield Path(option)


def ratios(
    slow: Sequence[Sample], fast: Sequence[Sample], slow_rows: int, fast_rows: int
) -> Spread:
    """Ratio of the CPU seconds a row: each turn over the same turn of the other.

    A contestant that ran fewer turns is compared in those; its last one stands for the rest.
    """
    turns = max(len(slow), len(fast))
    found = []
    for turn in range(turns):
        one, other = slow[min(turn, len(slow) - 1)], fast[min(turn, len(fast) - 1)]
        found.append((one.cpu / slow_rows) / (other.cpu / fast_rows))
    return Spread.of(found)


def run_once(one: Contestant) -> Sample:
    """One run in a process of its own.

    Raises:
        Failed: it could not run.
    """
    if not Path(one.python).exists():
        raise Failed(f"not installed: make bench-peers, or pip install {one.install}")
    environment = os.environ | {"PYTHONPATH": str(ROOT), **one.environment}
    command = [one.python, "-m", one.module, json.dumps(dict(one.options))]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    if done.returncode:
        raise Failed(_reason(one, done.stderr))
    facts = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return Sample(
        facts.pop("cpu"), facts.pop("wall"), facts.pop("process_cpu"), facts.pop("peak_mb"), facts
    )


def _reason(one: Contestant, stderr: str) -> str:
    last = (stderr.strip().splitlines() or ["no message"])[-1]
    if "No module named" in last:
        return f"not installed: pip install {one.install} ({last.partition(': ')[2]})"
    return f"failed: {last}"
