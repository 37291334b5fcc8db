"""A whole pipeline on a tiny model: made once, found again, every hash in one manifest."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import NoProgress
from siftune.curate.files.atomic import hash_file, read_json
from siftune.curate.runners.project_cache import StageCache
from siftune.finetune.models.loading import model_hash
from siftune.pipelines.recipe import load
from siftune.pipelines.render import arms_text, plan_text, result_text
from siftune.pipelines.reports.before_after import comparison
from siftune.pipelines.reports.report import write_report
from siftune.pipelines.run import _Work, run
from siftune.pipelines.train_steps import Step

COLOURS = ["red", "blue", "green", "white"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_model_dir) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    facts = [(f"What colour is thing {i}?", COLOURS[i % 4]) for i in range(24)]
    sft = [{"prompt": q, "completion": a} for q, a in facts]
    pairs = [{"prompt": q, "chosen": a, "rejected": "no idea"} for q, a in facts]
    for name, rows in (("rows", sft), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        f"""
base: {tiny_model_dir}
rows:
  source: {folder}/rows.jsonl
  stages:
    - {{score: length}}
    - {{select: split, part: train, test_share: 0.2}}
    - {{select: random, rows: 10}}
pairs: {{source: {folder}/pairs.jsonl, limit: 12}}
heldout:
  prompts:
    source: {folder}/rows.jsonl
    stages: [{{select: split, part: test, test_share: 0.2}}]
  pairs: {folder}/pairs.jsonl
train:
  - sft: {{epochs: 1, lr: 1.0e-3}}
  - reward: {{epochs: 1}}
  - dpo: {{epochs: 1, lr: 1.0e-4}}
  - ppo: {{rollouts: 1, batch_size: 4, minibatches: 1, epochs: 1, max_new_tokens: 4}}
