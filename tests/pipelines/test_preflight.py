"""A pipeline's run and its dry run find the same problems, all at once, before the first stage."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import Problems, SiftuneError, UsageError
from siftune.curate.core.progress import if_slow
from siftune.pipelines.commands import pipelines
from siftune.pipelines.preflight import Preflight
from siftune.pipelines.recipe import load, read, settings_of

DRY = ["--dry-run"]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_model_dir) -> Path:
    folder = tmp_path_factory.mktemp("preflight")
    rows = [{"prompt": f"{at}?", "completion": "red"} for at in range(20)]
    pairs = [{"prompt": f"{at}?", "chosen": "red", "rejected": "no"} for at in range(12)]
    for name, listed in (("rows", rows), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    path = folder / "recipe.yaml"
    path.write_text(
        f"""
base: {tiny_model_dir}
rows: {{source: {folder}/rows.jsonl, stages: [{{score: length}}]}}
pairs: {{source: {folder}/pairs.jsonl}}
heldout: {{prompts: {folder}/rows.jsonl}}
train:
  - sft: {{epochs: 2, batch_size: 5}}
  - reward:
  - dpo: {{beta: 0.2}}
  - ppo: {{rollouts: 1}}
evaluate: {{limit: 2}}
arms: {{seeds: [0, 1], metric: loss}}
"""
    )
    return path


def refused(recipe: Path, out: Path, *overrides: str) -> str:
    pipeline, problems = read(recipe, overrides)
    with pytest.raises(SiftuneError) as error:
        Preflight(pipeline, out, problems=problems).check()
    assert not out.exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("base=no/such/model/folder", "base: no model folder no/such/model/folder"),
        ("rows.source=gone.jsonl", "rows: gone.jsonl"),
        ("rows.stages.1.of=nobody", "rows: stage 1"),
        ("pairs.source=gone.jsonl", "pairs: gone.jsonl"),
        ("heldout.prompts=gone.jsonl", "heldout.prompts: gone.jsonl"),
        (
            "train.1.sft.learning_rate=1",
            "sft has no option 'learning_rate'; did you mean lr?",
        ),
        ("train.1.sft.model=./gone", "train 1 (sft): model: no model folder ./gone"),
        ("train.1.sft.eval_rows=gone.jsonl", "train 1 (sft): eval_rows: gone.jsonl"),
        ("train.1.sft={lora: 2, adapter: keep}", "adapter: keep leaves no whole model"),
        ("train.2.reward.data=rows", "it trains on preference rows, and `rows` has conversation"),
        ("train.3.dpo.data=rows", "it trains on preference rows, and `rows` has conversation"),
        ("train.3={dpop: {betta: 1}}", "dpop has no option 'betta'"),
        ("train.3={simpo: {max_kl: 1}}", "max_kl: simpo has no reference"),
        ("train.3.dpo.options={learning_rte: 1}", "has no argument 'learning_rte'"),
        ("train.4={ppoo: {}}", "did you mean ppo?"),
        ("train.4.ppo.reward=lenght", "reward 'lenght' is neither"),
        ("train.9.sft.lr=1", "'9' is not one of the stages 1..4"),
        ("evaluate.limits=3", "did you mean limit?"),
        ("evaluate.reference=./gone", "evaluate: reference: no model folder ./gone"),
        ("arms.metric=exact_mach", "no evaluation has 'exact_mach'; did you mean exact_match?"),
        ("arms.options={lrr: 1}", "arms: options: sft has no option 'lrr'"),
    ],
)
def test_what_a_run_would_refuse_later_is_refused_first(recipe, tmp_path, override, said):
    assert said in refused(recipe, tmp_path / "out", override)


def test_an_embedding_model_serves_a_reward_model_and_no_policy(recipe, tmp_path, tiny_embedder):
    out = tmp_path / "out"
    said = refused(
        recipe, out, f"train.2.reward.model={tiny_embedder}", f"train.3.dpo.model={tiny_embedder}"
    )
    assert said.startswith("train 3 (dpo): ")
    assert "is an embedding model" in said


def test_a_step_before_the_reward_model_it_needs_is_refused(recipe, tmp_path):
    said = refused(recipe, tmp_path / "out", "train.2={ppo: {}}", "train.4={reward: {}}")
    assert "train 2 (ppo): ppo needs the option 'reward'" in said


def test_arguments_of_the_hugging_face_trainer_are_checked(recipe, tmp_path):
    said = refused(
        recipe,
        tmp_path / "out",
        "train.1.sft.options={learning_rate: 1}",
        "train.2.reward.options={waarmup_steps: 1}",
    )
    assert (
        "learning_rate cannot be passed on: the option lr sets it (--lr on the command line)"
        in said
    )
    assert "RewardConfig has no argument 'waarmup_steps'" in said


def test_all_problems_are_named_at_once(recipe, tmp_path):
    wrong = ("seed=one", "base=./gone", "train.1.sft.learning_rate=1", "pairs.source=gone.jsonl")
    lines = refused(recipe, tmp_path / "out", *wrong).splitlines()
    assert lines[0] == "4 problems:"
    found = [line.strip().partition(" ")[0] for line in lines[1:]]
    assert found == ["seed:", "base:", "pairs:", "train"]


def test_an_example_names_all_that_it_has_to_be_given(tmp_path):
    said = refused(EXAMPLES / "preferences.yaml", tmp_path / "out").splitlines()
    assert said[0] == "3 problems:"
    assert [word in line for word, line in zip(("base", "rows", "pairs"), said[1:], strict=True)]
    with pytest.raises(UsageError, match=r"preferences\.yaml: 3 problems"):
        load(EXAMPLES / "preferences.yaml")


def test_a_dry_run_refuses_what_the_run_refuses(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["run", str(recipe), "-o", "base=./gone", "-o", "train.1.sft.lrr=1", "--no-cache"]
    said = [str(CliRunner().invoke(pipelines, [*words, *more]).exception) for more in ([], DRY)]
    assert said[0] == said[1]
    assert said[0].count("\n") == 2
    assert str(recipe) in said[0]
    assert not any(tmp_path.iterdir())


def test_a_dry_run_shows_data_steps_evaluation_arms_and_the_path_of_each_setting(
    recipe, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(pipelines, ["run", str(recipe), *DRY, "--no-cache"]).output
    assert f"heldout-prompts: {recipe.parent}/rows.jsonl" in told
    assert "train 1: sft: sft from base on `rows` (20 rows), about 8 steps, epochs 2" in told
    assert "train 3: dpo: dpo from sft on `pairs` (12 rows), about 2 steps, beta 0.2" in told
    assert "evaluate: base, sft, dpo, ppo on the held-out prompts, limit 2" in told
    assert "arms: curated, random, longest, all, seeds 0, 1: 8 trainings" in told
    assert "in all" in told  # the CPU seconds of its stages
    assert all(f"  {path}=" in told for path in settings_of(recipe))
    assert "train.3.dpo.beta=0.2" in told
    assert "rows.stages.1.score=length" in told
    assert not any(tmp_path.iterdir())


def test_a_list_of_problems_is_collected_one_by_one():
    problems = Problems()
    with problems.collecting("rows"):
        raise UsageError("2 problems:\n  stage 1: a\n  stage 2: b")
    with problems.collecting():
        raise UsageError("r.yaml: 2 problems:\n  c\n  d")
    assert [str(one) for one in problems.found] == [
        "rows: stage 1: a", "rows: stage 2: b", "r.yaml: c", "r.yaml: d"
    ]  # fmt: skip
    with pytest.raises(UsageError, match="here: 4 problems:\n  rows: stage 1: a"):
        problems.refuse("here")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("judge: no/such/judge", "judge: no model folder no/such/judge"),
        ("judge: 'scripted:nofile.py:x'", "judge: nofile.py:x: there is no file nofile.py"),
        ("judge: 'https://h/v1#m', second: 'scripted:nofile.py:x'", "there is no file nofile.py"),
    ],
)
def test_judges_that_are_not_there_are_refused(recipe, tmp_path, options, said):
    path = tmp_path / "judged.yaml"
    pairs = recipe.parent / "pairs.jsonl"
    base = recipe.read_text().split("\n")[1]
    path.write_text(
        f"{base}\npairs: {{source: {pairs}}}\ntrain: [{{judge: {{data: pairs, {options}}}}}]\n"
    )
    assert said in refused(path, tmp_path / "out")


def test_what_takes_long_before_the_first_stage_is_announced(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(if_slow.__wrapped__, "__defaults__", (0.01,))
    monkeypatch.setattr(Preflight, "check", lambda self: time.sleep(0.1))
    told = CliRunner().invoke(pipelines, ["run", str(recipe), *DRY, "--no-cache"])
    assert told.stderr.startswith(f"checking {recipe}: its models, rows and options\n")
