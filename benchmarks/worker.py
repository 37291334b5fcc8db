"""Inside a contestant's process: options come in as JSON, figures go out as the last line.

The peers' interpreter runs this too: the standard library only.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Facts", "Options", "cpu_seconds", "few_lines", "peak_mb", "serve", "timed"]

Options: TypeAlias = dict[str, Any]
Facts: TypeAlias = dict[str, Any]


def serve(work: Callable[[Options], Facts]) -> None:
    """Do the work that the first argument describes; print its results as one JSON line."""
    facts = work(json.loads(sys.argv[1]))
    facts |= {"peak_mb": peak_mb(), "process_cpu": cpu_seconds()}
    sys.stdout.flush()
    print("\n" + json.dumps(facts), flush=True)


@contextmanager
def timed(facts: Facts, name: str = "") -> Iterator[None]:
    """Note the CPU and wall seconds of what runs inside, as ``cpu`` and ``wall``."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    yield
    facts[f"{name}cpu"] = cpu_seconds() - cpu
    facts[f"{name}wall"] = time.perf_counter() - wall


def few_lines(source: str, folder: str) -> str:
    """A file of the first lines of another, to read before the clock runs.

    What a process loads once (modules, compiled code) is loaded by then.
    """
    few = Path(folder) / "few.jsonl"
    with Path(source).open("rb") as lines, few.open("wb") as file:
        file.writelines(islice(lines, 20_000))
    return str(few)


def cpu_seconds() -> float:
    """User and system seconds of this process, its threads and the children it has waited for."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used


def peak_mb() -> float:
    """Most resident memory that this process, or the largest of its children, has held."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    status = Path("/proc/self/status")
    if not status.is_file():
        return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, children)
    words = status.read_text(encoding="utf-8").split()
    return max(int(words[words.index("VmHWM:") + 1]) / 1024, children)
