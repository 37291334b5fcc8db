"""The demo on a real model: from rows to the report, on tiny models in its place."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from examples.demo_real import __main__ as demo_real

ROOT = Path(__file__).parents[2]
SMALL = [
    "rows.stages.9.rows=24",
    "rows.stages.11.max=100",
    "rows.stages.12.k=16",
    "rows.stages.7.min=1",
    "pairs.stages.5.rows=12",
    "heldout.prompts.stages.6.rows=4",
    "heldout.prompts.stages.5.min=1",
    "train.1.sft.max_length=96",
    "train.2.reward.freeze=1",
    "train.4.ppo.rollouts=1",
    "train.4.ppo.batch_size=4",
    "train.4.ppo.max_new_tokens=4",
    "evaluate.max_new_tokens=4",
]
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "looked", "at", "sea", "king", "hello"]


@pytest.fixture
def here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model_dir: Path,
    tiny_embedder: Path,
) -> Path:
    """A folder with made-up rows, and tiny models under the names of the real ones."""
    (tmp_path / "smollm2").symlink_to(tiny_model_dir)
    (tmp_path / "minilm").symlink_to(tiny_embedder)
    draw = random.Random(0)
    rows = [
        {
            "instruction": " ".join(draw.choices(WORDS, k=6)),
            "output": " ".join(draw.choices(WORDS, k=8)),
        }
        for _ in range(120)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    pairs = [
        {
            "prompt": row["instruction"],
            "chosen": row["output"],
            "rejected": " ".join(draw.choices(WORDS, k=7)),
        }
        for row in rows
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(*given: str) -> list[str]:
    return [*given, *(word for pair in SMALL for word in ("-o", pair))]


@pytest.mark.slow
def test_it_runs_from_rows_and_pairs_to_a_report_with_answers_before_and_after(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo_real.main(words("rows.jsonl", "--pairs", "pairs.jsonl", "--out", "out")) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("base", "sft", "dpo", "ppo", "loss", "reward"))
    assert "Before and after" in (here / "out" / "run" / "report.html").read_text()


def test_rows_that_are_not_there_are_one_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo_real.main(["nothing.jsonl", "--pairs", "pairs.jsonl"]) == 3
    assert "nothing.jsonl" in capsys.readouterr().err


def test_pairs_are_the_rows_answers_against_the_models_own_that_ended() -> None:
    asked = [
        {"prompt": [{"role": "user", "content": f"question {n}"}], "reference": "known"}
        for n in range(4)
    ]
    answers = [
        {"completion": "own", "ended": True},
        {"completion": "cut", "ended": False},
        {"completion": " known ", "ended": True},
        {"completion": None},
    ]
    (pair,) = demo_real._pairs(asked, answers)
    assert pair["prompt"] == asked[0]["prompt"]
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("known", "own")
