"""The benchmark of answer quality: its labels, its splits, and a table from a small file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from benchmarks import quality
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn


def chats(role: str, *texts: str) -> pl.Series:
    return pl.Series([[turn(role, text)] for text in texts], dtype=TURNS)


def test_the_label_of_an_answer_is_the_share_of_its_comparisons_that_it_wins() -> None:
    pairs = pl.DataFrame(
        {
            "kind": ["preference"] * 3,
            "prompt": chats("user", "Why?", "Why?", "How?"),
            "chosen": chats("assistant", "sun", "sea", "sun"),
            "rejected": chats("assistant", "sea", "tree", "sea"),
        }
    )
    assert sorted(quality.rows_of(pairs, None)) == [
        ("How?", "sea", 0.0),
        ("How?", "sun", 1.0),
        ("Why?", "sea", 0.5),
        ("Why?", "sun", 1.0),
        ("Why?", "tree", 0.0),
    ]
    ranked = pl.DataFrame(
        {
            "kind": ["ranked"],
            "prompt": chats("user", "Why?"),
            "completions": [[[turn("assistant", text)] for text in ("sun", "sea", "tree")]],
            "scores": [[2.0, 1.0, 1.0]],
        }
    )
    assert sorted(quality.rows_of(ranked, None)) == [
        ("Why?", "sea", 0.25),
        ("Why?", "sun", 1.0),
        ("Why?", "tree", 0.25),
    ]


def rows(count: int) -> quality.Rows:
    prompts = [f"Question {at % 40}?" for at in range(count)]
    answers = [f"{'word ' * (at % 7)}end {at}" for at in range(count)]
    labels = np.random.default_rng(0).integers(0, 4, count) / 3
    return quality.Rows(prompts, answers, labels, np.array(prompts))


def test_labelled_and_held_out_rows_have_other_prompts() -> None:
    given = rows(400)
    labelled, held = quality.split(given, 60, 100, 3)
    assert (len(labelled), len(held)) == (60, 100)
    assert not set(given.roots[labelled]) & set(given.roots[held])


def test_turns_of_a_conversation_stay_together() -> None:
    prompts = ["Why?\n\nSun\n\nAnd?", "Why?", "Why? Tell me", "Why?\n\nSea"]
    assert quality._roots(prompts) == ["Why?", "Why?", "Why? Tell me", "Why?"]


def test_the_area_of_a_split_counts_pairs_above_and_below_the_middle() -> None:
    given = rows(90)
    splits = [quality.split(given, 30, 40, seed) for seed in range(2)]
    value = np.random.default_rng(1).random(90)
    figures = quality.Figures(given, splits)
    areas = figures.statistics(lambda _, held: value[held])["AUC"]
    for (_, held), area in zip(splits, areas, strict=True):
        high, low = (value[held][np.sign(given.labels[held] - 0.5) == side] for side in (1, -1))
        assert area(figures.ones)[0] == pytest.approx((high[:, None] > low).mean())


def test_a_column_points_where_the_labelled_rows_have_it() -> None:
    given = rows(60)
    labelled, held = np.arange(30), np.arange(30, 60)
    down = quality.column(given, -given.labels)(labelled, held)
    assert down.tolist() == given.labels[held].tolist()
    missing = np.where(np.arange(60) == 40, np.nan, given.labels)
    assert quality.column(given, missing)(labelled, held)[10] == np.nanmedian(missing)


@pytest.mark.slow
def test_a_table_from_a_file(
    tmp_path: Path, tiny_embedder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(1)
    words = ["tree", "road", "water", "stone", "because", "light"]
    lines = [
        {
            "prompt": f"Question {at // 2}?",
            "response": " ".join(random.choice(words, 4 + 2 * stars)),
            "stars": stars,
        }
        for at, stars in enumerate(random.integers(1, 6, 160).tolist())
    ]
    path = tmp_path / "rated.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    sizes = ["--labelled", "60", "--held-out", "60", "--splits", "2"]
    given = ["--label", "stars", "--cache", str(tmp_path / "cache"), "--model", str(tiny_embedder)]
    quality.main(["--rows", str(path), *given, *sizes])
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "60 and 60 rows (labelled, held out) in each of 2 splits"
    assert table[3].startswith("| fitted head | 0.9")
    assert [line.split(" | ")[0] for line in table[5:]] == [
        "| length",
        "| zlib ratio",
        "| bag of words",
    ]
