"""The recipe for clean pairs drops planted faults, each for its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson

import siftune

RECIPE = Path(__file__).parents[2] / "examples" / "clean_pairs.yaml"
NO = "I'm sorry, but I can't help with that request."


def test_planted_faults_are_dropped_for_their_reasons(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good, bad = ["because", "first", "then", "finally"], ["maybe", "well", "um", "whatever"]
    rows = []
    for at in range(72):
        sides = [" ".join(rng.choice(words, 6)) + f" number {at}." for words in (good, bad)]
        rows.append((f"Question {at % 12}?", *(sides[::-1] if at % 9 == 4 else sides)))
    wrong = {f"pairs:{at + 1}" for at in range(72) if at % 9 == 4}
    faults = [
        ("Question 1?", "Yes, it is so.", "yes it is so"),
        ("Question 2?", NO, "I cannot assist with this."),
        ("Question 3?", "A tree of oak.", "A tree of elm."),
        ("Question 3?", "A tree of elm.", "A tree of oak."),
        rows[0],
    ]
    lines = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows + faults]
    (tmp_path / "pairs.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    made = siftune.run(RECIPE, tmp_path / "out", source=str(tmp_path / "pairs.jsonl"))
    why = {row["id"]: row["stage"] for row in made.dropped.iter_rows(named=True)}
    assert [why[f"pairs:{at}"] for at in (73, 74, 75, 76, 77)] == [
        *("3:threshold", "3:threshold", "5:threshold", "5:threshold", "1:exact_dedup")
    ]
    suspect = {one for one, stage in why.items() if stage == "7:label_noise"}
    assert len(suspect & wrong) >= 6
    assert len(suspect - wrong) <= 4
