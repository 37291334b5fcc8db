"""A step that merges models: read, checked and run in a recipe."""

import json
from pathlib import Path

import pytest

from siftune.curate.core.errors import UsageError
from siftune.pipelines.recipe import load
from siftune.pipelines.render import _step_text
from siftune.pipelines.run import run


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def read(train: str, base: str = "some/model"):
        Path("recipe.yaml").write_text(f"base: {base}\n{train}")
        return load(Path("recipe.yaml"))

    return read


def test_in_rounds_the_merged_model_is_what_the_next_round_starts_from(recipe):
    steps = recipe("""
pairs: {source: pairs.jsonl}
train:
  - repeat:
      rounds: 2
      steps:
        - dpo:
        - dpo: {label: other, start: base}
        - merge: {label: average, models: [step:dpo, step:other], weights: [2, 1]}
""").train
    assert [step.start for step in steps if step.method == "dpo"] == [
        *("base", "base", "average-1", "base")
    ]
    last = steps[-1]
    assert (last.label, last.options["models"]) == ("average-2", ["step:dpo-2", "step:other-2"])
    assert _step_text(last, ()).startswith("average-2: merge, models")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{models: [step:sft, base]}", "no model 'sft' yet; there are base"),
        ("{models: [step:base, step:base], data: rows}", "reads no rows"),
        ("{models: [step:base, step:base], start: base}", "unknown key 'start'"),
    ],
)
def test_wrong_steps_are_refused(recipe, given, message):
    with pytest.raises(UsageError, match=message):
        recipe(f"train:\n  - merge: {given}\n")


def test_wrong_methods_and_missing_models_are_refused_before_anything_runs(recipe, tiny_model_dir):
    for given, message in (
        ("models: [step:base, step:base], method: ties", "trained from"),
        ("models: [step:base, step:base], methods: ties", "methods"),
        ("models: [step:base, ./nowhere]", "nowhere"),
    ):
        pipeline = recipe(f"train:\n  - merge: {{{given}}}\n", str(tiny_model_dir))
        with pytest.raises(UsageError, match=message):
            run(pipeline, Path("run"))


def test_a_merge_is_made_once_and_is_in_the_manifest(recipe, tiny_model_dir):
    lines: list[str] = []
    text = "train:\n  - merge: {models: [step:base, step:base], weights: [1, 3]}\n"
    for _ in range(2):
        manifest = run(recipe(text, str(tiny_model_dir)), Path("run"), lines.append)
    assert [one for one in lines if one.startswith("merge")] == [
        "merge: training",
        "merge: done before",
    ]
    (model,) = manifest["models"]
    assert len(model["inputs"]["models"]) == 2
    facts = json.loads((Path("run") / model["path"] / "siftune.json").read_text())
    assert facts["hash"] == model["hash"]
    again = run(recipe(text.replace("[1, 3]", "[1, 2]"), str(tiny_model_dir)), Path("run"))
    assert again["models"][0]["key"] != model["key"]
