"""Selector label_noise: what is dropped, flipped and weighted, and that a flip is a new row."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import polars as pl
import pytest

import siftune
from siftune.curate.core.errors import UsageError
from siftune.curate.rows.convert import content_digest
from siftune.curate.rows.flip import flip_pairs
from siftune.curate.selectors.label_noise import LabelNoise

PAIRS = [
    {
        "prompt": f"Q{at}",
        "chosen": f"good {at}",
        "rejected": f"bad {at}",
        "score_chosen": 2.0 + at,
        "score_rejected": 1.0,
        "win_probability": 0.75,
        "wrong": wrong,
        "label_noise_issue": wrong > 0.6,
    }
    for at, wrong in enumerate([0.1, 0.9, 0.4, 0.7])
]


@pytest.fixture
def rows(tmp_path: Path) -> siftune.Rows:
    (tmp_path / "pairs.jsonl").write_bytes(b"\n".join(map(orjson.dumps, PAIRS)))
    return siftune.read(tmp_path / "pairs.jsonl").score("length")


@pytest.mark.parametrize(
    ("given", "kept"),
    [({"min": 0.7}, [1, 3]), ({"min": 0.71}, [1, 3, 4]), ({"fraction": 0.25}, [1, 3, 4])],
)
def test_suspect_labels_are_dropped(rows: siftune.Rows, given: dict, kept: list[int]) -> None:
    made = rows.select("label_noise", by="extra.wrong", **given)
    dropped = [one for one in (1, 2, 3, 4) if one not in kept]
    expected = [at for at in (1, 2, 3, 4) if PAIRS[at - 1]["wrong"] < given.get("min", 0.8)]
    assert made.kept["row"].to_list() == expected
    assert made.dropped["reason"].to_list() == ["label_noise"] * (4 - len(expected))
    assert dropped or expected


def test_weights_are_made_of_probabilities_alone() -> None:
    ids = ["a:1", "a:2"]
    rows = pl.DataFrame({"id": ids, "digest": ids, "p": [0.0, 1.0], "rm": [0.5, -1.7]})
    assert LabelNoise(by="p", action="weight")(rows)["weight"].to_list() == [1.0, 0.0]
    with pytest.raises(UsageError, match=r"from 0 to 1; rm has -1\.7"):
        LabelNoise(by="rm", action="weight")(rows)


def test_a_fraction_is_of_all_rows_not_of_scored_ones() -> None:
    ids = [f"a:{at}" for at in range(6)]
    rows = pl.DataFrame({"id": ids, "digest": ids, "p": [0.9, 0.8, 0.7, None, None, None]})
    found = LabelNoise(by="p", fraction=1 / 3)(rows)["reason"]
    assert found.to_list() == ["label_noise", "label_noise", "trusted", *["not_scored"] * 3]


def test_a_flip_exchanges_the_sides_and_all_that_belongs_to_them(rows: siftune.Rows) -> None:
    made = rows.select("label_noise", by="extra.wrong", min=0.8, action="flip")
    before, after = rows.kept.row(1, named=True), made.kept.row(1, named=True)
    assert (after["chosen"], after["rejected"]) == (before["rejected"], before["chosen"])
    assert (after["score_chosen"], after["score_rejected"], after["margin"]) == (1.0, 3.0, -2.0)
    assert after["win_probability"] == 0.25
    assert after["chosen_length_chars"] == before["rejected_length_chars"] == len("bad 1")
    assert after["digest"] != before["digest"]
    assert after["digest"] == content_digest("preference", after)
    others = [at for at in range(4) if at != 1]
    assert made.kept[others].equals(rows.kept[others].select(made.kept.columns))
    told = made.explain(after["id"])
    assert told.reason == "flipped"
    ledger = made.decisions.filter(pl.col("id") == after["id"])
    assert ledger["reason"].item() == "flipped"
    assert ledger["digest_before"].item() == before["digest"]
    assert made.to_polars("all")["chosen"][1].to_list() == after["chosen"]


def test_a_stage_after_a_flip_reads_the_new_row(rows: siftune.Rows) -> None:
    flipped = rows.select("label_noise", by="extra.wrong", min=0.8, action="flip")
    made = flipped.select("threshold", by="margin", min=0)
    assert made.kept["row"].to_list() == [1, 3, 4]


def test_flipping_twice_is_the_pair_as_it_was() -> None:
    extra = {"chosen.fields": [{"a": 1}], "rejected.fields": [{"b": 2}], "chosen_response": 2}
    turns = [{"role": "assistant", "content": "x", "name": None}]
    turns = [turn | {"tool_calls": None, "tool_call_id": None} for turn in turns]
    table = pl.DataFrame(
        {
            "digest": ["d"],
            "prompt": [turns],
            "chosen": [turns],
            "rejected": [[turns[0] | {"content": "y"}]],
            "extra": [json.dumps(extra)],
        }
    )
    once = table.with_columns(flip_pairs(table, pl.Series([True])))
    assert json.loads(once["extra"][0]) == {
        "rejected.fields": [{"a": 1}],
        "chosen.fields": [{"b": 2}],
        "chosen_response": 1,
    }
    twice = once.with_columns(flip_pairs(once, pl.Series([True])))
    assert twice.drop("digest", "extra").equals(table.drop("digest", "extra"))
    assert json.loads(twice["extra"][0]) == extra
    assert twice["digest"][0] != once["digest"][0]


def test_a_weight_is_a_column_that_later_stages_read(rows: siftune.Rows) -> None:
    made = rows.select("label_noise", by="extra.wrong", action="weight")
    assert made.kept["weight"].to_list() == pytest.approx([0.9, 0.1, 0.6, 0.3])
    assert made.select("top_k", by="weight", rows=1).kept["row"].to_list() == [1]


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="min or fraction"):
        LabelNoise(min=0.5, fraction=0.1)
    with pytest.raises(UsageError, match="leave min and fraction out"):
        LabelNoise(action="weight", min=0.5)


def test_without_an_option_the_issues_of_the_scorer_are_dropped() -> None:
    table = pl.DataFrame(
        {
            "id": ["a", "b", "c"],
            "digest": ["1", "2", "3"],
            "label_noise": [0.2, 0.7, None],
            "label_noise_issue": [False, True, None],
        }
    )
    decided = LabelNoise()(table)
    assert decided["reason"].to_list() == ["trusted", "label_noise", "not_scored"]
    assert decided["keep"].to_list() == [True, False, False]
