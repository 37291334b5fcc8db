"""`siftune curate agree`: calibration and weights, fitted and used; kin; the source's own ids."""

from __future__ import annotations

import json
import random
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.cli import curate
from siftune.curate.commands.agree_outputs import kin_of
from siftune.curate.commands.label_join import LabelRow
from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Answer, Item
from siftune.curate.judge_stats.calibration import Calibrator, calibrate
from siftune.curate.judge_stats.proposition_weights import ordered_pairs
from siftune.curate.judging.judge_task import judge_task
from siftune.curate.models.resolve import folder_hash
from siftune.curate.scorers.judge_rating import JudgeRating


def good_or_bad(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 rows with ids of their own, a judge of them, and gold labels that agree in 9 of 10."""
    monkeypatch.chdir(folder)
    source = random.Random(1)
    rows, gold = [], []
    for at in range(120):
        good = source.random() < 0.5
        text = "good" if good else "bad"
        rows.append({"id": f"mine-{at}", "instruction": f"q {at // 2}", "output": text})
        right = source.random() < 0.9
        gold.append({"id": f"mine-{at}", "label": int(good == right)})
    for name, listed in (("rows", rows), ("gold", gold)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in listed))
    told = "def rate(question):\n    return '4' if 'good' in question.messages[-1][1] else '2'\n"
    Path("judge.py").write_text(told)


JUDGE = ("judge", "rows.jsonl", "--judge", "scripted:judge.py:rate", "--task", "alpagasus")
OPTIONS = ("--task-options", "explanation=false")
AGREE = ("agree", "judged", "gold.jsonl", "--judge", "judge_rating", "--label", "label")


def called(*words: str) -> str:
    done = CliRunner().invoke(curate, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_calibration_is_fitted_and_adds_a_column_beside_the_raw_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share of gold 1 among rows rated 2, and among those rated 4; joined by their own ids."""
    good_or_bad(tmp_path, monkeypatch)
    called(*JUDGE, *OPTIONS, "--out", "judged")
    said = called(*AGREE, "--calibrate", "isotonic", "--out", "fitted")
    assert "calibration: brier_calibrated 0." in said
    assert "on rows of held-out prompts; fitted/calibration.json" in said
    options = {"judge": "scripted:judge.py:rate", "task": "alpagasus"}
    options |= {"task_options": {"explanation": False}}
    judge = JudgeRating(**options, calibration="fitted/calibration.json")
    table = judge(pl.read_parquet("judged/kept.parquet"))
    gold = [json.loads(line)["label"] for line in Path("gold.jsonl").read_text().splitlines()]
    table = table.with_columns(gold=pl.Series(gold))
    means = table.group_by("judge_rating").agg(
        pl.col("gold").mean(), pl.col("judge_rating_calibrated").first()
    )
    assert set(means["judge_rating"]) == {2.0, 4.0}  # as they were
    assert means["judge_rating_calibrated"].to_list() == pytest.approx(means["gold"].to_list())

    Path("none.json").write_text("{}")
    with pytest.raises(UsageError, match=r"none.json is no file of `siftune curate agree"):
        JudgeRating(**options, calibration="none.json")
    facts = json.loads(Path("fitted/calibration.json").read_text())
    Path("of_pairs.json").write_text(json.dumps(facts | {"column": "judge_pairwise_preference"}))
    with pytest.raises(UsageError, match=r"of the scores 'judge_pairwise_preference'; this stage"):
        JudgeRating(**options, calibration="of_pairs.json")
    done = CliRunner().invoke(curate, [*AGREE, "--calibrate", "platt"])
    assert "--out and one of --calibrate" in str(done.exception)


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("platt", r"slope -\d+\.\d\d, which reverses"),
        ("temperature", r"slope -\d+\.\d\d, which reverses"),
        ("isotonic", "one probability for all scores"),
    ],
)
def test_a_judge_worse_than_chance_gets_no_calibration(
    method: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its curve falls, and would make a judge out of its errors; as `fit-quality` refuses it."""
    monkeypatch.chdir(tmp_path)
    rows = [{"id": str(at), "p": (at % 7 + 1) / 8, "label": int(at % 7 < 3)} for at in range(70)]
    rows[:2] = [{**one, "label": 1 - one["label"]} for one in rows[:2]]  # else the fit diverges
    Path("rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    words = ("agree", "rows.jsonl", "rows.jsonl", "--judge", "p", "--label", "label")
    done = CliRunner().invoke(curate, [*words, "--calibrate", method, "--out", "fitted"])
    assert isinstance(done.exception, UsageError)
    found = rf"'p' do no better than chance on the gold rows \({why}\), so no calibration"
    assert re.search(found, str(done.exception))
    assert not Path("fitted").exists()


def test_a_temperature_softens_a_judge_that_is_too_sure() -> None:
    """Gold is drawn at σ(logit(p) / 2): the temperature is 2, and ½ stays ½."""
    source = np.random.default_rng(0)
    scores = source.uniform(0.01, 0.99, 20_000)
    logits = np.log(scores / (1 - scores))
    gold = (source.uniform(size=scores.size) < 1 / (1 + np.exp(-logits / 2))).astype(float)
    fitted = calibrate(scores, gold, method="temperature").calibrator
    assert 1 / fitted.slope == pytest.approx(2, abs=0.15)
    again = Calibrator.of(json.loads(json.dumps(asdict(fitted))))
    assert again([0.5, 0.9, np.nan])[:2] == pytest.approx(
        [0.5, 1 / (1 + np.exp(-np.log(9) / 2))], abs=0.02
    )


def test_weights_of_propositions_are_fitted_and_taken_by_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two answers the better one apologises, and is not longer: weights of 1 and about 0."""
    monkeypatch.chdir(tmp_path)
    source = random.Random(2)
    rows, gold = [], []
    for at in range(60):
        for better in (1, 0):
            key, noise = f"{at}-{better}", round(source.random(), 3)
            told = {"judge_rating": 0.0, "judge_rating_probabilities": [float(better), noise]}
            rows.append({"id": key, "prompt": f"q {at}", **told})
            gold.append({"id": key, "label": better})
    for name, listed in (("judged", rows), ("gold", gold)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in listed))
    words = ("judged.jsonl", "gold.jsonl", "--judge", "judge_rating", "--label", "label")
    assert "weights: ordered_pairs 1.000" in called("agree", *words, "--fit-weights", "--out", "w")
    first, second = json.loads(Path("w/weights.json").read_text())["weights"]
    assert first == pytest.approx(1, abs=0.1)
    assert abs(second) < 0.1

    options = {"propositions": ["it apologises", "it is long"], "weights": "w/weights.json"}
    task = judge_task("propositions", options)
    item = Item((("user", "q"),), ("a",))
    parsed = [task.parse(item, at, Answer(None, {"Yes": 1.0, "No": 0.0})) for at in (0, 1)]
    assert task.verdict(item, parsed)["reward"] == pytest.approx(first + second)
    assert task.describe() == {"weights": (first, second)}
    with pytest.raises(UsageError, match=r"there is no file no\.json"):
        judge_task("propositions", options | {"weights": "no.json"})
    with pytest.raises(UsageError, match="expected one for each proposition"):
        judge_task("propositions", options | {"propositions": ["it apologises"]})


def test_pairs_of_held_out_prompts_are_ordered_by_chance_where_nothing_is_known() -> None:
    source = np.random.default_rng(3)
    found = ordered_pairs(
        source.uniform(size=(400, 2)), [1, 0] * 200, [at // 2 for at in range(400)]
    )
    assert found.low < 0.5 < found.high


def test_agree_tells_whether_the_judge_is_kin_to_the_model_that_answered(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    base = folder_hash(tiny_model_dir)
    stages = [{"name": "judge_rating", "options": {"judge": str(tiny_model_dir)}}]
    (tmp_path / "manifest.json").write_text(json.dumps({"recipe": {"stages": stages}}))
    made = [[base], ["child", base], ["other"], [[base], ["other"]], None]
    rows = [LabelRow("r", {"extra": json.dumps({"sampled_lineage": one})}) for one in made]
    assert kin_of(str(tmp_path), "judge_rating", rows) == {
        "same": 1,
        "kin": 1,
        "not known": 2,
        "same against not known": 1,
    }
    assert kin_of(str(tmp_path), "judge_rating", rows[-1:]) == {}
    assert kin_of(str(tmp_path / "none"), "judge_rating", rows[:1]) == {"not known": 1}
