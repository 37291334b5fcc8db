"""Advice in messages works when it is followed; the flags and commands that they name exist."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest

from siftune.curate.commands.click_commands import component_options
from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.core.methods import TRAINERS
from tests.fuzz.commands import called
from tests.fuzz.options import commands

ROOT = Path(__file__).parents[2]
COMMANDS = dict(commands())
FLAGS = {flag for one in COMMANDS.values() for param in one.params for flag in param.opts}
OTHERS = {  # flags of pip, of curl, the trainers that exports are for, and of one of our words
    *("--no-deps", "--dest", "--disable-pip-version-check", "--no-input", "--index-url"),
    *("--stage", "--dataset_dir", "--dataset", "--rlhf_type", "--data", "--only-binary"),
    *("--no-index", "--find-links", "--help", "--version", "--isolated", "--quiet"),
    *("--user", "--logprobs-mode"),
}
GROUPS = ("curate.scorers", "curate.selectors")
RENAMED = [
    (group, name, old, new)
    for group in GROUPS
    for name in registry.names(group)
    for old, new in getattr(registry.find(group, name), "renamed", ())
    if old not in registry.options(registry.find(group, name))  # else see test_option_names
]
OTHER_OPTIONS = {"by": "length_words", "fraction": 1, "group_by": "source", "start": "best"}
TRL = (
    *("learning_rate", "output_dir", "num_train_epochs", "per_device_train_batch_size"),
    *("model_name_or_path", "dataset_name", "save_steps"),
)


@cache
def texts() -> list[tuple[str, str]]:
    """The strings that may be shown of files that name flags or commands; no docstrings."""
    return list(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    for folder in ("curate", "finetune", "pipelines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if not re.search(r"--[a-z]|siftune ", text):
                continue
            nodes = list(ast.walk(ast.parse(text)))
            documented = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            for node in nodes:
                shown = isinstance(node, ast.Constant) and id(node) not in documented
                if shown and isinstance(node.value, str):
                    yield path.name, node.value


def test_every_flag_that_a_message_names_is_one_of_ours() -> None:
    named = {
        (file, flag)
        for file, text in texts()
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", text)
    }
    assert len(named) > 60
    assert {(file, flag) for file, flag in named if flag not in FLAGS | OTHERS} == set()


def test_every_command_that_a_message_names_is_one_of_ours() -> None:
    known = {words[:2] for words in COMMANDS} | {words[:1] for words in COMMANDS}
    methods = {words[-1] for words in COMMANDS}
    for file, text in texts():
        for group, name in re.findall(
            r"siftune (curate|finetune|pipelines|models) (\w[\w-]*)", text
        ):
            upper = name.isupper()  # METHOD, any of them
            assert upper or (group, name) in known or name in methods, (file, group, name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = (f'{{"prompt": "q{at}", "completion": "{"w " * at}"}}' for at in range(1, 7))
    Path("rows.jsonl").write_text("\n".join(rows))
    return tmp_path


def advised_flag(message: str) -> str:
    return re.findall(r"did you mean (--[\w-]+)\?", message)[0]


@pytest.mark.parametrize(("group", "name", "old", "new"), RENAMED)
def test_an_old_name_is_answered_with_one_that_works(
    group: str, name: str, old: str, new: str, here: Path
) -> None:
    command = "score" if group.endswith("scorers") else "select"
    value = {"precision": "fp32", "of": "response"}.get(
        new, "1" if "rows" in new else "length_words"
    )
    component = registry.find(group, name)
    known = registry.options(component)
    given = {key: value for key, value in OTHER_OPTIONS.items() if key in known and key != new}
    given |= {"rows": 1} if name == "quota" else {}
    with pytest.raises(UsageError, match=f"has no option '{old}'; did you mean {new}"):
        registry.build(group, name, given | {old: value})
    words = ("curate", "dedup" if name.endswith("_dedup") else command, "rows.jsonl", name)
    flag = f"--{old.replace('_', '-')}"
    done = called(*words, flag, value, "--out", "run")
    asked = advised_flag(done.message)
    assert done.code == 2
    component_flags = [option.opts[0] for option in component_options(component)]
    assert asked in component_flags
    assert registry.build(group, name, given | {new: 1 if "rows" in new else value})


@pytest.mark.parametrize("method", [*TRAINERS, "dpo", "kto", "nll", "plackett_luce"])
@pytest.mark.parametrize("name", TRL)
def test_names_of_trl_are_answered_with_ours(name: str, method: str) -> None:
    flags = {flag for param in COMMANDS["finetune", method].params for flag in param.opts}
    for spelt in (f"--{name}", f"--{name.replace('_', '-')}"):
        done = called("finetune", method, "rows", spelt, "1", "--out", "x", "--model", "m")
        assert done.code == 2
        assert done.message.startswith(f"siftune: no option {spelt} in ")
        if name == "dataset_name":
            assert f"the first argument: siftune finetune {method} ROWS" in done.message
        elif method == "reward_ensemble" and name not in ("output_dir", "model_name_or_path"):
            assert "; it is an option of its members: --reward-options " in done.message
        else:
            assert advised_flag(done.message) in flags


@pytest.mark.parametrize("method", ["sft", "reward", "dpo", "kto"])
def test_an_argument_of_the_hugging_face_trainer_is_advised_to_be_passed_on(method: str) -> None:
    given = ("--out", "x", "--model", "m")
    done = called("finetune", method, "gone.jsonl", "--warmup_steps", "2", *given)
    option, pair = done.message.rpartition(" is given as ")[2].split()
    pair = pair.replace("VALUE", "2")
    followed = called("finetune", method, "gone.jsonl", option, pair, *given)
    assert followed.message.startswith("siftune: gone.jsonl")  # the option is taken, rows are read


@pytest.mark.parametrize("method", ["sft", "reward", "dpo"])
def test_what_is_advised_for_an_argument_of_trl_is_accepted(method: str) -> None:
    """Every sixth argument of TRL's trainer: a flag of ours, or -o that is taken."""
    import trl

    name = {"sft": "SFTConfig", "reward": "RewardConfig", "dpo": "DPOConfig"}[method]
    given = ("--out", "x", "--model", "m")
    followed = 0
    for field in sorted(getattr(trl, name).__dataclass_fields__.values(), key=lambda f: f.name)[
        ::6
    ]:
        flag = f"--{field.name.replace('_', '-')}"
        message = called("finetune", method, "gone.jsonl", flag, "1", *given).message
        for own in re.findall(r"did you mean (--[\w-]+)\?", message):
            assert own in {flag for p in COMMANDS["finetune", method].params for flag in p.opts}
        if "is given as -o" in message:
            value = "null" if field.default is None else str(field.default).lower()
            option = ("-o", f"{field.name}={value}")
            done = called("finetune", method, "gone.jsonl", *option, *given)
            assert done.message.startswith("siftune: gone.jsonl"), done.message
            followed += 1
    assert followed > 5


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("learning_rate", "did you mean lr="),
        ("output_dir", "did you mean out="),
        ("report_to", "metrics go to metrics.jsonl"),
        ("label_smoothing", "siftune.train.cdpo"),
        ("loss_type", "each objective is a method"),
        ("lern_rate", "there are"),
    ],
)
def test_functions_that_train_answer_arguments_of_trl_as_commands_do(
    argument: str, advice: str
) -> None:
    import siftune as sf

    with pytest.raises(sf.UsageError, match=re.escape(advice)):
        sf.train.dpo([{"prompt": "a", "chosen": "b", "rejected": "c"}], model="m", **{argument: 1})


