"""What the packages import of each other beyond the layers of import-linter in `pyproject.toml`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = {
    *("chat", "commands", "core", "dedup", "files", "heads", "io", "judge_calls", "judge_stats"),
    *("judging", "lm", "models", "records", "rows", "runs", "text", "vectors"),
}
"""Packages of curate that finetune imports: shapes, texts, models and judges, no stage."""


def test_finetune_imports_no_further_package_of_curate():
    found = {
        name
        for path in (ROOT / "finetune").rglob("*.py")
        for name in re.findall(r"siftune\.curate\.(\w+)[. ]", path.read_text(encoding="utf-8"))
    }
    assert found == SHARED
