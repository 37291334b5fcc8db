"""The commands offer what they can do, and no more."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from curate.core import registry
from curate.core.errors import UsageError
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
    ("words", "said"),
    [
        (["finetun"], "no command 'finetun' in siftune; did you mean finetune?"),
        (["finetune", "simppo"], "no command 'simppo' in siftune finetune; did you mean simpo?"),
        (["finetune", "rpo-reward-aware"], "did you mean rpo_reward_aware?"),
        (["finetune", "zzzzzz"], "no command 'zzzzzz' in siftune finetune; see siftune finetune"),
        (["curate", "scor", "rows"], "no command 'scor' in siftune curate; did you mean score?"),
        (["curate", "score", "rows", "lenght"], "no command 'lenght'"),
        (["pipelines", "rum"], "no command 'rum' in siftune pipelines; did you mean run?"),
    ],
)
def test_the_closest_command_is_named_at_every_level(words, said):
    from pipelines.cli import siftune

    told = CliRunner().invoke(siftune, words, prog_name="siftune")
    assert isinstance(told.exception, UsageError)
    assert said in str(told.exception)
    assert "\n" not in str(told.exception)


def test_a_misspelt_objective_is_a_line_and_nothing_heavy_is_imported():
    code = """
import sys
from pipelines.cli import main
sys.argv[0] = "siftune"
try:
    main()
finally:
    print("torch" in sys.modules)
"""
    told = subprocess.run(
        [sys.executable, "-c", code, "finetune", "simppo"], capture_output=True, text=True
    )
    assert told.stderr.endswith("no command 'simppo' in siftune finetune; did you mean simpo?\n")
    assert (told.returncode, told.stdout) == (2, "False\n")


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
