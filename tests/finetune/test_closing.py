"""A training ends with the few numbers that matter, before and after, in words."""

import json
from pathlib import Path

import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.core.progress import Pace
from siftune.finetune.core.types import TrainResult
from siftune.finetune.runs.summary import evaluation_lines, last_lines


def written(folder: Path, **files: object) -> Path:
    folder.mkdir()
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def log(folder: Path, *lines: dict[str, float]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_numbers_stand_before_and_after_the_most_important_first(tmp_path: Path) -> None:
    steps = [
        {"step": 0, "exact_match": 0.1, "loss": 3.0, "tokens": 9, "kl_k1": 0, "kl_k3": 0},
        {"step": 4, "exact_match": 0.3, "loss": 2.0, "tokens": 7, "kl_k1": 1, "kl_k3": 1},
        {"step": 8, "exact_match": 0.2, "loss": 2.5, "tokens": 8, "kl_k1": 2, "kl_k3": 2},
    ]
    facts = {"metrics": {"held_out_loss_before": 3.5, "held_out_loss": 2.25}}
    out = written(tmp_path / "m", siftune=facts, evaluation={"steps": steps, "last": steps[1]})
    log(out, {"step": 1, "loss": 4.0, "grad_norm": 1.0}, {"step": 8, "loss": 1.5})
    lines = last_lines(TrainResult(out, 1200, {"steps": 8, "grad_norm": 1.0}))
    assert lines == [
        f"{out}: 1,200 rows in 8 steps",
        "  held-out loss: 3.5 before, 2.25 after",
        "  answers to held-out prompts that match the known one: 0.1 before, 0.3 after",
        "  KL of answers to held-out prompts (nats an answer): 0 before, 1 after",
        "  tokens of an answer to a held-out prompt: 9 before, 7 after",
        "  training loss: 4 in the first logged steps, 1.5 in the last",
        f"  all numbers: {out}/siftune.json and, step by step, metrics.jsonl beside it",
    ]


def test_an_evaluation_ends_in_words(tmp_path: Path) -> None:
    """The numbers with their intervals, and what was not answered; the KL is not below 0."""
    means = {"rows": 16, "unanswered": 2, "exact_match": 0.5, "exact_match_low": 0.25}
    means |= {"exact_match_high": 0.75, "kl_k1": -0.05, "kl_k3": 0.01}
    assert evaluation_lines(TrainResult(tmp_path, 16, means)) == [
        f"{tmp_path}: 16 rows",
        "  answers to held-out prompts that match the known one: 0.5 (0.25 … 0.75)",
        "  KL of answers to held-out prompts (nats an answer): 0.01",
        "  KL by its other estimate, which can be below 0: -0.05",
        "  prompts: 16",
        "  prompts without an answer, as they do not fit the model: 2",
        "  in brackets: the 95 % interval of a bootstrap over prompts",
        f"  all numbers: {tmp_path}/evaluation.json and, row by row, rows.jsonl beside it",
    ]


def test_rows_that_were_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    dropped = {"empty_answer": 2, "prompt_over_max_length": 1040}
    out = written(tmp_path / "m", siftune={"metrics": {}, "data": {"dropped": dropped}})
    assert last_lines(TrainResult(out, 3, {}))[1] == (
        "  left out: 1,042 rows, 2 empty_answer; 1,040 prompt_over_max_length"
        f" ({out}/dropped.jsonl)"
    )


def test_the_policy_that_ppo_does_not_keep_is_left_out(tmp_path: Path) -> None:
    out = written(tmp_path / "m", siftune={"metrics": {}})
    score = "objective/score"
    log(out, {score: 1.0}, {score: 2.0}, {score: -9.0, "rollout/stopped": 1.0})
    options = {"rollouts": 4, "batch_size": 8, "group_size": 2}
    facts = {"stage": "rl", "options": options, "metrics": {}}
    lines = last_lines(TrainResult(out, 3, {}))
    assert lines[1] == (
        "  mean score of an answer in training: 1 in the first logged steps, 2 in the last"
    )
    assert lines[0] == f"{out}: 3 rows"
    (out / "siftune.json").write_text(json.dumps(facts))
    told = last_lines(TrainResult(out, 800, {}))[0]
    assert told == f"{out}: 32 answers in 2 rollouts, to prompts of 800 rows"


def test_a_run_that_goes_on_tells_its_own_rate_and_the_time_left() -> None:
    times = iter([100.0, 110.0, 115.0, 120.0])
    pace = Pace(clock=lambda: next(times))
    pace.begin(50, 1_000)
    assert pace(60, 100, 3_000) == ", 200 tokens/s, about 40 s left"
    assert pace(70, 100, 5_000) == ", 400 tokens/s, about 22 s left"
    assert pace(100, 100) == ""
    assert Pace()(1, 2, 3) == ""


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    out = written(tmp_path / "m", siftune={})
    (out / "metrics.jsonl").write_text('{"step": 1, "loss": 4.0}\n{"step": 2, "lo')
    with pytest.raises(DataError, match=r"metrics\.jsonl is damaged: --overwrite"):
        last_lines(TrainResult(out, 12, {}))
