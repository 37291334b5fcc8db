"""Every option of every command with odd values: `tries` lists them, ``python -m`` runs them.

Each try is a command line that works (see `valid`), but for one odd value. It has to end with a
documented exit code, one line where that is not 0 or 4, with nothing half-written, and with all
that was there before unchanged. A minute and 2 GiB of memory more than before are the limits.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final

import rich_click as click

from siftune.pipelines.cli import siftune
from tests.fuzz.commands import Done, called, half_written, shown
from tests.fuzz.valid import arguments, companions, options_of, prepare
from tests.fuzz.values import values_of

__all__ = ["Try", "commands", "drawn", "failures", "tries", "valid", "workplace"]

SECONDS: Final = 60
GIBIBYTES: Final = 2
_MANIFESTS: Final = ("manifest.json", "siftune.json", "compare.json")
_ROWS_FIRST: Final = ("score", "select", "dedup")  # groups whose argument comes before the command
_OTHER_ENDS: Final = {"models get": 3, "models path": 2}
"""Exit codes of valid lines that are not 0: no model lies in the cache, and none is downloaded."""


@dataclass(frozen=True)
class Try:
    """One command line; ``command`` and ``flag`` say what is tried."""

    command: str
    flag: str
    words: tuple[str, ...]


def commands(group: str = "") -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, of one group or of all: its words, and the command."""
    yield from _below(siftune, (), None, group)


def _below(
    group: Any, words: tuple[str, ...], parent: click.Context | None, only: str = ""
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group, info_name=words[-1] if words else "siftune", parent=parent)
    for name in [only] if only else group.list_commands(ctx):
        own = hasattr(group, "make") and group.place(name) is not None
        command = group.make(name) if own else group.get_command(ctx, name)
        if hasattr(command, "list_commands"):
            yield from _below(command, (*words, name), ctx)
        else:
            yield (*words, name), command


def valid(words: tuple[str, ...], command: click.Command) -> Try:
    """The command with arguments that work, and no odd value."""
    return Try(" ".join(words), "", _line(words, command, "", options_of(words)))


def tries(words: tuple[str, ...], command: click.Command) -> Iterator[Try]:
    """Each argument and option of ``command`` with each odd value of its kind."""
    for param in command.params:
        for value in values_of(param):
            yield _try(words, command, param, value)


def _try(words: tuple[str, ...], command: click.Command, param: click.Parameter, value: str) -> Try:
    name, flags = " ".join(words), [flag for one in command.params for flag in one.opts]
    if isinstance(param, click.Argument):
        odd = {str(param.name): value}
        return Try(name, str(param.name), _line(words, command, "", options_of(words), odd))
    flag = param.opts[0]
    given = {**companions(flag, words, flags), flag: value}
    return Try(name, flag, _line(words, command, flag, given))


def _line(
    words: tuple[str, ...],
    command: click.Command,
    tried: str,
    given: dict[str, str],
    odd: dict[str, str] | None = None,
) -> tuple[str, ...]:
    """The words of a command line; ``odd`` is the value of the argument that is tried."""
    grouped = words[1] in _ROWS_FIRST if len(words) > 1 else False
    names = [str(one.name) for one in command.params if isinstance(one, click.Argument)]
    values = arguments(words, ["rows"] if grouped else names) | (odd or {})
    line = [*words[:-1], *values.values(), words[-1]] if grouped else [*words, *values.values()]
    flags = {param.opts[0]: param for param in command.params}
    if "--out" in flags and tried != "--out":
        given = {**given, "--out": "out"}
    for flag, value in given.items():
        line += [flag] if getattr(flags[flag], "is_flag", False) else [flag, value]
    return tuple(line)


def drawn(count: int, seed: int, found: Iterable[tuple[tuple[str, ...], Any]]) -> list[Try]:
    """So many tries: evenly over the commands, of a command evenly over its options."""
    draw = random.Random(seed)
    queues = [(words, command, _mixed(command, draw)) for words, command in found]
    chosen: list[Try] = []
    while queues and len(chosen) < count:
        queues = [one for one in queues if one[2]]
        turn = queues[: count - len(chosen)]
        chosen += [_try(words, command, *queue.pop()) for words, command, queue in turn]
    return chosen


def _mixed(command: click.Command, draw: random.Random) -> list[tuple[click.Parameter, str]]:
    """Every try of a command, from the last on: each option comes up before one does again."""
    ranked = []
    for param in command.params:
        values = list(values_of(param))
        draw.shuffle(values)
        ranked += [(at, draw.random(), param, value) for at, value in enumerate(values)]
    ranked.sort(key=lambda each: each[:2], reverse=True)
    return [(param, value) for *_, param, value in ranked]