@pytest.mark.parametrize(
    ("step", "key", "advice"),
    [
        ("dpo", "learning_rate", "did you mean lr?"),
        ("sft", "num_train_epochs", "did you mean epochs?"),
        ("kto", "per_device_train_batch_size", "did you mean batch_size?"),
        ("ppo", "per_device_train_batch_size", "did you mean batch_size?"),
        ("sft", "output_dir", "--out FOLDER"),
        ("sft", "dataset_name", "set `data: rows` or `data: pairs`"),
        ("dpo", "model_name_or_path", "did you mean model?"),
        ("reward", "vocabulary", "there are"),
    ],
)
def test_a_step_of_a_pipeline_is_answered_likewise(step: str, key: str, advice: str) -> None:
    from siftune.pipelines.recipe import Step
    from siftune.pipelines.steps import trainer_of

    with pytest.raises(UsageError, match=re.escape(advice)) as error:
        trainer_of(Step(step, step, "base", "pairs", {key: 1}), {"model": "m", "reward": "r"})
    if advice.startswith("did you mean"):
        ours = advice.split()[-1].strip("?")
        value = "m" if ours == "model" else 64
        chosen = Step(step, step, "base", "pairs", {ours: value})
        assert getattr(trainer_of(chosen, {"model": "b", "reward": "r"}), ours) == value
    assert key in str(error.value)


RECIPE = "source: rows.jsonl\nstages:\n  - score: length\n  - select: top_k\n    rows: 2\n"


def test_an_option_that_a_recipe_lacks_is_set_as_advised(here: Path) -> None:
    Path("r.yaml").write_text(RECIPE)
    done = called("curate", "run", "r.yaml", "--out", "run")
    assert done.code == 2
    key = re.search(r"set (\w+): VALUE in the recipe", done.message)
    assert "--" not in done.message  # `curate run` has no such flag
    override = re.search(r"-o (stages\.\d+\.\w+)=VALUE", done.message)
    assert key
    assert override
    Path("r.yaml").write_text(f"{RECIPE}    {key[1]}: length_words\n")
    assert called("curate", "run", "r.yaml", "--out", "run").code == 0
    Path("r.yaml").write_text(RECIPE)
    given = ("-o", f"{override[1]}=length_words", "--out", "second")
    assert called("curate", "run", "r.yaml", *given).code == 0


