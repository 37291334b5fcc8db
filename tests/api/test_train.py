"""`siftune.train`, `siftune.evaluate` and `siftune.sample`: a function for every command."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

import siftune as sf
from siftune.pipelines.cli import siftune as command
from tests.api.method_types import STUB, stub

WORDS = ["cat", "sat", "mat", "sea", "king", "blue", "red", "two"]
PAIRS = [
    {"prompt": f"Say {word} {n}", "chosen": f"The {word} is good", "rejected": f"bad {word}"}
    for n, word in enumerate(WORDS)
]
QUICK = {"epochs": 1, "batch_size": 4, "held_out": 0, "lr": 1e-3, "max_length": 64}


@pytest.fixture(scope="module")
def trained(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> sf.TrainResult:
    out = tmp_path_factory.mktemp("models") / "dpo"
    return sf.train.dpo(pl.DataFrame(PAIRS), model=tiny_model_dir, out=out, beta=0.2, **QUICK)


def test_a_frame_trains_what_the_command_trains_on_the_same_rows(trained, tiny_model_dir, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    words = ["finetune", "dpo", str(file), "--model", str(tiny_model_dir), "--beta", "0.2"]
    for key, value in QUICK.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    done = CliRunner().invoke(command, [*words, "--out", str(tmp_path / "model")])
    assert done.exit_code == 0, done.output
    ours, theirs = (load_file(m / "model.safetensors") for m in (trained.model, tmp_path / "model"))
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)
    assert trained.rows == len(PAIRS)
    assert trained.metrics["steps"] == 2
    folders = (trained.model, tmp_path / "model")
    facts = [json.loads((folder / "siftune.json").read_text()) for folder in folders]
    assert facts[0]["run"] == facts[1]["run"]


def test_a_model_that_was_trained_is_the_next_ones_model(trained, tmp_path):
    rows = sf.read(PAIRS)
    found = sf.evaluate(trained, rows, max_new_tokens=2, limit=2)
    assert found.metrics["rows"] == 2
    assert found.model is None
    kept = sf.evaluate(trained.model, PAIRS, out=tmp_path / "e", max_new_tokens=2, limit=2)
    assert (tmp_path / "e" / "evaluation.json").is_file()
    assert kept.metrics == found.metrics
    assert kept.model == tmp_path / "e"


def test_prefer_takes_the_objective_by_its_name(trained, tiny_model_dir, tmp_path):
    again = sf.train.prefer(
        PAIRS, "dpo", model=str(tiny_model_dir), out=trained.model, beta=0.2, **QUICK
    )
    assert again.metrics == trained.metrics  # it was there already
    with pytest.raises(sf.UsageError, match=r"name another out=, or add overwrite=True"):
        sf.train.prefer(PAIRS, "dpo", model=tiny_model_dir, out=trained.model, beta=0.3, **QUICK)


def test_every_method_is_a_function_with_the_options_of_its_command():
    methods = sf.train.methods()
    assert {"sft", "reward", "ppo", "init", "dpo", "kto", "spo", "nll"} <= set(methods)
    assert set(methods) <= set(dir(sf.train))
    for name in methods:
        train = getattr(sf.train, name)
        given = inspect.signature(train).parameters
        assert list(given)[:2] == ["rows", "out"], name
        lines = train.__doc__.splitlines()
        assert train.__name__ == name
        assert lines[0].strip()
        told = {line.strip().partition(":")[0] for line in lines if line.startswith("    ")}
        assert set(given) <= told, name


def test_type_checkers_see_the_options_of_every_method():
    assert stub() == STUB.read_text(), "run `python -m tests.api.method_types`"


def test_options_of_a_loss_and_of_its_training_stand_side_by_side():
    given = inspect.signature(sf.train.dpop).parameters
    assert given["penalty"].default == 50.0
    assert given["lr"].default == 1e-6
    assert given["model"].default is inspect.Parameter.empty
    assert "loss" not in given


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (lambda: sf.train.dpo(PAIRS, model="m"), "dpo: out is missing"),
        (lambda: sf.train.dpo(PAIRS, out="o", betta=1), "dpo has no option 'betta'.* beta?"),
        (lambda: sf.train.dpo(PAIRS, out="o"), "dpo needs the option 'model': model=VALUE"),
        (lambda: sf.train.dpo(PAIRS, model="m", out="o", lr="fast"), "dpo: lr: .*got 'fast'"),
        (lambda: sf.train.sft(PAIRS, model="m", out="o", loss="x"), "sft has no option 'loss'"),
        (lambda: sf.train.prefer(PAIRS, "grpo", model="m", out="o"), "grpo is no objective"),
        (lambda: sf.train.prefer(PAIRS, "hinge", model="m", out="o"), "TRL's name of rso_hinge"),
        (lambda: sf.train.prefer(PAIRS, "dop", model="m", out="o"), "'dop'; did you mean dpop?"),
        (lambda: sf.evaluate("m", PAIRS, limits=1), "evaluate has no option 'limits'"),
        (lambda: sf.sample("m", PAIRS, out="o", cuont=2), "'cuont'; did you mean count"),
        (
            lambda: sf.train.dpo([*PAIRS, {"prompt": "a"}], model="m", out="o"),
            r"1 of 9 records cannot be read, the first \(row 9\)",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_loaded(train, words):
    with pytest.raises(sf.SiftuneError, match=words) as refused:
        train()
    assert "--" not in str(refused.value)


def test_an_unknown_method_names_the_closest():
    with pytest.raises(AttributeError, match=r"no method 'dop'; did you mean dpop\?"):
        _ = sf.train.dop
    with pytest.raises(AttributeError, match=r"no 'DPPO'; did you mean DPO\?"):
        _ = sf.losses.DPPO


@pytest.mark.parametrize("module", ["losses", "rewards", "scorers", "selectors"])
def test_every_component_is_a_class_of_its_module(module):
    space = getattr(sf, module)
    for name in dir(space):
        assert getattr(space, name).__name__ == name


def test_a_pipeline_leaves_models_and_the_rows_that_it_selected(tiny_model_dir, tmp_path):
    file = tmp_path / "rows.jsonl"
    records = [{"prompt": f"Say {word}", "completion": word} for word in WORDS]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    recipe = {
        "base": str(tiny_model_dir),
        "rows": {"source": str(file), "stages": [{"select": "random", "rows": 4}]},
        "train": [{"sft": {"epochs": 1, "held_out": 0, "label": "first"}}],
    }
    run = sf.run(recipe, tmp_path / "run")
    assert isinstance(run, sf.PipelineRun)
    assert list(run.models) == ["first"]
    assert (run.models["first"] / "model.safetensors").is_file()
    assert run.rows is not None
    assert (len(run.rows), run.pairs) == (4, None)
    assert (tmp_path / "run" / "report.html").is_file()
    with pytest.raises(
        sf.UsageError, match=r"the recipe: (?s:.*)no method 'sfd'; did you mean sft"
    ):
        sf.run(recipe | {"train": [{"sfd": {}}]}, tmp_path / "other")
    with pytest.raises(sf.UsageError, match=r"no method 'grpa'; did you mean grpo\?"):
        sf.run(recipe | {"train": [{"grpa": {}}]}, tmp_path / "other")
