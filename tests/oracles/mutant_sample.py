"""A seeded sample of mutants, drawn with the operators of cosmic-ray: how many do the tests kill?

``python -m tests.oracles.mutant_sample --seed 0 --count 400 [--part rl] --out FILE --lines FILE``
draws the mutants, measures which tests run which lines, and runs each mutant in a copy of the code
against the tests that run its line, cheapest first. What is through is not done again, so a run
that was stopped goes on; ``--again TEST...`` runs the survivors in ``--out`` against these tests.
``tests/oracles/SAMPLE.md`` says what came out.

It needs ``pip install cosmic-ray coverage``.

A part has at least 25 mutants (a sixteenth of ``--count``), the rest are spread by lines of code.
Within a part each place that can be mutated is as likely as any other, and so is each operator that
fits a place. `mutant_sites` says which places are left out. A mutant is killed when a test fails,
when the tests can't be collected, or when they take twenty times what they need and a minute.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.oracles.mutant_lines import Reach, measure, measured, seeing
from tests.oracles.mutant_sites import Site, mutated, sites

ROOT = Path(__file__).parents[2]

PARTS = {  # a file belongs to the first part that names it
    "reward models": (
        *("finetune/trainers/reward_model.py", "finetune/reward_models/*.py"),
        *("finetune/training/reward_*.py", "finetune/losses/reward/*.py"),
        "finetune/losses/reward_types.py",
    ),
    "losses": ("finetune/losses/*.py", "finetune/losses/*/*.py"),
    "advantages": ("finetune/advantages/*.py",),
    "policy losses": ("finetune/policy_losses/*.py",),
    "rl": ("finetune/rl/*.py", "finetune/rl/*/*.py", "finetune/training/on_policy.py"),
    "rewards": ("finetune/rewards/*.py",),
    "packing and collation": ("finetune/data/packing.py", "finetune/data/collator.py"),
    "encoding": ("curate/chat/encoding.py",),
    "sft": ("finetune/trainers/sft.py", "finetune/data/*.py"),
    "selectors": ("curate/selectors/*.py",),
    "scorers": ("curate/scorers/*.py",),
}
_LEAST = 16  # a part has at least one in so many

_OURS = ("siftune", "curate", "finetune", "pipelines", "tests", "examples", "benchmarks")
_THEIRS = (
    *("torch", "polars", "scipy.optimize", "pydantic", "transformers", "transformers.trainer"),
    *("accelerate", "peft", "numba", "sklearn", "hypothesis", "cosmic_ray.plugins", "coverage"),
)
_ALIVE = ("survived", "unseen", "gone")
_TESTS = (  # those of these names that do not read the sources, and the examples in docstrings
    *("tests/finetune/**/test_*.py", "tests/oracles/test_*.py", "tests/contracts/test_*.py"),
    *("tests/curate/test_*.py", "siftune/finetune/losses", "siftune/finetune/advantages"),
    *("siftune/finetune/rewards", "siftune/finetune/rl", "siftune/finetune/data"),
    *("siftune/curate/chat", "siftune/curate/selectors", "siftune/curate/scorers"),
)
_READS_SOURCES = ("tests/oracles/test_mutations.py", "tests/contracts/test_imports.py")


@dataclass
class Mutant:
    """A change of one place, and what became of it."""

    part: str
    file: str
    line: int
    operator: str
    occurrence: int
    was: str
    now: str
    fate: str = ""  # "killed", "survived", "unseen" by any test
    by: str = ""
    tests: int = 0


def files_of(part: str) -> list[str]:
    """The files of a part that have code in them."""
    found: dict[Path, str] = {}
    for one, patterns in PARTS.items():
        found |= {path: one for name in patterns for path in ROOT.glob(name) if path not in found}
    paths = [path for path, one in found.items() if one == part and path.stem != "__init__"]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def shares(count: int) -> dict[str, int]:
    """How many mutants each part has of ``count``: the least, and the rest by lines."""
    lines = {part: sum(map(_length, files_of(part))) for part in PARTS}
    rest = count - len(PARTS) * (least := count // _LEAST)
    exact = {part: least + rest * own / sum(lines.values()) for part, own in lines.items()}
    found = {part: int(share) for part, share in exact.items()}
    by_rest = sorted(PARTS, key=lambda part: found[part] - exact[part])
    return {part: found[part] + (part in by_rest[: count - sum(found.values())]) for part in PARTS}


def _length(file: str) -> int:
    return len((ROOT / file).read_text(encoding="utf-8").splitlines())


def drawn(part: str, count: int, seed: int) -> Iterator[Mutant]:
    """``count`` mutants at places of their own, always the same for a seed."""
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in files_of(part)}
    places = [
        (file, place, fitting)
        for file, source in sources.items()
        for place, fitting in sites(source).items()
    ]
    source_of_luck = random.Random(f"{seed} {part}")
    source_of_luck.shuffle(places)
    for file, place, fitting in places:
        if count == 0:
            return
        site: Site = source_of_luck.choice(fitting)
        if (changed := mutated(sources[file], site)) is not None:
            count -= 1
            was, now = _lines_apart(sources[file], changed)
            yield Mutant(part, file, place[0], *site, was, now)


def _lines_apart(before: str, after: str) -> tuple[str, str]:
    both = zip(before.splitlines(), after.splitlines(), strict=False)
    return next((old.strip(), new.strip()) for old, new in both if old != new)


def put_back(mutant: Mutant, source: str) -> str | None:
    """The file with that mutant; None if the line that it changes is there no more."""
    wanted = (mutant.was, mutant.now)
    near = sorted(range(mutant.occurrence + 40), key=lambda one: abs(one - mutant.occurrence))
    for occurrence in near:
        changed = mutated(source, (mutant.operator, occurrence))
        if changed is not None and _lines_apart(source, changed) == wanted:
            return changed
    return None


class Copy:
    """A copy of the code in a temporary folder, in which one file at a time is changed."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "siftune"
        for part in _OURS:  # in `siftune` the others are links
            shutil.copytree(ROOT / part, self.root / part, symlinks=True)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy2(ROOT / name, self.root / name)
        if (ROOT.parent / "shared").exists():
            (folder / "shared").symlink_to(ROOT.parent / "shared")
        self._written = 0

    def measured(self, out: Path, names: Sequence[str]) -> list[Reach]:
        """Which test of these files runs which line, as far as ``out`` does not know it yet."""
        paths = (path for name in names for path in self.root.glob(name))
        found = {str(path.relative_to(self.root)) for path in paths}
        for file in sorted(found - measured(out)[1] - set(_READS_SOURCES)):
            in_a_process(partial(self._measure, file, out.absolute()), 3600)
        return measured(out)[0]

    def _measure(self, file: str, out: Path) -> None:
        _enter(self.root)
        measure(self.root, file, out)

    def run(self, mutant: Mutant, tests: Sequence[Reach]) -> tuple[str, str]:
        """Fate of a mutant under these tests, and the test that failed."""
        path = self.root / mutant.file
        source, times = path.read_text(encoding="utf-8"), path.stat()
        if (changed := put_back(mutant, source)) is None:
            return "gone", "the code has changed since the drawing"
        self._written += 1  # a time of its own: else Python takes the last mutant's compiled file
        path.write_text(changed, encoding="utf-8")
        os.utime(path, (times.st_atime, times.st_mtime - 10 * self._written))
        try:
            return self._fate(tests)
        finally:
            path.write_text(source, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _fate(self, tests: Sequence[Reach]) -> tuple[str, str]:
        report = self.root / "first_failure"
        report.unlink(missing_ok=True)
        limit = 60 + 20 * sum(one.seconds for one in tests)
        status = in_a_process(lambda: self._test([one.test for one in tests], report), limit)
        by = report.read_text(encoding="utf-8") if report.exists() else ""
        if status == pytest.ExitCode.OK:
            return "survived", ""
        if by or status < 0:
            return "killed", by or f"signal {-status}, after at most {limit:.0f} CPU seconds"
        return "gone", f"pytest ended with {status}"

    def _test(self, tests: list[str], report: Path) -> int:
        _enter(self.root)
        return int(pytest.main(["-qx", "-p", "no:cacheprovider", *tests], plugins=[_First(report)]))


class _First:
    """A plugin of pytest that writes down the first test that fails."""

    def __init__(self, report: Path) -> None:
        self._report = report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._report.exists():
            self._report.write_text(report.nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self._report.exists():
            self._report.write_text(f"{report.nodeid} (not collected)", encoding="utf-8")


def _enter(root: Path) -> None:
    """Take the code of ``root`` for our own from here on, and write to a log there."""
    with (root / "log.txt").open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.chdir(root)
    os.environ["PYTHONPATH"] = str(root)  # of what tests start
    sys.path[:] = [str(root), *(place for place in sys.path if place not in ("", str(ROOT)))]
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]


def in_a_process(work: Callable[[], int | None], limit: float) -> int:
    """Exit status of ``work`` in a fork of this process, below 0 where it was ended.

    ``limit`` is in CPU seconds, since other things may run on the machine; ten times of it on
    the clock ends one that waits.
    """
    if not (child := os.fork()):
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
        code = 70
        try:
            code = work() or 0
        finally:
            os._exit(code)
    until = time.monotonic() + 10 * limit
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1])