@contextmanager
def workplace(top: Path, models: bool = True) -> Iterator[Path]:
    """A prepared folder below ``top`` as the current one, with models or without."""
    here, before = top / "up" / "here", Path.cwd()
    here.mkdir(parents=True)
    os.chdir(here)
    try:
        prepare(here, models)
        shutil.copytree(here, top / "pristine")
        yield here
    finally:
        os.chdir(before)


def failures(
    chosen: Sequence[Try], folder: Path, ends: Counter[int] | None = None
) -> Iterator[tuple[Try, str]]:
    """The tries that break the contract, and how; ``folder`` is that of `workplace`.

    Exit codes are counted into ``ends``.
    """
    before, codes = _state(folder), Counter() if ends is None else ends
    for one in chosen:
        with _limits() as over:
            done = called(*one.words)
        codes[done.code] += 1
        problem = next(_problems(one, done, folder, before), None) or next(iter(over), None)
        if problem is not None:
            yield one, problem
        _restore(folder, before)


def _problems(
    one: Try, done: Done, folder: Path, before: dict[str, tuple[int, ...]]
) -> Iterator[str]:
    found = done.problem()
    if found is not None:
        yield found
    if any(half_written(folder)):
        yield "something half-written is left"
    out = folder / "out"
    if done.code in (1, 2, 3) and any((out / name).exists() for name in _MANIFESTS):
        yield "a command that failed has left a manifest"
    if not one.flag and done.code != _OTHER_ENDS.get(one.command, 0):
        yield f"valid arguments end with {done.code}: {done.message}"
    writes = "--out" in one.words and one.flag not in ("--out", "--dry-run")
    if done.code in (0, 4) and writes and not out.exists():
        yield f"exit code {done.code}, and nothing is written"
    yield from _changed(one, _state(folder), before)


def _changed(
    one: Try, after: dict[str, tuple[int, ...]], before: dict[str, tuple[int, ...]]
) -> Iterator[str]:
    """What was there and is another, but in a folder that ``--out`` names."""
    own = one.words[one.words.index("--out") + 1] if "--out" in one.words else "out"
    for name, facts in before.items():
        if after.get(name) != facts and not name.startswith(f"{own}/") and name != own:
            yield f"{name} was changed or removed"


def _state(folder: Path) -> dict[str, tuple[int, ...]]:
    """Size and time of each file below the folder."""
    found = {}
    for root, _, files in os.walk(folder):
        for name in files:
            facts = os.lstat(path := os.path.join(root, name))  # noqa: PTH118
            found[os.path.relpath(path, folder)] = (facts.st_size, facts.st_mtime_ns)
    return found


def _restore(folder: Path, before: dict[str, tuple[int, ...]]) -> None:
    """Remove what a try has made, beside the folder too; put back what it has changed."""
    pristine = folder.parent.parent / "pristine"
    for path in [*folder.parent.iterdir(), *folder.parent.parent.iterdir()]:
        if path not in (folder, folder.parent, pristine):
            _remove(path)
    names = {path.name for path in pristine.iterdir()}
    for path in folder.iterdir():
        if path.name not in names:
            _remove(path)
    if _state(folder) != before:
        for path in pristine.iterdir():
            _remove(folder / path.name)
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, folder / path.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _LateError(BaseException):
    """A command has used up its time."""


@contextmanager
def _limits() -> Iterator[list[str]]:
    """The limits of one try; the list says which it has broken."""
    over: list[str] = []
    at, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def late(number: int, frame: FrameType | None) -> None:
        raise _LateError

    was = signal.signal(signal.SIGALRM, late)
    signal.alarm(3 * SECONDS)  # of a machine that others use as well
    try:
        yield over
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, was)
    if (used := time.monotonic() - at) > 3 * SECONDS - 1:
        over.append(f"{used:.0f} seconds")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 2**20
    if grown > GIBIBYTES:
        over.append(f"{grown:.1f} GiB of memory")


def main() -> int:
    """Run tries of all commands, or of those whose name holds a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="tries, drawn from all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a word of the commands to try")
    given = parser.parse_args()
    found = [one for one in commands() if given.only in " ".join(one[0])]
    chosen = [*(valid(*one) for one in found), *drawn(given.count, given.seed, found)]
    chosen.sort(key=lambda one: one.command)
    os.environ |= {"SIFTUNE_STAGE_CACHE": "", "SIFTUNE_CACHE": "/nonexistent/cache"}
    start, wrong = time.process_time(), 0
    ends: Counter[int] = Counter()
    with TemporaryDirectory() as top, workplace(Path(top)) as folder:
        for one, problem in failures(chosen, folder, ends):
            wrong += 1
            print(f"{shown(one.words)}: {problem}", flush=True)
    tried, seconds = len(chosen) - len(found), time.process_time() - start
    print(f"{tried:,} tries and a valid line of each of {len(found)} commands: {wrong} failures")
    print(f"exit codes: {dict(sorted(ends.items()))}; {seconds:.0f} CPU seconds")
    return int(bool(wrong))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    sys.exit(main())
