"""The classic bugs, put back one at a time; the suite has to catch every one.

``python -m tests.oracles.mutations [-j N] [--missing] [WORD]`` prints the kill table of the
mutations whose line has WORD in it, N at a time (``--missing``: of those the table lacks), puts
what it saw into ``tests/oracles/KILLS.md``, where the rows of others stay as they are, and exits 1
if one survives. Each runs in a copy, so the code is not touched.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from siftune.curate.core import registry
from tests.oracles.bugs import PAIRS, Mutation
from tests.oracles.bugs_answers import ANSWERS
from tests.oracles.bugs_draws import DRAWS
from tests.oracles.bugs_known_answers import KNOWN_ANSWERS
from tests.oracles.bugs_reward_search import REWARD_SEARCH
from tests.oracles.bugs_rewards import REWARDS
from tests.oracles.bugs_rl import RL
from tests.oracles.bugs_rl_loop import RL_LOOP
from tests.oracles.bugs_run_rewards import RUN_REWARDS
from tests.oracles.bugs_text_rewards import TEXT_REWARDS
from tests.oracles.bugs_watch import WATCH
from tests.own_tests import bugs_of, files_of

__all__ = ["MUTATIONS", "ROOT", "known"]

ROOT = Path(__file__).parents[2]


def _own() -> Iterator[Mutation]:
    """The bugs that objectives have in their own test files."""
    for group in ("pair", "unpaired", "token", "listwise"):
        for name in registry.names(f"finetune.losses.{group}"):
            tests = " ".join(str(path.relative_to(ROOT)) for path in files_of(name))
            for right, wrong in bugs_of(name):
                file = f"finetune/losses/{group}/{name}.py"
                yield Mutation(f"{name} with {wrong!r} for {right!r}", file, right, wrong, tests)


MUTATIONS = (
    *PAIRS,
    *ANSWERS,
    *RL,
    *RL_LOOP,
    *DRAWS,
    *REWARDS,
    *KNOWN_ANSWERS,
    *RUN_REWARDS,
    *TEXT_REWARDS,
    *REWARD_SEARCH,
    *WATCH,
    *_own(),
)
TABLE = Path(__file__).with_name("KILLS.md")

_OURS = ("siftune", "curate", "finetune", "pipelines", "tests")
_THEIRS = (
    *("torch", "polars", "scipy.optimize", "pydantic", "transformers", "transformers.trainer"),
    *("accelerate", "peft", "pytest"),
)
_SURVIVED = "SURVIVED"
_NOT_RUN = "NOT RUN"
_ALIVE = (_SURVIVED, _NOT_RUN)
_CELLS = 3
_HEAD = """# What catches which bug

Made by `python -m tests.oracles.mutations`: each bug is put back into a copy of the code, alone,
and the tests that look at that place are run until one fails. {killed} of {all} are caught.

Classic ones: mask off by one, end of turn dropped, prompt tokens counted, wrong signs, a mean for a
sum, the temperature missing, the reference not detached, padding in the metrics, normalising by
micro-batch; of RL: leave-one-out forgotten, a mean over all answers for a group's, KL of an answer
for that of a token, clip bounds exchanged, the score on the padding, an option ignored.

| bug | file | caught by |
|---|---|---|
"""


def caught_by(mutation: Mutation) -> str:
    """The first test that fails in a mutated copy; what `_ALIVE` holds where none does.

    For a process of its own, which it ruins: the copy takes the place of the code.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        leave = shutil.ignore_patterns("__pycache__")
        for part in _OURS:  # in `siftune` the others are links
            shutil.copytree(ROOT / part, work / part, symlinks=True, ignore=leave)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, work / name)
        path = work / mutation.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutation.right) != 1:
            return _NOT_RUN
        path.write_text(text.replace(mutation.right, mutation.wrong), encoding="utf-8")
        return _first_failure(work, mutation.tests.split())


def _first_failure(work: Path, tests: list[str]) -> str:
    import pytest

    os.chdir(work)
    sys.path[:] = [str(work), *(place for place in sys.path if place not in ("", str(ROOT)))]
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    log = work / "log.txt"
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        quiet = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main(["-q", "-x", *quiet, *tests])
        sys.stdout.flush()
    failed = re.search(r"^FAILED \S+?([^/\s]+\.py::\w+)", log.read_text(), re.MULTILINE)
    if code == pytest.ExitCode.OK:
        return _SURVIVED
    return failed[1] if code == pytest.ExitCode.TESTS_FAILED and failed else _NOT_RUN


def known() -> dict[str, str]:
    """What the table says: the test that caught each bug."""
    if not TABLE.is_file():
        return {}
    rows = [line.split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return {
        row[0].removeprefix("| "): row[2].strip("` |")
        for row in rows
        if len(row) == _CELLS and row[1].startswith("`")
    }


def table_of(found: Mapping[str, str]) -> str:
    """The kill table in Markdown, of all that has been run."""
    listed = [(one, found[one.bug]) for one in MUTATIONS if one.bug in found]
    killed = sum(by not in _ALIVE for _, by in listed)
    lines = [f"| {one.bug} | `{one.file}` | `{by}` |\n" for one, by in listed]
    return _HEAD.format(killed=killed, all=len(listed)) + "".join(lines)


def main() -> int:
    """Print the table; 1 if a mutation survives."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("word", nargs="?", default="")
    asked.add_argument("-j", "--jobs", type=int, default=1)
    asked.add_argument("--missing", action="store_true")
    given = asked.parse_args()
    found = known()
    chosen = [one for one in MUTATIONS if given.word in f"{one.bug} {one.file}"]
    if given.missing:
        chosen = [one for one in chosen if found.get(one.bug, _NOT_RUN) in _ALIVE]
    for name in _THEIRS:  # once for all: a process for a mutation is forked off this one
        importlib.import_module(name)
    alive = 0
    with multiprocessing.get_context("fork").Pool(given.jobs, maxtasksperchild=1) as pool:
        for one, by in zip(chosen, pool.imap(caught_by, chosen, chunksize=1), strict=True):
            fate = by if by in _ALIVE else "killed"
            alive += by in _ALIVE
            print(f"{fate:8}  {one.bug} ({one.file}): {by}", flush=True)  # noqa: T201
            found[one.bug] = by
            TABLE.write_text(table_of(found), encoding="utf-8")
    print(f"{len(chosen) - alive} of {len(chosen)} killed")  # noqa: T201
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
