"""A whole arena on a tiny model: resumed at every arm and measure, its files, its refusals."""

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import DataError
from siftune.curate.core.progress import NoProgress
from siftune.curate.files.atomic import read_json
from siftune.pipelines.arena.recipe import load
from siftune.pipelines.arena.run import plan, run_arena
from siftune.pipelines.arena.work import Work
from siftune.pipelines.commands import pipelines

WORDS = ["red", "blue", "green", "white", "black", "grey", "pink"]


class Told(NoProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, text: str) -> None:
        self.said.append(text)


def answer(number: int) -> str:
    return " ".join(WORDS[(number + at) % 7] for at in range(1 + number % 5))


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe_of(folder: Path, model: Path, train: str, pairs: bool = False) -> Path:
    def row(number: int, about: str) -> dict:
        known = {"prompt": f"What colours has {about} {number}?"}
        if pairs:
            return known | {"chosen": answer(number), "rejected": f"no {answer(number + 3)}"}
        return known | {"completion": answer(number)}

    write(folder / "pool.jsonl", [row(number, "thing") for number in range(40)])
    write(folder / "held.jsonl", [row(number, "flower") for number in range(30)])
    measures = "[pair_accuracy, length]" if pairs else "[nll, exact_match, length]"
    by = "-chosen_length_words" if pairs else "-length_words"
    path = folder / "arena.yaml"
    path.write_text(
        f"""
name: tiny
base: {model}
pool:
  source: {folder}/pool.jsonl
  stages: [{{score: length}}]
methods:
  shortest: [{{top_k: {{by: {by}}}}}]
budgets: [8 rows]
seeds: [0, 1]
train: {train}
heldout:
  people: {{rows: {folder}/held.jsonl, measures: {measures}}}
generate: {{max_new_tokens: 3}}
"""
    )
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_model_dir):
    folder = tmp_path_factory.mktemp("arena")
    recipe = recipe_of(folder, tiny_model_dir, "{sft: {lr: 1.0e-3, epochs: 2, batch_size: 4}}")
    out = folder / "out"
    arena = load(recipe)
    # stopped after the first arm: the second call does the others
    _, whole, _ = run_arena(arena, out, hours=0)
    assert not whole
    assert len([*out.glob("measured/*/arm.json")]) == 1
    assert "**Not whole: 1 of 8 arms are measured.**" in (out / "results.md").read_text()
    results, whole, lines = run_arena(arena, out)
    assert whole
    return recipe, out, results, lines


@pytest.mark.slow
def test_every_arm_is_trained_on_the_same_tokens_and_compared_with_random(done):
    _, out, results, lines = done
    budget = read_json(out / "manifest.json")["budgets"]["8 rows"]
    arms = [read_json(path) for path in out.glob("measured/*/arm.json")]
    assert len(arms) == 4 * 2
    longest = pl.read_parquet(out / "pool" / "kept.parquet")["length_tokens"].max()
    for arm in arms:
        assert 2 * budget - longest - 1 <= arm["trained_tokens"] <= 2 * budget
        if arm["method"] != "all":
            assert budget - longest < arm["tokens"] <= budget
    tested = [one for one in results["lines"] if one["measure"] == "people/nll"]
    assert {one["method"] for one in tested} == {"longest", "all", "shortest"}
    assert all(one["holm"] is not None and one["seeds"] == 2 for one in tested)
    others = [one for one in results["lines"] if one["measure"] != "people/nll"]
    reasons = ("not tested", "no difference varies over seeds or prompts")
    assert all(one["verdict"].startswith(reasons) for one in others)
    assert len(lines) == 3
    assert not [*out.glob("models/*/model.safetensors")]


@pytest.mark.slow
def test_what_is_done_is_found_and_what_is_missing_is_made_again_to_the_same_values(done):
    recipe, out, _, _ = done
    arena = load(recipe)
    before = {path: path.read_bytes() for path in out.glob("measured/*/*.json")}
    (out / "measured" / "arm-longest-8rows-seed1" / "people.nll.json").unlink()
    told = Told()
    run_arena(arena, out, say=told)
    assert [line for line in told.said if ": arm " in line] == ["longest-8rows-seed1: arm 6 of 8"]
    values = {path: read_json(path).get("values") for path in before if path.name != "arm.json"}
    assert values == {
        path: json.loads(text).get("values")
        for path, text in before.items()
        if path.name != "arm.json"
    }


@pytest.mark.slow
def test_the_outputs_are_there_and_the_command_prints_a_plan_without_writing(done, tmp_path):
    recipe, out, _, _ = done
    text = (out / "results.md").read_text()
    assert load(out / "recipe.yaml") == load(recipe)
    assert "## people/nll, budget 8 rows" in text
    assert "Overlap of selections" in text
    assert "| rows / tokens / short |" in text
    assert "/ 0 of 2 seeds |" in text
    assert "shortest" in (out / "samples.md").read_text()
    assert (out / "effects-1.svg").read_text().startswith("<svg")
    printed = CliRunner().invoke(
        pipelines, ["arena", str(recipe), "--out", str(tmp_path / "new"), "--plan"]
    )
    assert printed.exit_code == 0, printed.output
    assert "8 arms = 4 methods x 1 budgets x 2 seeds" in printed.output
    assert "CPU hours" in printed.output
    assert not (tmp_path / "new").exists()
    assert "measured spread" in "\n".join(plan(load(recipe), out))


@pytest.mark.slow
def test_pairs_train_by_dpo_beside_sft_on_the_chosen_answers(tmp_path, tiny_model_dir):
    recipe = recipe_of(
        tmp_path, tiny_model_dir, "{dpo: {lr: 1.0e-3, epochs: 1, batch_size: 4}}", pairs=True
    )
    arena = load(recipe, ["seeds=[0]"])
    results, whole, _ = run_arena(arena, tmp_path / "out")
    assert whole
    found = {one["method"]: one for one in results["lines"] if "accuracy" in one["measure"]}
    assert set(found) == {"longest", "all", "sft_on_chosen", "shortest"}
    assert found["shortest"]["verdict"] == "one seed has no spread"
    told = read_json(tmp_path / "out" / "measured" / "arm-sft_on_chosen-8rows-seed0" / "arm.json")
    assert told["trained_tokens"] <= Work(arena, tmp_path / "out").tokens["8 rows"]


@pytest.mark.slow
def test_a_pool_that_overlaps_with_held_out_rows_is_refused_dropped_or_allowed(
    tmp_path, tiny_model_dir
):
    recipe = recipe_of(tmp_path, tiny_model_dir, "{sft: {}}")
    held = json.loads((tmp_path / "held.jsonl").read_text().splitlines()[0])
    with (tmp_path / "pool.jsonl").open("a") as pool:
        pool.write(json.dumps(held) + "\n")
    with pytest.raises(DataError, match=r"1 rows with people .*overlap: drop"):
        run_arena(load(recipe), tmp_path / "out")
    work = Work(load(recipe, ["overlap=drop"]), tmp_path / "out", NoProgress())
    with work.folder():
        assert work.pool.height == 40
    allowed = Work(load(recipe, ["overlap=allow"]), tmp_path / "out", NoProgress())
    with allowed.folder():
        assert allowed.pool.height == 41
        assert allowed.leaks["people"].exact == allowed.leaks["people"].ngram