evaluate: {{max_new_tokens: 4, limit: 2}}
arms: {{names: [curated, random], seeds: [0, 1], metric: tokens}}
"""
    )
    return path


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, run(load(recipe), out)


def test_the_manifest_leads_from_input_hash_to_model_hash(finished):
    out, manifest = finished
    made = {model["label"]: model for model in manifest["models"]}
    assert {"sft", "reward", "dpo", "ppo", "curated-seed0", "random-seed1"} <= set(made)
    for model in made.values():
        assert model["hash"] == model_hash(out / model["path"])
    assert made["dpo"]["inputs"]["start"] == made["sft"]["hash"]
    assert made["ppo"]["inputs"]["reward"] == made["reward"]["hash"]
    assert manifest["data"]["rows"]["outputs"]["kept.parquet"] == made["sft"]["inputs"]["rows"]
    assert len(manifest["data"]["rows"]["inputs"][0]["sha256"]) == 64


def test_every_policy_is_scored_by_the_reward_model_also_the_one_trained_before_it(finished):
    _, manifest = finished
    found = {model["label"]: model["found"] for model in manifest["models"]}
    assert {"reward", "kl_k1", "tokens"} <= set(found["sft"]) & set(found["dpo"]) & set(
        found["ppo"]
    )
    assert found["sft"]["kl_k1"] == 0  # it is the reference
    assert {"accuracy", "longer_wins"} <= set(found["reward"])


def test_held_out_pairs_are_judged_by_every_model_that_is_trained_on_preferences(recipe, finished):
    out, manifest = finished
    made = {model["label"]: model for model in manifest["models"]}
    assert [label for label, model in made.items() if "judged" in model] == ["dpo"]
    judged = read_json(out / made["dpo"]["judgement"] / "evaluation.json")
    assert judged["last"] == made["dpo"]["judged"]
    assert judged["last"]["pairs"] == 2  # evaluate.limit
    assert judged["options"]["reference"].endswith(made["sft"]["path"].split("/")[-1])
    assert '<span class="small">held-out pairs that are ranked right' in write_report(
        out
    ).read_text("utf-8")
    line = f"held-out pairs that are ranked right: reward {made['reward']['found']['accuracy']:.4g}"
    assert f"{line}, dpo {judged['last']['accuracy']:.4g}" in result_text(manifest, out)
    assert "held-out pairs, by implicit reward: accuracy" in write_report(out).read_text("utf-8")
    told = plan_text(load(recipe), out, {}, {})
    assert "evaluate: base, sft, dpo, ppo on the held-out prompts" in told
    assert "evaluate: reward, dpo on the held-out pairs" in told
    alone = plan_text(load(recipe, ["train=[{sft: {}}]"]), out, {}, {})
    assert "no model (no step trains a reward model or on preferences) on the held-out" in alone


def test_the_base_is_asked_the_same_prompts_and_the_report_compares_the_answers(finished):
    out, manifest = finished
    told = comparison(out)
    assert told["models"] == ["base", "sft", "dpo", "ppo"]
    lines = (out / manifest["before"] / "rows.jsonl").read_text().splitlines()
    asked = [json.loads(line) for line in lines]
    assert [question for question, _, _ in told["answers"]] == [row["question"] for row in asked]
    assert [answers[0] for _, answers, _ in told["answers"]] == [row["completion"] for row in asked]
    assert all(reference in COLOURS for _, _, reference in told["answers"])
    metrics = dict(told["metrics"])
    assert {"loss", "reward", "tokens"} <= set(metrics)
    assert metrics["loss"][0] != metrics["loss"][1]
    assert "kl_k1, from the model sft" in metrics
    lines = result_text(manifest, out).splitlines()
    numbers = [line for line in lines if line.startswith("  ")]
    assert 3 <= len(numbers) <= 6
    loss = next(line for line in numbers if line.startswith("  held-out loss: base "))
    assert ", sft " in loss
    assert "random" not in "".join(numbers)
    assert any(line.startswith("  KL of answers") and " from sft: base" in line for line in numbers)
    assert lines[-1] == f"all numbers: {out / 'manifest.json'}"
    page = write_report(out).read_text(encoding="utf-8")
    assert "Before and after" in page
    assert f"<summary>{asked[0]['question']}</summary>" in page


def test_a_base_that_cannot_be_asked_is_passed_over_and_the_run_goes_on(
    recipe, tiny_model_dir, tmp_path
):
    base = shutil.copytree(tiny_model_dir, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    config = read_json(base / "tokenizer_config.json")
    config.pop("chat_template", None)
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    steps = "train=[{reward: {epochs: 1, model: minilm}}]"
    work = _Work(load(recipe, [f"base={base}", steps, "arms=null"]), tmp_path, NoProgress())
    work.models["base"], work.heldout["prompts"] = base, str(recipe.parent / "rows.jsonl")
    assert work._before() is None
    assert comparison(tmp_path) is None


def test_held_out_prompts_are_selected_like_any_rows_and_no_arm_trains_on_one(finished):
    out, manifest = finished
    held = set(pl.read_parquet(out / "heldout-prompts" / "kept.parquet")["id"])
    assert 1 <= len(held) <= 10
    assert manifest["heldout"]["prompts"] == hash_file(out / "heldout-prompts" / "kept.parquet")
    assert manifest["data"]["heldout-prompts"]["counts"]["kept"] == len(held)
    trained = [out / "rows", *(out / "arms").iterdir()]
    assert len(trained) == 4
    for folder in trained:
        assert held.isdisjoint(pl.read_parquet(folder / "kept.parquet")["id"])


def test_a_model_named_in_the_options_is_what_the_manifest_says_training_started_from(
    recipe, tiny_reward_dir, tmp_path
):
    steps = f"train=[{{reward: {{epochs: 1, model: '{tiny_reward_dir}'}}}}]"
    manifest = run(load(recipe, [steps, "arms=null"]), tmp_path / "out")
    assert manifest["models"][0]["inputs"]["start"] == model_hash(tiny_reward_dir)


def test_the_same_again_trains_nothing_and_says_the_same(recipe, finished):
    out, manifest = finished
    stamps = {path: path.stat().st_mtime_ns for path in (out / "models").rglob("*.safetensors")}
    assert run(load(recipe), out) == manifest
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_a_changed_step_trains_again_with_what_starts_from_it_and_nothing_else(recipe, finished):
    out, manifest = finished
    changed = run(load(recipe, ["train.3.dpo.beta=0.3"]), out)
    before = {model["label"]: model["key"] for model in manifest["models"]}
    after = {model["label"]: model["key"] for model in changed["models"]}
    assert [label for label in before if before[label] != after[label]] == ["dpo"]


@pytest.mark.parametrize(
    ("method", "option"), [("gkd", "ref_model"), ("reward", "gate"), ("dpo", "online_merge")]
)
def test_the_key_of_a_step_depends_on_what_lies_where_its_options_point(
    recipe, tmp_path, monkeypatch, tiny_model_dir, method, option
):
    teacher, pairs = tmp_path / "teacher", tmp_path / "pairs.jsonl"
    shutil.copytree(tiny_model_dir, teacher)
    shutil.copy(recipe.parent / "pairs.jsonl", pairs)
    given = {"ref_model": str(teacher), "gate": str(pairs), "online_merge": {"base": str(teacher)}}
    more = {"objective": "attributes"} if method == "reward" else {}
    step = Step("step", method, "base", "pairs", {option: given[option], **more})
    work = _Work(load(recipe), tmp_path / "out", NoProgress())
    work.models["base"] = tiny_model_dir
    (tmp_path / "pairs").mkdir()
    shutil.copy(pairs, tmp_path / "pairs/kept.parquet")
    made: list[str] = []
    monkeypatch.setattr(work, "_made", lambda label, key, *_: made.append(key))
    for _ in range(2):
        work._train(step, tmp_path / "pairs", 0)
    (teacher / "config.json").write_text((teacher / "config.json").read_text() + " ")
    pairs.write_text(pairs.read_text().replace("no idea", "none"))
    work._train(step, tmp_path / "pairs", 0)
    assert made[0] == made[1] != made[2]


def test_objectives_of_every_family_are_steps(recipe, tmp_path):
    steps = (
        "train=[{kto: {epochs: 1, undesirable_weight: 0.5}}, "
        "{nll: {epochs: 1, data: rows}}, {plackett_luce: {epochs: 1, start: nll}}]"
    )
    manifest = run(load(recipe, [steps, "arms=null", "heldout=null"]), tmp_path / "out")
    made = {model["label"]: model for model in manifest["models"]}
    assert list(made) == ["kto", "nll", "plackett_luce"]
    kept = {key: manifest["data"][key]["outputs"]["kept.parquet"] for key in ("rows", "pairs")}
    assert [made[label]["inputs"]["rows"] for label in made] == [
        kept["pairs"], kept["rows"], kept["pairs"]
    ]  # fmt: skip
    assert made["plackett_luce"]["inputs"]["start"] == made["nll"]["hash"]
    facts = read_json(tmp_path / "out" / made["kto"]["path"] / "siftune.json")
    assert facts["method"] == "kto"
    assert "undesirable_weight" in json.dumps(facts)


def test_arms_train_on_one_budget_and_are_told_with_intervals(finished):
    out, manifest = finished
    arms = read_json(out / "arms.json")
    assert [arm["arm"] for arm in arms["arms"]] == ["curated", "random"]
    assert (
        arms["arms"][1]["behind_low"] <= arms["arms"][1]["behind"] <= arms["arms"][1]["behind_high"]
    )
    assert "curated" in arms_text(manifest["arms"])


def test_the_report_shows_models_samples_and_arms(finished):
    out, _ = finished
    html = write_report(out).read_text(encoding="utf-8")
    for words in (
        "Did the selection help?",
        "What it writes on held-out prompts",
        "What colour is",
    ):
        assert words in html


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.3={ppoo: {}}", "did you mean ppo?"),
        ("train.1.sft.epoch=3", "did you mean epochs?"),
        ("train.3.dpo.beta=high", "beta"),
        ("train.3={kto: {undesirable_wait: 1}}", "did you mean undesirable_weight?"),
        ("evaluate.limits=3", "did you mean limit?"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work(recipe, tmp_path, override, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        run(load(recipe, [override]), tmp_path / "out")
    assert not (tmp_path / "out" / "rows").exists()


def test_the_plan_names_every_step(recipe, tmp_path):
    told = plan_text(load(recipe), tmp_path, {}, {})
    assert "dpo: dpo from sft" in told
    assert "arms: curated, random, seeds 0, 1" in told


def test_the_recipes_of_a_pipeline_share_the_cache_of_the_project(recipe, tmp_path, monkeypatch):
    cache, given, lines = StageCache(tmp_path / "cache"), [], []

    def curated(recipe, folder, say=None, cache=None):
        given.append((folder.name, cache))
        say("1:length")
        raise UsageError("far enough")

    def stopped(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("siftune.pipelines.run.curate_run", curated)
    with pytest.raises(UsageError, match="far enough"):
        run(load(recipe), tmp_path / "out", lines.append, cache)
    assert given == [("rows", cache)]
    assert lines == ["rows: 1:length"]  # of which table it is
    lines.clear()
    monkeypatch.setattr("siftune.pipelines.run.curate_run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(load(recipe), tmp_path / "out", lines.append, cache)
    assert lines == [
        f"stopped; what is finished in {tmp_path / 'out'} is kept: the same command continues "
        "from it"
    ]
