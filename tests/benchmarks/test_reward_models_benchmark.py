"""The benchmark of reward models on made-up judgements, in which the words decide."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks import longer_and_nicer, reward_models
from benchmarks.unlike_answers import auroc

GOOD, BAD = "clear right sure whole", "vague wrong maybe part"


def judgements(path: Path) -> Path:
    """A common answer beside four others: one with more good words wins, whatever its length."""
    source, rows = random.Random(0), []
    for number in range(24):
        first = " ".join(source.choices(f"{GOOD} {BAD}".split(), k=12))
        for model in range(4):
            second = " ".join(source.choices((GOOD if model % 2 else BAD).split(), k=10 + model))
            better = sum(w in GOOD for w in second.split()) > sum(w in GOOD for w in first.split())
            rows.append(
                {
                    "prompt_id": number,
                    "prompt": f"question {number}",
                    "response_1": first,
                    "response_2": second,
                    "generator_2": f"model {model}",
                    "preference": 2 if better else 1,
                }
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def asked(path: Path) -> Path:
    rows = [
        {
            "instruction": f"Name thing {at}.",
            "input": "",
            "output": f"Thing {at} is a {at} of many. It is called the thing number {at} here.",
        }
        for at in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_words_are_learnt_where_length_tells_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = judgements(tmp_path / "judged.jsonl"), asked(tmp_path / "asked.jsonl")
    given = ["--pairs", str(files[0]), "--asked", str(files[1])]
    reward_models.main([*given, "--stage", "test", "--only", "1,9"])
    lines = capsys.readouterr().out.splitlines()
    longer, words = (float(line.split(" | ")[1].split()[0]) for line in lines[4:6])
    assert lines[5].startswith("| words |")
    assert words > 0.9
    assert words > longer + 0.2
    assert "280" in lines[2]


def test_every_made_up_worse_answer_is_the_longer_one() -> None:
    rows = [json.loads(line) for line in asked_lines()]
    made = list(longer_and_nicer.made_pairs(rows))
    assert len(made) == 280
    assert {kind for kind, *_ in made} == set(longer_and_nicer.KINDS)
    assert all(len(worse) > len(better) for _, _, better, worse in made)
    assert made == list(longer_and_nicer.made_pairs(rows))


def asked_lines() -> list[str]:
    return [
        json.dumps({"instruction": f"Say {at}", "output": f"{'word ' * (10 + at)}{at} is said."})
        for at in range(60)
    ]


def test_auroc_by_hand() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([3.0, 2.0])) == pytest.approx(3.5 / 4)
