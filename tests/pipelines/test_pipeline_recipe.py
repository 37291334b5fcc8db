"""A pipeline's recipe is checked before the first row is read."""

from pathlib import Path

import pytest

from siftune.curate.core.errors import UsageError
from siftune.pipelines.recipe import load

GOOD = """
base: some/model
rows: {source: rows.jsonl, stages: [{score: length}]}
pairs: {source: pairs.jsonl}
heldout: {prompts: held.jsonl}
train:
  - sft: {epochs: 2}
  - reward:
  - dpo: {label: aligned, beta: 0.2}
  - ppo: {start: aligned}
arms: {seeds: [0, 1, 2]}
"""


@pytest.fixture
def write(tmp_path: Path):
    def to_file(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_each_step_starts_from_the_sft_model_unless_it_says_otherwise(write):
    steps = load(write(GOOD)).train
    assert [(step.label, step.method, step.start) for step in steps] == [
        ("sft", "sft", "base"),
        ("reward", "reward", "sft"),
        ("aligned", "dpo", "sft"),
        ("ppo", "ppo", "aligned"),
    ]
    assert steps[2].options == {"beta": 0.2}


def test_sft_and_ppo_read_rows_and_all_else_pairs_unless_a_step_says_otherwise(write):
    text = GOOD.replace("  - reward:\n", "  - reward:\n  - nll: {data: rows}\n  - kto:\n")
    steps = load(write(text)).train
    told = {step.label: (step.data, dict(step.options)) for step in steps}
    assert {label: data for label, (data, _) in told.items()} == {
        "sft": "rows", "reward": "pairs", "nll": "rows", "kto": "pairs",
        "aligned": "pairs", "ppo": "rows",
    }  # fmt: skip
    assert told["nll"][1] == {}


@pytest.mark.parametrize("key", ["source: rows.jsonl", "stages: []"])
def test_the_recipe_of_a_curate_run_is_refused_as_that(key: str, write):
    with pytest.raises(UsageError, match=r"recipe.yaml: this recipe is for `siftune curate run`"):
        load(write(f"name: a\n{key}\n"))


def test_overrides_and_seed_reach_the_rows(write):
    got = load(write(GOOD), ["seed=3", "rows.source=other.jsonl"])
    assert got.rows is not None
    assert (got.rows.seed, got.rows.source) == (3, ("other.jsonl",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("rows:", "row:"), "did you mean rows?"),
        (GOOD.replace("base: some/model", ""), "exactly one of base"),
        (GOOD + "init: {hidden: 8}\n", "exactly one of base"),
        (GOOD.replace("start: aligned", "start: dpo"), "no model 'dpo' yet; there are base, sft"),
        (GOOD.replace("label: aligned, ", "label: sft, "), "a second model called 'sft'"),
        (
            GOOD.replace("reward:", "reward: {data: pair}"),
            "data: no rows are called 'pair'; did you mean pairs?",
        ),
        (GOOD.replace("pairs: {source: pairs.jsonl}", ""), "reward needs `pairs`"),
        (GOOD.replace("heldout: {prompts: held.jsonl}", ""), "set heldout.prompts"),
        (
            GOOD.replace("{prompts: held.jsonl}", "{prompts: {source: 3}}"),
            "heldout.prompts: source",
        ),
        (GOOD.replace("{prompts: held.jsonl}", "{prompts: 3}"), "expected a curate recipe"),
        (GOOD.replace("seeds: [0, 1, 2]", "seeds: three"), "expected a list of whole numbers"),
        (GOOD.replace("seeds: [0, 1, 2]", "seeds: [true]"), "expected a list of whole numbers"),
        (GOOD.replace("seeds: [0, 1, 2]", "seeds: [-1]"), "seed: expected at least 0"),
        (GOOD.replace("seeds: [0, 1, 2]", "names: 3"), "arms: names: expected a list of curated"),
        (GOOD.replace("seeds: [0, 1, 2]", "names: all"), "arms: names: expected a list of curated"),
        (GOOD.replace("seeds: [0, 1, 2]", "names: []"), "arms: names: expected a list of curated"),
        (GOOD.replace("seeds: [0, 1, 2]", "names: [curatd]"), "did you mean curated?"),
        (GOOD.replace("score: length", "score: lenght"), "rows: stage 1"),
        (GOOD.replace("prompts: held", "prompt: held"), "did you mean prompts?"),
        (GOOD.replace("- reward:", "- [reward]"), "train 2: expected"),
        (GOOD + "seed: one\n", "seed: expected a whole number"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, text, said):
    with pytest.raises(UsageError) as error:
        load(write(text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_prices_and_the_cap_of_a_recipe_are_those_of_every_step_that_asks(write):
    steps = "- judge: {data: pairs}\n  - judge: {label: own, data: pairs, max_cost: 1}\n  - dpo: {}"
    text = f"base: b\njudge: https://h/v1#m\npairs: {{source: p.jsonl}}\ntrain:\n  {steps}\n"
    costs = ["max_cost=2", "price_input=0.15", "price_output=0.6"]
    first, own, dpo = load(write(text), costs).train
    assert (first.options["max_cost"], own.options["max_cost"]) == (2.0, 1)
    assert first.options["price_input"] == own.options["price_input"] == 0.15
    assert "max_cost" not in dpo.options
    with pytest.raises(UsageError, match="max_cost: expected dollars, 0 or more, got -1"):
        load(write(text), ["max_cost=-1"])
