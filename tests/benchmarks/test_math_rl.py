"""RL on questions with a number as answer, as its benchmark runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.math_rl import interval, main


def test_an_interval_is_over_seeds_and_questions() -> None:
    values = np.array([[1.0, 0, 1, 0], [1, 1, 1, 0]])
    mean, low, high = interval(values)
    assert mean == 0.625
    assert 0 <= low < mean < high <= 1
    assert interval(np.ones((2, 3))) == (1, 1, 1)


@pytest.mark.slow
def test_a_run_ends_with_a_table_and_answers_and_goes_on_where_it_was(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    asked = [{"question": f"What is {n} and {n}?", "answer": str(2 * n)} for n in range(12)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in asked))
    out = tmp_path / "table.md"
    small = "--train 4 --held-out 4 --steps 1 --prompts 2 --answers 2 --new-tokens 4 --seeds 1"
    words = f"{rows} --work {tmp_path / 'work'} --out {out} --model {tiny_model_dir} {small}"
    main(words.split())
    told = out.read_text()
    assert [line.split(" | ")[0] for line in told.splitlines() if line.startswith("| ")] == [
        *("| model", "| ---", "| start", "| grpo", "| ppo")
    ]
    assert told.count("- start: ") == 4
    made = (tmp_path / "work" / "grpo-0" / "model.safetensors").stat().st_mtime_ns
    main(words.split())
    assert out.read_text() == told
    assert (tmp_path / "work" / "grpo-0" / "model.safetensors").stat().st_mtime_ns == made
    assert "grpo, seed 0" in capsys.readouterr().err