def within(tests: Sequence[Reach], seconds: float) -> list[Reach]:
    """The first of ``tests`` that take so long together, and one at least."""
    found: list[Reach] = []
    for one in tests:
        if found and (seconds := seconds - one.seconds) < 0:
            break
        found.append(one)
    return found


def save(out: Path, mutants: Sequence[Mutant]) -> None:
    rows = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in mutants]
    out.with_suffix(".new").write_text("".join(rows), encoding="utf-8")
    out.with_suffix(".new").replace(out)


def main() -> int:
    """Draw and run; 1 if a mutant survives."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--count", type=int, default=400)
    asked.add_argument("--part", choices=PARTS, help="draw and run those of this part alone")
    asked.add_argument("--out", type=Path, required=True, help="the mutants and their fates")
    asked.add_argument("--lines", type=Path, required=True, help="which test runs which line")
    asked.add_argument("--seconds", type=float, default=20, help="of tests for a mutant")
    asked.add_argument("--tests", nargs="+", default=_TESTS, help="names of files, with wildcards")
    asked.add_argument("--again", nargs="+", help="tests to run the survivors against")
    given = asked.parse_args()
    for name in _THEIRS:  # once for all: each process is forked off this one
        importlib.import_module(name)
    if not given.out.exists():
        parts = shares(given.count)
        chosen = [given.part] if given.part else PARTS
        save(given.out, [one for part in chosen for one in drawn(part, parts[part], given.seed)])
    mutants = [Mutant(**json.loads(line)) for line in given.out.open(encoding="utf-8")]
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        again = [Reach(test, 5, {}) for test in given.again or ()]
        reaches = [] if again else copy.measured(given.lines, given.tests)
        for one in mutants:
            if given.part in (None, one.part) and one.fate in (_ALIVE if again else ("",)):
                source = (ROOT / one.file).read_text(encoding="utf-8")
                tests = again or within(seeing(reaches, one.file, source, one.line), given.seconds)
                one.fate, one.by = copy.run(one, tests) if tests else ("unseen", "")
                one.tests = len(tests)
                save(given.out, mutants)
                print(f"{one.fate:8} {one.file}:{one.line} {one.was!r} -> {one.now!r} {one.by}")  # noqa: T201
    for part in PARTS:
        fates = Counter(one.fate or "not run" for one in mutants if one.part == part)
        print(f"{part}: {dict(fates)}")  # noqa: T201
    return int(any(one.fate in _ALIVE for one in mutants))


if __name__ == "__main__":
    sys.exit(main())
