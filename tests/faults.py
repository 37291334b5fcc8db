"""Faults of runs: the same command again ends in the bytes and metrics of an unbroken run.

``python -m tests.faults`` breaks curate, sft, reward, dpo and ppo at points spread over all their
writes. A point is the opening of a file to write, a rename, a removal or a new folder, which Python
tells an audit hook of. At it the process is killed, stopped by SIGTERM or Ctrl-C, or told that the
disk is full; `tests.state_faults` has the faults beside a run. Then the command runs again,
undisturbed: every file of its output, metrics among them, has to be what it is without the fault,
but for the clock of a manifest.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.state_faults import LIMITS, STATE_FAULTS

__all__ = ["FAULTS", "METHODS", "Bench", "Ended"]

FAULTS: Final = ("kill", "term", "interrupt", "full", *STATE_FAULTS)
METHODS: Final = ("curate", "sft", "reward", "dpo", "ppo")
_ENDS: Final = {"kill": {-9}, "term": {143}, "interrupt": {130}, "full": {1}}
_EVENTS: Final = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_SECONDS: Final = 300
_OUT: Final = "output"  # the same each time: cards name it
_TRAINING: Final = ("--batch-size", "2", "--save-every", "2", "--log-every", "1")
_TEXT: Final = "What is two plus two? Two plus two is four. Say hello to the king of the sea.\n\n"
_RECIPE: Final = """
name: faults
source: rows.jsonl
stages:
  - score: length
  - select: exact_dedup
  - select: random
    rows: 6
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (negative: a signal), last line, points that it passed."""

    code: int
    message: str
    points: int


class Bench:
    """Data, a small model and the unbroken outputs, in a folder that is the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.chdir(folder)
        _write_data(folder)
        self._whole: dict[str, dict[str, str]] = {}
        self._points: dict[str, int] = {}
        self._begun = 0

    def points(self, method: str) -> int:
        """How many points an unbroken run has; it is made, once, to compare with."""
        if method != "curate" and not (self.folder / "model").exists():
            self._apart(["finetune", "init", "text.txt", "--out", "model", *_SHAPE])
        if method not in self._points:
            ended = self._apart(_words(method, _OUT))
            if ended.code:
                raise RuntimeError(f"{method} does not run: {ended}")
            self._points[method], self._whole[method] = ended.points, _bytes(self.folder / _OUT)
            self.clear()
        return self._points[method]

    def trial(self, method: str, fault: str, at: int) -> str | None:
        """Break a run at its point (or by the draw) number ``at``, and run it again.

        Returns what is wrong, or None.
        """
        self.points(method)
        if fault in STATE_FAULTS:
            wrong = STATE_FAULTS[fault](self, method, fault, at)
        else:
            ended = self.run(method, fault, at)
            wrong = _wrong_end(ended, fault) or self.compared(method)
        self.clear()
        return wrong

    def compared(self, method: str) -> str | None:
        """Run undisturbed; what is wrong with the end or the bytes of the output."""
        again = self.run(method)
        if again.code:
            return f"the run after it ends with {again.code}: {again.message}"
        found = self.bytes()
        if found == self._whole[method]:
            return None
        other = found.items() ^ self._whole[method].items()
        return f"other bytes: {', '.join(sorted({name for name, _ in other}))}"

    def run(self, method: str, fault: str = "", at: int = -1) -> Ended:
        """Run a method once, to its end or that by a fault."""
        return self._apart(_words(method, _OUT), fault, at)

    def bytes(self) -> dict[str, str]:
        """The hash of each file of the output."""
        return _bytes(self.folder / _OUT)

    def state(self) -> list[Path]:
        """The files of the output, and of the folder of checkpoints beside it."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path for path in found if _OUT in str(path.relative_to(self.folder)))

    def clear(self) -> None:
        """Remove the output, and the folder of checkpoints beside it."""
        for path in self.folder.iterdir():
            if _OUT in path.name:
                shutil.rmtree(path)

    def _apart(self, words: Sequence[str], fault: str = "", at: int = -1) -> Ended:
        """Run a command in a process of its own."""
        return self.end(self._begin(words, fault, at))

    def begin(self, method: str) -> tuple[int, int, Path]:
        """Begin to run a method in a process of its own, beside others."""
        return self._begin(_words(method, _OUT))

    def _begin(self, words: Sequence[str], fault: str = "", at: int = -1) -> tuple[int, int, Path]:
        self._begun += 1
        told = self.folder / f"stderr-{self._begun}.txt"
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(words, fault, at, writer, told)
        os.close(writer)
        return child, reader, told

    def end(self, begun: tuple[int, int, Path]) -> Ended:
        """Wait for a process that `begin` has begun."""
        child, reader, told = begun
        status = _awaited(child)
        with os.fdopen(reader) as stream:
            points = len(stream.read())
        message = (told.read_text(errors="replace").strip().splitlines() or [""])[-1]
        told.unlink()
        return Ended(os.waitstatus_to_exitcode(status), message, points)


_SHAPE: Final = (
    *("--vocab-size", "320", "--hidden", "32", "--layers", "1", "--heads", "2"),
    *("--context", "128", "--steps", "0"),
)


def _write_data(folder: Path) -> None:
    (folder / "text.txt").write_text(_TEXT * 3)
    (folder / "r.yaml").write_text(_RECIPE)
    pairs = [{"prompt": f"Say {i}.", "chosen": f"{i} is it.", "rejected": "no"} for i in range(8)]
    rows = [{"prompt": one["prompt"], "completion": one["chosen"]} for one in pairs]
    for name, lines in (("pairs", pairs), ("rows", [*rows, rows[0]])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def _words(method: str, out: str) -> list[str]:
    if method == "curate":
        return ["curate", "run", "r.yaml", "--out", out]
    rows = "rows.jsonl" if method in ("sft", "ppo") else "pairs.jsonl"
    words = ["finetune", method, rows, "--model", "model", "--out", out]
    if method != "ppo":
        return [*words, *_TRAINING, *(() if method == "sft" else ("--held-out", "0"))]
    sizes = ("--rollouts", "3", "--batch-size", "4", "--minibatches", "2", "--micro-batch", "4")
    reward = ("--reward", "length", "--reward-options", "{target: 3}", "--save-every", "1")
    return [*words, *sizes, *reward, "--epochs", "1", "--max-new-tokens", "4", "--kl-stop", "1000"]


def _child(words: Sequence[str], fault: str, at: int, writer: int, told: Path) -> None:
    """Run the command in this process, which then ends."""
    code = 70
    try:
        for stream in (1, 2):
            os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        from siftune.pipelines import cli

        sys.argv = ["siftune", *words]
        signal.signal(signal.SIGTERM, cli._stopped)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.addaudithook(_Hook(fault, at, writer))
        if fault in LIMITS:
            LIMITS[fault](random.Random(at))
        with contextlib.suppress(SystemExit):
            code = 143
            code = cli._run()
    finally:
        os._exit(code)


class _Hook:
    """Counts points, and lets the fault happen at one of them."""

    def __init__(self, fault: str, at: int, writer: int) -> None:
        self._act, self._at, self._writer = _ACTS.get(fault), at, writer
        self._here, self._count = str(Path.cwd()), 0

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not self._is_ours(event, given):
            return
        os.write(self._writer, b".")
        self._count += 1
        if self._count == self._at and self._act is not None:
            self._act()

    def _is_ours(self, event: str, given: tuple[Any, ...]) -> bool:
        if event == "open" and not (isinstance(given[2], int) and given[2] & _WRITES):
            return False
        path = given[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        place = os.path.normpath(Path(self._here, os.fsdecode(path)))
        return place.startswith(self._here) and "stderr" not in place


def _full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


_ACTS: Final[Mapping[str, Callable[[], None]]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "full": _full,
}


def _awaited(child: int) -> int:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _wrong_end(ended: Ended, fault: str) -> str | None:
    if ended.code == 0:
        return None  # it was past its last point, or needed nothing of what the fault took
    if ended.code not in _ENDS[fault]:
        return f"it ends with {ended.code}: {ended.message}"
    if fault == "full" and "No space left on device: " not in ended.message:
        return f"the disk is full, and it says: {ended.message}"
    return None


def _bytes(out: Path) -> dict[str, str]:
    """The hash of each file of an output; of a manifest, without the clock."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(out).as_posix(): _hash(path) for path in files}


