"""`python -m benchmarks.files_entered [--list]`: source files of ours that three small runs enter.

A file is entered when one of its functions is called while the command works; what an import runs
(the module level, class bodies, decorators) does not count. The runs are a recipe on the six rows
of examples/tour.jsonl, `finetune dpo` on 24 pairs and `finetune ppo` on 24 prompts, each in a
process of its own with a profiler in every thread. Formats are counted apart: one file is entered
for each format tried.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
_OURS: Final = ("curate", "finetune", "pipelines", "siftune")
_PARTIAL: Final = 4  # exit code where rows were set aside, as one of the tour is
_TEXT: Final = "The cat sat on the mat. The dog ran to the park. A bird sings in the tree. "


def main(words: Sequence[str] | None = None) -> None:
    """Print the number of files that each run enters, or with ``--list`` their names too."""
    parser = argparse.ArgumentParser(prog="benchmarks.files_entered", description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the names of the files")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        for name, command in _commands(Path(folder)).items():
            entered = _traced(command)
            formats = {file for file in entered if file.startswith("curate/formats/")}
            print(f"{name}: {len(entered - formats)} files, and {len(formats)} formats")
            if asked.list:
                print(*(f"    {file}" for file in sorted(entered - formats)), sep="\n")


def _commands(folder: Path) -> dict[str, list[str]]:
    """Commands by name; their inputs are written to ``folder`` first."""
    pairs = [
        {
            "prompt": f"Question {i}: where did the dog run?",
            "chosen": f"To park {i}.",
            "rejected": "No",
        }
        for i in range(24)
    ]
    prompts = [{"prompt": f"Question {i}: where did the dog run?"} for i in range(24)]
    for name, rows in (("pairs", pairs), ("prompts", prompts)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "text.txt").write_text(_TEXT * 200, encoding="utf-8")
    init = ["finetune", "init", str(folder / "text.txt"), "--out", str(folder / "base")]
    small = [
        "--vocab-size",
        "300",
        "--hidden",
        "16",
        "--layers",
        "1",
        "--heads",
        "2",
        "--steps",
        "2",
    ]
    _traced([*init, *small])
    base = ["--model", str(folder / "base")]
    ppo = [
        "--batch-size",
        "12",
        "--reward",
        "length",
        "--reward-options",
        "{target: 8}",
        "--rollouts",
        "2",
        "--max-new-tokens",
        "8",
    ]
    return {
        "curate run, 6 rows": [
            "curate",
            "run",
            "examples/tour.yaml",
            "--no-cache",
            "--out",
            str(folder / "run"),
        ],
        "finetune dpo, 24 pairs": [
            *("finetune", "dpo", str(folder / "pairs.jsonl"), "--out", str(folder / "dpo")),
            *base,
            *("--batch-size", "4"),
        ],
        "finetune ppo, 24 prompts": [
            *("finetune", "ppo", str(folder / "prompts.jsonl"), "--out", str(folder / "ppo")),
            *base,
            *ppo,
        ],
    }


def _traced(command: Sequence[str]) -> set[str]:
    """Files, as paths in the repository, whose functions a command calls in a new process."""
    with tempfile.NamedTemporaryFile(suffix=".json") as found:
        words = [sys.executable, "-m", __spec__.name, "--trace", found.name, *command]
        run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode:
            sys.exit(f"siftune {' '.join(command)} ended with {run.returncode}:\n{run.stderr}")
        return set(json.loads(Path(found.name).read_text(encoding="utf-8")))


def _is_import(frame: FrameType | None) -> bool:
    """Whether a frame runs because a module other than the command is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        frame = frame.f_back
    return False


def _trace(found: Path, command: Sequence[str]) -> None:
    """Run a command in this process and write the files of ours that it entered to ``found``."""
    from siftune.pipelines.cli import main as siftune

    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code not in codes and not _is_import(frame):
            codes.add(code)

    sys.argv = ["siftune", *command]
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        siftune()
    except SystemExit as end:
        if end.code not in (0, None, _PARTIAL):
            raise
    finally:
        sys.setprofile(None)
    paths = {Path(code.co_filename).resolve() for code in codes if code.co_name != "<module>"}
    ours = {path.relative_to(ROOT) for path in paths if path.is_relative_to(ROOT)}
    names = sorted(path.as_posix() for path in ours if path.parts[0] in _OURS)
    found.write_text(json.dumps(names), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trace"]:
        _trace(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
