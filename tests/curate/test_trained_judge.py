"""The folder of a trained judge: what is read from it, and calibrated scores by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.spec import default_task
from siftune.curate.judge_calls.trained import TrainedJudge, trained_judge
from siftune.curate.judge_calls.types import Answer, Item
from siftune.curate.judge_stats.calibration import Calibrator, Scale, calibrate
from siftune.curate.judge_tasks.classifier_preference import ClassifierPreference
from siftune.curate.judge_tasks.contrastive import Contrastive
from siftune.curate.judging.judge_stage import judge_stage
from siftune.curate.judging.pairs import Shown


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"backend": "x"},
        {"task": "f.py:F"},
        {"kind": "x"},
        {"low": "x"},
        {"calibrator": {"method": "isotonic", "scores": [1.0], "probabilities": []}},
    ],
)
def test_a_damaged_file_of_a_judge_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    scale = Scale("rating", Calibrator("linear", slope=1.0), 1.0, 5.0)
    TrainedJudge("classifier", "classifier_score", scale).write(tmp_path)
    assert trained_judge(tmp_path) is not None
    path = tmp_path / "judge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=r"judge\.json is damaged .*: train the judge again"):
        trained_judge(tmp_path)


def test_a_writing_judge_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    scale = Scale("pairs", Calibrator("platt", slope=2.0))
    options = {"samples": 1, "max_tokens": 64, "calibration": 2.0}
    TrainedJudge("local_model", "contrastive", scale, options).write(tmp_path)
    scorer, given = judge_stage("preference", str(tmp_path), None, {"task_options": {"samples": 3}})
    assert scorer == "judge_pairwise"
    assert given["task_options"] == {**options, "samples": 3}
    assert default_task(str(tmp_path)) == ("contrastive", options)
    assert "task_options" not in judge_stage("preference", str(tmp_path), "pairwise")[1]


def test_a_calibrated_preference_of_verdicts() -> None:
    item = Item((("user", "q"),), ("a", "b"))
    both, torn = [(Shown(1, 1), "x"), (Shown(0, 0), "y")], [(Shown(1, 1), "x"), (Shown(1, 1), "y")]
    task = Contrastive(samples=1, calibration=2.0)
    assert task.verdict(item, both)["preference"] == pytest.approx(0.880797)  # 1 / (1 + e^-2)
    assert task.verdict(item, torn)["preference"] == 0.5
    assert Contrastive(samples=1).verdict(item, both)["preference"] == 1
    with pytest.raises(ValueError, match="calibration: expected above 0, got -2"):
        Contrastive(samples=1, calibration=-2.0)


def test_the_preference_of_two_scores_has_no_order() -> None:
    item, task = Item((("user", "q"),), ("a", "b")), ClassifierPreference()
    parsed = [task.parse(item, at, Answer(text)) for at, text in enumerate(("1.5", "0.5"))]
    found = task.verdict(item, parsed)
    assert found["preference"] == pytest.approx(0.731059)  # 1 / (1 + e^-1)
    assert (found["winner"], found["consistent"], found["first_position"]) == ("first", True, 1)
    assert task.verdict(item, [0.5, 1.5])["winner"] == "second"
    same = task.verdict(item, [2.0, 2.0])
    assert (same["winner"], same["tie"], same["preference"]) == ("tie", True, 0.5)


def test_a_line_is_fitted_by_least_squares_and_ends_at_0_and_1() -> None:
    x, y = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, 0.5, 0.6, 0.9, 0.8]
    found = calibrate(x, y, method="linear").calibrator
    slope, offset = np.polyfit(x, y, 1)
    assert (found.slope, found.offset) == pytest.approx((slope, offset))
    assert found([-9.0, 2.0, 9.0]).tolist() == pytest.approx([0, slope * 2 + offset, 1])