def test_a_flag_that_a_command_needs_is_set_as_advised(here: Path) -> None:
    words = ("curate", "select", "rows.jsonl", "top_k", "--rows", "2", "--out", "run")
    done = called(*words)
    assert done.code == 2
    flag = re.search(r"(--\w+) VALUE", done.message)
    assert flag
    assert "-o " not in done.message  # `curate select` takes no overrides
    scored = ("curate", "score", "rows.jsonl", "length", "--out", "scored")
    assert called(*scored).code == 0
    given = [word.replace("rows.jsonl", "scored") for word in words]
    assert called(*given, flag[1], "length_words").code == 0


def test_an_option_that_a_command_lacks_is_set_as_advised(here: Path) -> None:
    words = ("curate", "select", "rows.jsonl", "random", "--out", "run")
    assert "set exactly one of rows, fraction and tokens" in called(*words).message
    assert called(*words, "--rows", "2").code == 0


def test_a_source_that_is_left_open_is_given_as_advised(here: Path) -> None:
    Path("r.yaml").write_text("stages: [{score: length}]\n")
    done = called("curate", "run", "r.yaml", "--out", "run")
    [option] = re.findall(r"give (-o source=)FILE", done.message)
    flag, value = option.split()
    assert called("curate", "run", "r.yaml", flag, f"{value}rows.jsonl", "--out", "run").code == 0


def test_rows_after_the_component_are_moved_as_advised(here: Path) -> None:
    given = ("--rows", "2", "--out", "run")
    Path("rows.jsonl").rename("my rows.jsonl")
    done = called("curate", "select", "random", "my rows.jsonl", *given)
    line = shlex.split(done.message.rpartition("come first: ")[2])
    assert called(*line[line.index("curate") :], *given).code == 0


def test_the_output_of_another_command_is_replaced_as_advised(here: Path) -> None:
    assert called("curate", "ingest", "rows.jsonl", "--out", "run").code == 0
    Path("r.yaml").write_text("source: rows.jsonl\nstages: []\n")
    words = ("curate", "export", "run", "--out", "out")
    assert called(*words).code == 0
    other = ("curate", "ingest", "rows.jsonl", "--out", "out")
    done = called(*other)
    assert "add --overwrite" in done.message
    assert called(*other, "--overwrite").code == 0


def test_a_file_is_made_a_run_as_advised(here: Path) -> None:
    done = called("curate", "export", "rows.jsonl", "--out", "out")
    line = re.findall(r"siftune (curate ingest \S+ --out) RUN", done.message)[0]
    assert called(*shlex.split(line), "run").code == 0
    assert called("curate", "export", "run", "--out", "out").code == 0


def test_an_option_of_a_reward_is_set_as_advised() -> None:
    from siftune.curate.commands.option_types import value_of
    from siftune.finetune.rewards.types import reward_of

    with pytest.raises(UsageError) as error:
        reward_of("length", {})
    flag, text = shlex.split(str(error.value).partition("set it with ")[2])
    component = registry.find("finetune.trainers", "ppo")
    given = value_of(
        flag, get_type_hints(component)["reward_options"], (text.replace("VALUE", "4"),)
    )
    assert flag == "--reward-options"
    assert reward_of("length", given)(["q"], ["one two three four"], [{}]) == [0.0]


@pytest.mark.parametrize(
    ("wrong", "recipe"),
    [
        ("pipelines", "source: rows.jsonl\nstages: []\n"),
        ("curate", "base: gone\nrows: {source: rows.jsonl, stages: []}\ntrain: []\n"),
    ],
)
def test_a_recipe_of_another_command_is_run_as_advised(wrong: str, recipe: str, here: Path) -> None:
    Path("r.yaml").write_text(recipe)
    done = called(wrong, "run", "r.yaml", "--out", "run")
    advised = re.findall(r"this recipe is for `siftune (\w+) run`", done.message)[0]
    followed = called(advised, "run", "r.yaml", "--out", "run")
    assert "this recipe is for" not in followed.message
    assert followed.code == 0 or "base" in followed.message


def test_a_field_that_may_belong_to_the_question_is_renamed_as_advised(here: Path) -> None:
    Path("two.jsonl").write_text('{"prompt": "a", "completion": "b", "text": "c"}\n')
    done = called("curate", "ingest", "two.jsonl", "--out", "run")
    assert done.code == 3
    both, alone = (re.findall(r"--map \S+=\w+", part) for part in done.message.split(" where it "))
    assert (len(both), len(alone)) == (3, 1)
    for flags in (both, alone):
        words = shlex.split(" ".join(flags))
        assert (
            called("curate", "ingest", "two.jsonl", *words, "--out", f"run{len(words)}").code == 0
        )


def test_a_command_that_is_misspelt_is_called_as_advised(here: Path) -> None:
    done = called("curate", "score", "rows.jsonl", "lenght", "--out", "run")
    name = re.findall(r"did you mean (\w+)\?", done.message)[0]
    assert called("curate", "score", "rows.jsonl", name, "--out", "run").code == 0
