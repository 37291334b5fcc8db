"""Ranked lists read as preference pairs: from raw files, trees and tables of ours."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

import siftune
from siftune.curate.core.errors import UsageError
from siftune.pipelines.cli import siftune as command

RANKED = [
    {
        "prompt": "Name a city.",
        "completions": ["Oslo.", "Rome!", "None", "Well"],
        "scores": [3, 9, 1, None],
        "topic": "places",
    },
    {"prompt": "Name a tree.", "completions": ["Oak.", "Elm."], "scores": [2, 2]},
]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "lists.jsonl").write_bytes(b"\n".join(map(orjson.dumps, RANKED)))
    return tmp_path / "lists.jsonl"


def sides(rows: siftune.Rows) -> list[tuple[str, str, str, float]]:
    named = rows.kept.select("id", "chosen", "rejected", "margin").iter_rows()
    return [(one, a[0]["content"], b[0]["content"], margin) for one, a, b, margin in named]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("best_worst", [("lists:1.1", "Rome!", "None", 8.0)]),
        (
            "all",
            [
                ("lists:1.1", "Oslo.", "None", 2.0),
                ("lists:1.2", "Rome!", "Oslo.", 6.0),
                ("lists:1.3", "Rome!", "None", 8.0),
            ],
        ),
        ("adjacent", [("lists:1.1", "Rome!", "Oslo.", 6.0), ("lists:1.2", "Oslo.", "None", 2.0)]),
        ("sweet_spot", [("lists:1.1", "Rome!", "None", 8.0)]),
    ],
)
def test_pairs_with_their_margins(lists: Path, pairs: str, expected: list[tuple]) -> None:
    rows = siftune.read(lists, pairs=pairs)
    assert rows.kind == "preference"
    assert sides(rows) == expected
    assert rows.kept["score_chosen"][0] - rows.kept["score_rejected"][0] == expected[0][3]
    assert orjson.loads(rows.kept["extra"][0]) == {"topic": "places"}
    assert rows.quarantined["reason"].to_list() == ["no_pair"]


def test_equal_answers_count_once_and_an_infinite_margin_is_none(tmp_path: Path) -> None:
    lists = [
        {"prompt": "a", "completions": ["x one", "x one", "z three"], "scores": [3, 2, 1]},
        {"prompt": "b", "completions": ["x", "x"], "scores": [2, 1]},
        {"prompt": "c", "completions": ["x", "y", "z"], "scores": [1e308, -1e308, 1.5e308]},
    ]
    (tmp_path / "lists.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lists)))
    rows = siftune.read(tmp_path / "lists.jsonl", pairs="all")
    assert sides(rows)[0] == ("lists:1.1", "x one", "z three", 2.0)
    assert rows.kept["margin"].to_list() == [2.0, 5e307, None, None]
    assert rows.quarantined["id"].to_list() == ["lists:2"]
    spot = siftune.read(tmp_path / "lists.jsonl", pairs="sweet_spot")
    assert [one[1:3] for one in sides(spot)] == [("x one", "z three"), ("z", "y")]


def test_a_drawn_answer_does_not_depend_on_other_rows(tmp_path: Path, lists: Path) -> None:
    (alone,) = sides(siftune.read(lists, pairs="best_random"))
    (tmp_path / "other.jsonl").write_bytes(
        orjson.dumps(RANKED[1]) + b"\n" + orjson.dumps(RANKED[0])
    )
    (after,) = sides(siftune.read(tmp_path / "other.jsonl", pairs="best_random"))
    assert alone[1:] == after[1:]
    assert alone[1] == "Rome!"


def test_pairs_of_a_table_of_ours_keep_the_id_of_their_list(tmp_path: Path, lists: Path) -> None:
    siftune.read(lists).save(tmp_path / "run")
    rows = siftune.read(tmp_path / "run", pairs="all")
    assert [one[1:] for one in sides(rows)] == [
        one[1:] for one in sides(siftune.read(lists, pairs="all"))
    ]
    assert {orjson.loads(one)["ranked_id"] for one in rows.kept["extra"]} == {"lists:1"}


def test_the_command_and_the_recipe_take_the_same(tmp_path: Path, lists: Path) -> None:
    out = tmp_path / "out"
    words = ["curate", "select", str(lists), "sweet_spot", "--pairs", "all", "--out", str(out)]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 4, done.output  # a list without two scores is set aside
    assert "ranked lists are read as pairs (all)" in done.output
    (one,) = sides(siftune.read(out))
    assert one[1:] == ("Rome!", "None", 8.0)
    recipe = {"source": str(lists), "pairs": "adjacent", "stages": [{"score": "length"}]}
    assert siftune.run(recipe).kept.height == 2


def test_other_rows_and_unknown_pairs_are_refused(tmp_path: Path, lists: Path) -> None:
    with pytest.raises(UsageError, match="pairs: expected one of best_worst, best_random, all"):
        siftune.read(lists, pairs="best")
    other = tmp_path / "chats.jsonl"
    other.write_bytes(orjson.dumps({"prompt": "Hi", "completion": "Ho"}))
    with pytest.raises(UsageError, match="has conversation rows; pairs are made of ranked lists"):
        siftune.read(other, pairs="all")
