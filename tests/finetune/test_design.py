"""The example of an added objective in DESIGN.md is all that is needed to add one."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siftune.finetune.comparison.conformance import Conformance, loss_at

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "finetune" / "DESIGN.md").read_text(encoding="utf-8").partition("## Adding an")[2]
DIFF = TEXT.partition("```diff\n")[2].partition("```\n\n")[0]
LOSS = "finetune/losses/pair/margin_dpo.py"
LEAVE = shutil.ignore_patterns("__pycache__")
COPIED = ("siftune", "curate", "finetune", "pipelines", "tests", "examples", "benchmarks")
RUN = (  # what the suite asks of an objective, of the bugs and of the README
    "tests/oracles/test_registry.py",
    "tests/oracles/test_mutations.py",
    "tests/finetune/test_defaults.py",
    "tests/finetune/test_margin_dpo.py",
    f"siftune/{LOSS}",
)
ABOUT_IT = (  # what holds every loss, of which only the new one is looked at
    "tests/contracts/test_losses.py",
    "tests/finetune/test_pair_losses.py",
    "tests/finetune/test_loss_options.py",
    "tests/finetune/test_commands.py",
)


def pieces(diff):
    """By path: the texts that are there and what stands for each afterwards."""
    for part in re.split(r"^diff --git .*\n", diff, flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^@@ .*\n", part, flags=re.MULTILINE)
        path = re.search(r"^\+\+\+ b/(.+)$", head, re.MULTILINE)[1]
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
            after = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
            yield path, before, after


def apply(diff, folder):
    for path, before, after in pieces(diff):
        place = folder / path
        old = place.read_text(encoding="utf-8") if place.exists() else ""
        if before:
            assert old.count(before) == 1, f"{path}: the lines around the hunk are not there"
        place.write_text(old.replace(before, after) if before else after, encoding="utf-8")


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A copy of the project in which the example is applied, with its commands run."""
    folder = tmp_path_factory.mktemp("added")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=LEAVE)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    apply(DIFF, folder)
    commands = re.findall(r"^\$ python (.+)$", TEXT, re.MULTILINE)
    assert len(commands) == 1
    for command in commands:
        done = ran(folder, *shlex.split(command))
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ran(folder, *words):
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


def test_the_example_conforms_and_is_dpo_without_its_margin(tmp_path):
    path = tmp_path / "margin_dpo.py"
    path.write_text(next(after for path, _, after in pieces(DIFF) if path == LOSS))
    fates = {one.fate for one in Conformance()(loss_at(f"{path}:MarginDPO", {}))}
    assert "failed" not in fates
    same = Conformance(optimum="boltzmann", like="dpo")(
        loss_at(f"{path}:MarginDPO", {"gamma": 0.0})
    )
    assert {one.fate for one in same} == {"ok"}


@pytest.mark.slow
def test_the_example_applied_is_all_that_the_suite_asks_for(added):
    quiet = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    done = ran(added, *quiet, *RUN)
    assert done.returncode == 0, done.stdout[-3000:]
    done = ran(added, *quiet, *ABOUT_IT, "-k", "margin_dpo or margin_is_dpo")
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 10


@pytest.mark.slow
def test_its_bug_is_in_the_kill_table_and_its_command_is_there(added):
    table = (added / "tests/oracles/KILLS.md").read_text(encoding="utf-8")
    assert "| `test_margin_dpo.py::test_a_margin_is_dpo" in table
    told = ran(added, "-m", "siftune", "finetune", "margin_dpo", "--help")
    assert "--gamma" in told.stdout
