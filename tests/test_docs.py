"""Python of the documentation that is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import siftune as sf

DOCS = Path(__file__).parents[1] / "docs"


def block(page: str, words: str) -> str:
    """The Python block of a page that has ``words`` in it."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    (found,) = [one for one in blocks if words in one]
    return found


def test_functions_that_read_raw_fields_or_add_two_columns_run_as_written():
    space = {"sf": sf}
    exec(block("api.md", "sides.adds"), space)
    (row,) = space["rows"].kept.to_dicts()
    assert (row["question"], row["growth"], row["halved"]) == (True, 0.75, 3.5)


def test_calls_of_losses_run_as_written():
    calls = block("api.md", "mismatched=mismatched")
    space = {"sf": sf, "torch": torch, "found": {}}
    exec(re.sub(r'^(sf\.loss\("(\w+)"\))', r'found["\2"] = \1', calls, flags=re.M), space)
    assert len(space["found"]) == 6
    assert all(torch.isfinite(loss).all() for loss in space["found"].values())
