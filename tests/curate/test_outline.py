"""Help reads options from source: equal to those of the classes, without their libraries."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING
from typing import Any, get_type_hints

import pytest

from siftune.curate.commands.option_help import option_texts
from siftune.curate.core.outline import outline
from siftune.curate.core.registry import described, find, names, options
from siftune.finetune.core.methods import FAMILIES, TRAINER_GROUP

GROUPS = ("curate.scorers", "curate.selectors", *FAMILIES, TRAINER_GROUP, "finetune.tools")
EVERY = [(group, name) for group in GROUPS for name in names(group)]
HELP = """
import sys
from click.testing import CliRunner
from siftune.pipelines.cli import siftune

for line in sys.stdin.read().splitlines():
    done = CliRunner().invoke(siftune, line.split())
    assert done.exit_code == 0, (line, done.output)
    heavy = {"polars", "numpy", "torch", "pyarrow", "transformers"} & sys.modules.keys()
    assert not heavy, (line, heavy)
"""
LINES = """\
curate score rows.parquet length --help
curate select rows.parquet quota --help
curate select --help
curate dedup --help
finetune dpo --help
finetune sft --help
finetune ppo --help
finetune compare --help
finetune conformance --help
finetune losses
"""


def described_as(component: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(component, include_extras=True)
    fields = {
        name: (hints[name], one.default, one.default_factory is MISSING or one.default_factory())
        for name, one in options(component).items()
    }
    plain = ("renamed", "one_of", "example", "needs_label", "needs_columns", "needs_reference")
    return {
        "fields": fields,
        "texts": option_texts(component),
        "doc": component.__doc__,
        "declared": {name: getattr(component, name, None) for name in plain},
    }


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_an_outline_has_the_options_of_the_class(group, name):
    found = outline(find(group, name).__module__)
    assert found is not None
    assert found is not find(group, name)
    assert described_as(found) == described_as(find(group, name))


def test_help_of_a_component_imports_no_library_that_computes():
    command = [sys.executable, "-c", HELP]
    done = subprocess.run(command, input=LINES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_class_that_needs_more_than_its_text_is_imported(tmp_path, monkeypatch):
    (tmp_path / "outlined.py").write_text(
        '__all__ = ["Own"]\nfrom dataclasses import dataclass\n'
        "def default():\n    return 3\n\n"
        "@dataclass\nclass Own:\n    size: int = default()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert outline("outlined") is None
    mine = tmp_path / "mine.py"
    mine.write_text("def short(response, most: int = 5):\n    return len(response) < most\n")
    assert options(described("curate.selectors", f"{mine}:short"))["most"].default == 5
