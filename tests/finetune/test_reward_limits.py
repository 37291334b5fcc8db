"""Calibration, abstaining and ensembles of reward models, and the coverage of prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import NotEstimableError
from siftune.finetune.core.scored import UNKNOWN, Scored
from siftune.finetune.models.loading import read_facts
from siftune.finetune.reward_models.known_states import FILE
from siftune.finetune.reward_models.members import members_of
from siftune.finetune.reward_models.pair_calibration import (
    PairCalibration,
    calibrate_gaps,
    expected_calibration_error,
    pair_probability,
)
from siftune.finetune.reward_models.prompt_coverage import _parts, coverage_of
from siftune.finetune.rewards.reward_ensemble import RewardEnsemble
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.rewards.types import reward_of
from siftune.finetune.tools.coverage import Coverage, table_of
from siftune.finetune.tools.evaluate import Evaluate
from siftune.finetune.trainers import reward_ensemble
from tests.finetune.test_reward_model import WORDS, pairs


def known_noise(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """True log-odds, oriented by labels that are drawn from them: the noise is known."""
    source = np.random.default_rng(seed)
    odds = source.normal(0, 2, count)
    first_wins = source.random(count) < 1 / (1 + np.exp(-odds))
    return np.where(first_wins, odds, -odds), (np.arange(count) // 10).tolist()


def test_a_temperature_makes_an_overconfident_model_calibrated_on_data_of_known_noise() -> None:
    odds, prompts = known_noise(4000, 1)
    found = calibrate_gaps(2.5 * odds, prompts)
    assert found.temperature == pytest.approx(2.5, rel=0.08)
    assert found.ece_before > 0.08
    assert found.ece <= 0.03
    assert (found.pairs, found.prompts) == (4000, 400)
    fresh, _ = known_noise(20_000, 2)  # pairs that had no part in the fit
    assert expected_calibration_error(found(2.5 * fresh)) <= 0.03
    assert PairCalibration.of(json.loads(json.dumps(found.facts()))) == found


def test_isotonic_steps_are_taken_where_no_temperature_fits() -> None:
    odds, prompts = known_noise(4000, 3)
    bent = odds * np.abs(odds)  # small gaps become far too small, large ones too large
    found = calibrate_gaps(bent, prompts)
    assert found.steps is not None
    assert found.ece <= 0.03
    few = calibrate_gaps(bent[:900], prompts[:900])
    assert few.steps is None  # a curve of hundreds of steps wants more pairs
    assert found([0.0])[0] == pytest.approx(0.5, abs=0.02)


def test_what_cannot_be_calibrated_is_said() -> None:
    odds, prompts = known_noise(200, 4)
    with pytest.raises(NotEstimableError, match="no better than chance"):
        calibrate_gaps(-odds, prompts)
    with pytest.raises(NotEstimableError, match="5 held-out prompts"):
        calibrate_gaps(odds[:20], prompts[:20])
    always = calibrate_gaps(np.abs(odds), prompts)  # all right: confident, and not without end
    assert 0 < always.temperature < 1
    assert calibrate_gaps(1e6 * odds, prompts).temperature > 1e5  # one outlier is no fault
    # infinite confidence is a probability, not an overflow
    assert pair_probability([1e9, -1e9]).tolist() == pytest.approx([1, 0])
    assert np.isnan(expected_calibration_error([]))
    assert expected_calibration_error([0.5, 0.5]) == 0  # ties: confidence ½, half right


SAYING = ["sit", "look", "say hello", "name", "answer"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "pairs.parquet"
    asked = [f"{verb} {word}" for verb in SAYING for word in WORDS]
    pairs([(one, f"hello {one}", f"the cat {one}") for one in asked]).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def ensemble(rows: Path, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "ensemble"
    given = {"lr": 1e-2, "epochs": 2, "batch_size": 8}
    train = reward_ensemble.RewardEnsemble(
        str(tiny_model_dir), members=2, held_out=0.5, reward_options=given
    )
    result = train(rows, out)
    assert result.metrics["eval_pairs"] == 20
    return out


def texts(*said: str) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    asked = [{"id": str(at), "prompt": [{"role": "user", "content": "sit red"}]} for at in range(9)]
    return ["sit red"] * len(said), list(said), asked[: len(said)]


@pytest.mark.slow
def test_members_differ_and_are_one_reward_on_one_level(
    ensemble: Path, rows: Path, tiny_model_dir: Path
) -> None:
    both = [read_facts(one.folder) for one in members_of(str(ensemble))]
    assert both[0]["hash"] != both[1]["hash"]
    assert [one["seed"] for one in both] == [0, 1]
    given = texts("hello sit red", "the cat sit red", "")
    reward = reward_of(str(ensemble), {"how": "mean"})
    assert isinstance(reward, RewardEnsemble)
    members = [RewardModel(str(one.folder)).scored(*given) for one in members_of(str(ensemble))]
    levels = [one.level for one in members_of(str(ensemble))]
    found = reward.scored(*given)
    for at in range(2):
        first, second = (m[at].score - level for m, level in zip(members, levels, strict=True))
        assert found[at].score == pytest.approx((first + second) / 2)
        assert found[at].spread == pytest.approx(abs(first - second) / 2)
        worst = RewardEnsemble(str(ensemble), how="worst")(*given)[at]
        assert worst == pytest.approx(min(first, second))
    assert found[2] == Scored(None, "no_tokens") or found[2].score is not None
    held = pl.read_parquet(ensemble / "held_out.parquet")
    said = [turns[0]["content"] for side in ("chosen", "rejected") for turns in held[side]]
    own = [{"id": str(at), "prompt": held["prompt"][at % 20].to_list()} for at in range(40)]
    level = RewardModel(str(ensemble / "member-0"))(said, said, own)
    assert float(np.mean(level)) == pytest.approx(levels[0], abs=1e-5)  # type: ignore[arg-type]


def test_a_bag_has_whole_prompts_as_often_as_they_are_drawn(rows: Path) -> None:
    table = pl.concat(
        [pl.read_parquet(rows), pl.read_parquet(rows).with_columns(id=pl.col("id") + "b")]
    )
    bag = reward_ensemble.bag_of(table, 3)
    assert bag["id"].is_unique().all()
    asked = bag["prompt"].list.first().struct.field("content").to_list()
    counts = {one: asked.count(one) for one in asked}
    assert sum(counts.values()) == 80
    assert all(count % 2 == 0 for count in counts.values())  # both pairs of a prompt
    assert 0.5 < len(counts) / 40 < 0.75  # 1 - 1/e of them
    assert not bag.equals(reward_ensemble.bag_of(table, 4))


def test_a_trained_model_knows_what_it_was_trained_on_and_abstains(
    ensemble: Path, rows: Path, tmp_path: Path
) -> None:
    member = ensemble / "member-0"
    facts = read_facts(member)
    assert facts["known_states"]["answers"] >= 20
    assert facts["known_states"]["held_out"] == 40
    assert FILE in facts["files"]
    given = texts("hello sit red", "q0 zx! " * 9)
    plain, strict = RewardModel(str(member)), RewardModel(str(member), abstain=True)
    near, far = strict.scored(*given)
    assert near.score == plain(*given)[0]
    assert far == Scored(None, UNKNOWN, far.distance)
    assert far.distance is not None
    assert near.distance is not None
    assert far.distance > facts["known_states"]["threshold"] >= near.distance
    assert strict(*given)[1] is None
    assert plain(*given)[1] is not None
    assert RewardEnsemble(str(ensemble), abstain=True).scored(*given)[1].reason == UNKNOWN
    strange = tmp_path / "strange.parquet"
    read = pl.read_parquet(rows).head(10)
    odd = pairs([("q?", "q0 zx! " * 9, "xx7 # " * 9)]).with_columns(id=pl.lit("odd:1"))
    pl.concat([read, odd]).write_parquet(strange)
    found = Evaluate(str(member))(strange, tmp_path / "evaluation")
    assert 2 / 22 <= found.metrics["unlike_training"] < 0.5
    last = [json.loads(line) for line in (found.model / "rows.jsonl").read_text().splitlines()][-1]
    assert last["unlike_chosen"]
    assert last["unlike_rejected"]


def test_members_that_abstain_count_in_the_score_of_an_ensemble() -> None:
    ensemble = RewardEnsemble("a, b, c", how="worst", abstain=True)
    sure = [Scored(2.0, None, 1.0), Scored(3.0, None, 1.0)]
    found = ensemble._one([*sure, Scored(-1.0, UNKNOWN, 4.0)])
    assert (found.score, found.reason, found.distance) == (-1.0, None, 2.0)
    assert ensemble._one([sure[0], Scored(-1.0, UNKNOWN, 3.0)]) == Scored(None, UNKNOWN, 2.0)
    assert ensemble._one([*sure, Scored(None, "too_long")]).reason == "too_long"


def test_a_model_without_states_cannot_abstain(
    tiny_reward_dir: Path, ensemble: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"abstain: .* has no known_states\.safetensors"):
        RewardModel(str(tiny_reward_dir), abstain=True).load()
    assert RewardModel(str(tiny_reward_dir)).scored(*texts("hello"))[0].distance is None
    with pytest.raises(UsageError, match="two reward models at least"):
        RewardEnsemble(str(ensemble / "member-0")).load()
    (tmp_path / "ensemble.json").write_text('{"members": [{"folder": "member-0"}]}')
    with pytest.raises(UsageError, match=r"ensemble\.json is damaged"):
        RewardEnsemble(str(tmp_path)).load()


def test_options_of_an_ensemble_are_checked_before_it_trains(
    tiny_model_dir: Path, rows: Path, tmp_path: Path
) -> None:
    build = reward_ensemble.RewardEnsemble
    with pytest.raises(ValueError, match="seed is an option of the ensemble"):
        build(str(tiny_model_dir), reward_options={"seed": 3})
    with pytest.raises(UsageError, match=r"reward_options: .*nonsense"):
        build(str(tiny_model_dir), reward_options={"nonsense": 3})


def test_a_planted_gap_of_the_training_prompts_is_found() -> None:
    source = np.random.default_rng(0)
    topics = source.normal(size=(6, 16))

    def near(topic: int, count: int) -> np.ndarray:
        made: np.ndarray = topics[topic] + 0.3 * source.normal(size=(count, 16))
        return made

    trained = np.concatenate([near(topic, 60) for topic in range(5)])  # topic 5 is never seen
    asked = np.concatenate([near(topic, 40) for topic in range(6)])
    named = ["cook", "sport", "law", "music", "travel", "acid base salt metal gas ion"]
    prompts = [f"a question of {named[at // 40]} {at}" for at in range(240)]
    found = coverage_of(trained, asked, prompts, clusters=10)
    planted = set(range(200, 240))
    inside = {at for at in range(240) if any(found.of[at] == gap.number for gap in found.gaps)}
    assert planted <= inside
    assert len(inside - planted) == 0
    assert all(len(gap.words) == 5 and {*gap.words} <= {*named[5].split()} for gap in found.gaps)
    assert all(set(gap.examples) <= planted for gap in found.gaps)
    assert found.far[200:].all()
    assert found.far[:200].mean() < 0.15
    alike = coverage_of(trained[::2], trained[1::2], ["one"] * 150, clusters=10)
    assert not alike.gaps


def test_the_command_names_the_gap_with_examples(tiny_embedder: Path, tmp_path: Path) -> None:
    def rows_of(name: str, asked: list[str]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in asked))
        return path

    usual = [f"name the colour {word} {at}" for word in WORDS for at in range(10)]
    sums = [f"9{at} + 7{at} = ?" for at in range(10, 40)]
    out = tmp_path / "coverage"
    tool = Coverage(str(rows_of("pairs.jsonl", usual[::2])), model=str(tiny_embedder), clusters=4)
    result = tool(rows_of("prompts.jsonl", [*usual[1::2], *sums]), out)
    assert result.metrics["gaps"] >= 1
    assert result.metrics["in_gaps"] == pytest.approx(30 / 70)
    assert "= ?" in table_of(out)
    lines = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert len(lines) == 70
    assert sum(line["far"] for line in lines[40:]) > 25


def test_units_are_compared_in_parts_that_hold_each_once() -> None:
    units = np.arange(2050.0)[:, None]
    parts = list(_parts(units))
    assert [len(part) for part in parts] == [1024, 1024, 2]
    assert (np.concatenate(parts) == units).all()


def test_there_are_as_many_clusters_as_asked_for_and_else_fifty_at_most() -> None:
    source = np.random.default_rng(0)
    for count, clusters, found in ((40, 7, 7), (32, None, 4), (5400, None, 50)):
        units = source.normal(size=(count, 6))
        made = coverage_of(units[::2], units[1::2], ["a word"] * (count // 2), clusters)
        assert len(made.clusters) == found
