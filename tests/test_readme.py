"""What the README says is so: its tour prints what it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("curate", "finetune", "pipelines", "examples", "benchmarks")
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = re.findall(r"```console\n(\$ siftune .*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_in_one_line(package):
    for path in (ROOT / package).rglob("*.py"):
        assert re.match(r'r?"""[^\n]{10,}', path.read_text(encoding="utf-8")), path


def test_the_tour_prints_what_the_readme_shows(tmp_path):
    assert len(TOUR) >= 3
    for name in ("examples",):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in TOUR:
        for part in block.split("$ ")[1:]:
            command, _, shown = part.partition("\n")
            done = _run(command, tmp_path)
            assert "Traceback" not in done.stderr
            assert done.stdout.strip() == shown.strip(), command


def _run(command: str, folder) -> subprocess.CompletedProcess:
    words = shlex.split(command.partition(" #")[0])
    if words[0] == "siftune":
        words = [sys.executable, "-m", "siftune", *words[1:]]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=120, env=environment
    )
