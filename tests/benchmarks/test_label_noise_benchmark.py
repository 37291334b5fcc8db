"""The benchmark of planted flips: areas beside a slow count, and a table from a small file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks import label_noise


def test_the_weighted_area_equals_a_count_of_pairs() -> None:
    rng = np.random.default_rng(0)
    score = rng.integers(0, 5, 30).astype(float)
    positive = rng.random(30) < 0.4
    weights = rng.integers(0, 3, (4, 30)).astype(float)
    found = label_noise.auc(score, positive)(weights)
    for draw, area in zip(weights, found, strict=True):
        won = total = 0.0
        for i in np.flatnonzero(positive):
            for j in np.flatnonzero(~positive):
                weight = draw[i] * draw[j]
                total += weight
                won += weight * ((score[i] > score[j]) + (score[i] == score[j]) / 2)
        assert area == pytest.approx(won / total)


def test_a_table_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    words = ["tree", "road", "water", "stone", "because"]
    rows = [
        {
            "prompt": f"Question {at % 20}",
            "chosen": " ".join(rng.choice(words, 5 + at % 9)),
            "rejected": " ".join(rng.choice(words[:4], 5 + at % 7)),
            "number": at % 20,
        }
        for at in range(160)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    label_noise.main(["--pairs", str(path), "--rates", "0.2", "--even", "number"])
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 11
    assert "all (80 of 10 prompts)" in table[2]
    assert "all, length-matched part (" in table[5]
    assert " 20% | longer wins | 0." in table[2]