def _hash(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "manifest.json" or path.parent.name == "stages":
        with contextlib.suppress(ValueError):
            facts = json.loads(content)
            for name in ("clock", "seconds", "cpu_seconds", "peak_mb", "digest"):  # of these too
                facts.pop(name, None)
            content = json.dumps(facts).encode()
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """Break every method by every fault at ``--trials`` points each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=15, help="of each method and fault")
    parser.add_argument("--only", choices=METHODS)
    parser.add_argument("--faults", default=",".join(FAULTS), help="which, with commas between")
    parser.add_argument("--middle", action="store_true", help="in the middle of the writes")
    given = parser.parse_args()
    methods = [given.only] if given.only else list(METHODS)
    for name in (
        "torch",
        "transformers",
        "trl",
        "siftune.finetune.cli",
        "siftune.curate.runners.run",
    ):
        if name.startswith("siftune.curate") or methods != ["curate"]:
            import_module(name)  # once; nothing is computed before the processes part
    table: dict[tuple[str, str], tuple[int, int]] = {}
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for method in methods:
            for fault in given.faults.split(","):
                places = _places(fault, bench.points(method), given.trials, given.middle)
                failed = sum(_told(bench, method, fault, at) for at in places)
                table[method, fault] = (len(places), failed)
        os.chdir("/")
    print(_shown(table))
    return int(any(failed for _, failed in table.values()))


def _places(fault: str, points: int, trials: int, middle: bool) -> list[int]:
    """Where a fault is tried: points of a run, or numbers to draw by."""
    if fault in STATE_FAULTS:
        return list(range(1, trials + 1))
    start = points // 2 if middle else 1
    return sorted({start + at * points // trials for at in range(trials)})


def _told(bench: Bench, method: str, fault: str, at: int) -> bool:
    """Try, and print what is wrong; whether anything is."""
    wrong = bench.trial(method, fault, at)
    if wrong:
        print(f"{method} {fault} at {at} of {bench.points(method)}: {wrong}", flush=True)
    return wrong is not None


def _shown(table: Mapping[tuple[str, str], tuple[int, int]]) -> str:
    """Trials of each fault and method, with failures where there are any; and their sum."""
    methods, faults = ([*dict.fromkeys(key[at] for key in table)] for at in (0, 1))
    lines = ["".join([f"{'':14}", *(f"{method:>10}" for method in methods)])]
    for fault in faults:
        cells = (table[method, fault] for method in methods)
        shown = (f"{count} ({bad} failed)" if bad else str(count) for count, bad in cells)
        lines.append("".join([f"{fault:14}", *(f"{cell:>10}" for cell in shown)]))
    count, failed = (sum(cell[at] for cell in table.values()) for at in (0, 1))
    return "\n".join([*lines, f"{count} trials, {failed} failed"])


if __name__ == "__main__":
    sys.exit(main())
