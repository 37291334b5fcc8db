"""The commands offer what they can do, and no more."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from curate.core import registry
from finetune.cli import finetune

FAMILIES = ("pair", "unpaired", "token", "listwise")
NAMES = [name for family in FAMILIES for name in registry.names(f"finetune.losses.{family}")]


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


def test_each_objective_has_a_name_of_its_own_and_all_but_the_trainers_a_command():
    assert len(NAMES) == len(set(NAMES))
    listed = finetune.list_commands(None)
    assert set(NAMES) <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("command", "data"),
    [
        ("dpo", "preference rows"),
        ("sppo_soft", "the number `win_probability` of each pair"),
        ("kto", "unpaired rows (a prompt, an answer, whether it is a good one), or pairs"),
        ("dro_v", "the number `reward` of each answer"),
        ("quark", "the number `reward` of each answer"),
        ("plackett_luce", "ranked rows"),
        ("spo", "to be the model's own samples"),
    ],
)
def test_the_help_of_an_objective_says_what_data_it_needs(command, data):
    told = CliRunner().invoke(finetune, [command, "--help"]).output
    assert data in " ".join(told.split())


def test_a_loss_on_scored_answers_is_trained_from_the_command_line(tiny_model_dir, tmp_path):
    rows = tmp_path / "rows.jsonl"
    row = '{{"prompt": "Say {0}", "completion": "two {0}", "label": true, "reward": {0}}}\n'
    rows.write_text("".join(row.format(at) for at in range(6)))
    given = ["reward_weighted", str(rows), "--out", str(tmp_path / "out"), "--max-weight", "5"]
    told = CliRunner().invoke(
        finetune, [*given, "--model", str(tiny_model_dir), "--batch-size", "2"]
    )
    assert told.exit_code == 0, told.output
    assert (tmp_path / "out" / "model.safetensors").is_file()
