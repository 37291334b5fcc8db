"""The commands offer what they can do, and no more."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from finetune.cli import finetune


@pytest.mark.parametrize(("command", "offered"), [("sft", True), ("dpo", True), ("ppo", False)])
def test_arguments_are_passed_on_only_where_there_is_a_trainer_underneath(command, offered):
    told = CliRunner().invoke(finetune, [command, "--help"])
    assert told.exit_code == 0
    assert ("--option" in told.output) == offered


def test_ppo_refuses_an_argument_to_pass_on(tmp_path):
    given = ["ppo", "rows", "--out", str(tmp_path / "x"), "--model", "m", "--reward", "length"]
    told = CliRunner().invoke(finetune, [*given, "-o", "bf16=true"])
    assert told.exit_code == 2
    assert "-o" in told.output
    assert not (tmp_path / "x").exists()
