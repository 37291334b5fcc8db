"""The commands offer what they can do, and no more."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from siftune import train
from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.cli import finetune
from tests.fuzz.commands import called

FAMILIES = ("pair", "unpaired", "token", "listwise")
NAMES = [name for family in FAMILIES for name in registry.names(f"finetune.losses.{family}")]


@pytest.mark.parametrize(("command", "offered"), [("sft", True), ("dpo", True), ("ppo", False)])
def test_arguments_are_passed_on_only_where_there_is_a_hugging_face_trainer(command, offered):
    told = CliRunner().invoke(finetune, [command, "--help"])
    assert told.exit_code == 0
    assert ("--option" in told.output) == offered


def test_ppo_refuses_an_argument_to_pass_on(tmp_path):
    given = ["ppo", "rows", "--out", str(tmp_path / "x"), "--model", "m", "--reward", "length"]
    told = CliRunner().invoke(finetune, [*given, "-o", "bf16=true"])
    assert told.exit_code == 2
    assert "-o" in told.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", ["sft", "reward", "dpo"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("learning_rat=1", "has no argument 'learning_rat'; did you mean learning_rate?"),
        ("learning_rate=1e-3", "the option lr sets it (--lr on the command line)"),
    ],
)
def test_an_argument_of_the_hugging_face_trainer_is_refused_before_rows_are_read(
    command, option, said, tmp_path
):
    given = [command, str(tmp_path / "gone"), "--out", str(tmp_path / "x"), "--model", "m"]
    told = CliRunner().invoke(finetune, [*given, "-o", option])
    assert isinstance(told.exception, UsageError)
    assert said in str(told.exception)


def test_a_value_that_the_hugging_face_trainer_does_not_take_is_named(
    tiny_model_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text('{"prompt": "Hi", "completion": "Hello"}\n')
    given = ("finetune", "sft", "d.jsonl", "--out", "out", "--model", tiny_model_dir)
    done = called(*given, "--held-out", "0", "-o", "dataloader_num_workers=-1")
    assert done.code == 2
    assert done.message.startswith(
        "siftune: the Hugging Face trainer fails with -o dataloader_num_workers=-1: num_workers"
    )
    assert not Path("out").exists()


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
    from siftune.pipelines.cli import siftune

    told = CliRunner().invoke(siftune, words, prog_name="siftune")
    assert isinstance(told.exception, UsageError)
    assert said in str(told.exception)
    assert "\n" not in str(told.exception)


def test_a_misspelt_objective_is_a_line_and_nothing_heavy_is_imported():
    code = """
import sys
from siftune.pipelines.cli import main
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
        ("plackett_luce", "ranked rows (`prompt`, `completions` and `scores`:"),
        *(
            (name, "each answer of a list or of a pair")
            for name in ("nash_md", "dro_v", "quark", "weighted_sft")
        ),
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


@pytest.mark.parametrize(
    ("given", "also"),
    [
        (["sft=0.2"], {"sft": 0.2}),
        (["sft=0.2,ipo=1"], {"sft": 0.2, "ipo": 1}),
        (["sft=0.2", "ipo=1"], {"sft": 0.2, "ipo": 1}),
        (["{sft: 0.2}"], {"sft": 0.2}),
        (["ipo={weight: 0.2, ratios: sum}"], {"ipo": {"weight": 0.2, "ratios": "sum"}}),
        ([], None),
    ],
)
def test_an_option_that_is_a_mapping_is_given_as_keys_and_values(monkeypatch, given, also):
    seen = {}
    monkeypatch.setattr(
        "siftune.finetune.cli.build", lambda group, name, options: seen.update(options)
    )
    words = ["dpo", "rows", "--out", "out", "--model", "m"]
    CliRunner().invoke(finetune, [*words, *(word for one in given for word in ("--also", one))])
    assert seen["loss"] == "dpo"
    assert seen.get("also") == also


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sft", "--also: expected KEY=VALUE (again and again, or with commas between), got 'sft'"),
        ("0.2", "--also: expected KEY=VALUE (again and again, or with commas between), got '0.2'"),
        ("sft={", "--also sft: cannot read '{'"),
        ("sft=much", "preference: also: "),
    ],
)
def test_what_is_no_mapping_is_told_how_to_be_one(given, said, tmp_path):
    words = ["dpo", "rows", "--out", str(tmp_path / "x"), "--model", "m", "--also", given]
    told = CliRunner().invoke(finetune, words)
    assert isinstance(told.exception, UsageError)
    assert str(told.exception).startswith(said)
    assert "\n" not in str(told.exception)


def test_a_number_still_goes_where_a_mapping_may_stand():
    from siftune.curate.commands.click_commands import parsed

    quota = registry.find("curate.selectors", "quota")
    assert parsed(quota, {"rows": ("5",)}) == {"rows": 5}
    assert parsed(quota, {"rows": ("a=5,b=2",)}) == {"rows": {"a": 5, "b": 2}}


@pytest.mark.parametrize("name", ["dpo", "best_of_k", "kto"])
def test_the_help_of_an_objective_names_no_option_that_its_command_lacks(name):
    told = CliRunner().invoke(finetune, [name, "--help"]).output
    assert "loss_options" not in told
    assert ("--beta" in told) == (name != "best_of_k")
    assert "Losses that are added" in re.sub(r"[│\s]+", " ", told)


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_what_writes_no_model_does_not_say_that_it_does(command):
    told = CliRunner().invoke(finetune, [command, "--help"]).output
    assert "Folder of the model" not in told
    assert "Folder of the" in told


def test_losses_are_a_table_of_papers_data_and_needs():
    lines = CliRunner().invoke(finetune, ["losses"]).output.splitlines()
    assert lines[0].split() == ["name", "arXiv", "data", "needs", "what", "it", "does"]
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1:]}
    assert set(rows) == set(NAMES)
    assert rows["dpo"].startswith("2305.18290 pairs reference Direct Preference Optimization")
    assert rows["simpo"].startswith("2405.14734 pairs - SimPO")
    assert rows["kto"].startswith("2402.01306 labelled answers reference KTO")
    assert rows["sppo_soft"].startswith("2405.00675 pairs reference, win_probability SPPO")
    assert rows["rrhf"].startswith("2304.05302 ranked lists score RRHF")
    assert "own samples XPO" in rows["xpo"]
    unpublished = {name for name, rest in rows.items() if rest.startswith("- ")}
    assert unpublished == {"cdpo", "nll", "sft", "weighted_sft"}


def test_the_table_of_losses_is_there_for_programs():
    rows = json.loads(CliRunner().invoke(finetune, ["losses", "--json"]).output)
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == NAMES
    assert by_name["dpo"]["paper"] == "Rafailov et al. 2023"
    assert by_name["kto"] | {"summary": ""} == {
        "name": "kto",
        "paper": "Ethayarajh et al. 2024",
        "arxiv": "2402.01306",
        "data": "labelled answers",
        "reference": True,
        "labels": True,
        "scores": [],
        "own_samples": False,
        "options": ["beta", "desirable_weight", "undesirable_weight"],
        "summary": "",
    }


@pytest.mark.parametrize("command", ["ppo", "init"])
def test_the_former_name_of_the_batch_size_is_answered_with_the_new_one(command):
    done = CliRunner().invoke(finetune, [command, "rows", "--batch", "4", "--out", "m"])
    assert "did you mean --batch-size?" in str(done.exception)
    with pytest.raises(UsageError, match=r"did you mean batch_size=\?"):
        getattr(train, command)([], out="m", batch=4)
