"""A folder and an environment in which others have taken our folders' names."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check", "fill", "stubs"]

NAMES = ("curate", "finetune", "pipelines")
TEST = '''
"""In the package's folder; pytest puts this folder first on the path."""

import sys
from pathlib import Path

from click.testing import CliRunner


def test_it():
    from siftune.pipelines.cli import siftune

    done = CliRunner().invoke(siftune, ["curate", "ingest", "rows.jsonl", "--out", "by-pytest"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert Path("by-pytest/kept.parquet").is_file()
    assert sys.path[0] == str(Path.cwd())
'''


def stubs(folder: Path, error: str) -> None:
    """Packages with our folders' names in ``folder``; to import one is an error."""
    for name in NAMES:
        (folder / name).mkdir()
        text = f"raise RuntimeError('{name} {error}')\n"
        (folder / name / "__init__.py").write_text(text, encoding="utf-8")


def fill(work: Path) -> None:
    """Write what a user's folder has: rows, packages of our names, a clone, a script and a test."""
    stubs(work, "of the current folder was imported")
    (work / "siftune/siftune").mkdir(parents=True)
    row = {"prompt": "Name a colour.", "response": "Blue."}
    (work / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (work / "test_it.py").write_text(TEST.lstrip(), encoding="utf-8")


def check(python: Path, work: Path, path: str = "", pytest: bool = True) -> Iterator[str]:
    """Run Python, ``python -m``, the console script and pytest in ``work``; each ran well.

    ``path`` is PYTHONPATH. Gives each command that ran.
    """
    code = (
        "import siftune, siftune.curate.cli, siftune.finetune.cli, siftune.pipelines.cli; "
        "assert siftune.read('rows.jsonl').score('length').kept.height == 1"
    )
    ingest = ("curate", "ingest", "rows.jsonl", "--out")
    commands = [
        [str(python), "-c", code],
        [str(python), "-m", "siftune", *ingest, "by-module"],
        [str(python.parent / "siftune"), *ingest, "by-script"],
    ]
    if pytest:
        commands.append([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"])
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))
    }
    environment = kept | ({"PYTHONPATH": path} if path else {})
    for command in commands:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{command}\n{done.stdout}{done.stderr}")
        yield " ".join(command)
