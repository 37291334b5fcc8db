"""Splitting by prompt, and evening out the pairs that length alone decides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.files.atomic import hash_file, read_json
from siftune.curate.files.outputs import overwriting, whole_page
from siftune.curate.rows.chat import turn
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from siftune.curate.selectors.balanced import Balanced
from siftune.curate.selectors.random import Random
from siftune.curate.selectors.split import Split


def asked(prompts: list[str]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "id": f"p:{at}",
            "kind": "preference",
            "digest": f"{at:032x}",
            "prompt": [turn("user", prompt)],
            "chosen": [turn("assistant", f"yes {at}")],
            "rejected": [turn("assistant", f"no {at}")],
        }
        for at, prompt in enumerate(prompts)
    ]
    return pl.DataFrame(rows, schema_overrides=schema_of("preference"))


def lengths(pairs: Sequence[tuple[float | None, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"p:{at}" for at in range(len(pairs))],
            "digest": [f"{at:032x}" for at in range(len(pairs))],
            "chosen_length_chars": [first for first, _ in pairs],
            "rejected_length_chars": [second for _, second in pairs],
        },
        schema_overrides={
            "chosen_length_chars": pl.Float64,
            "rejected_length_chars": pl.Float64,
        },
    )


def test_all_rows_of_a_prompt_fall_to_one_part_and_every_row_to_exactly_one() -> None:
    table = asked([f"prompt {at % 40}" for at in range(200)])
    parts = {part: table.filter(Split(part, 0.3)(table)["keep"]) for part in ("train", "test")}
    keys = {
        part: set(rows["prompt"].list.first().struct.field("content"))
        for part, rows in parts.items()
    }
    assert not keys["train"] & keys["test"]
    assert parts["train"].height + parts["test"].height == 200
    assert 4 <= len(keys["test"]) <= 20  # 12 expected of 40


def test_a_prompt_stays_where_it_is_whatever_rows_come_beside_it() -> None:
    few, many = asked(["a", "b", "c"]), asked([*"abc", *map(str, range(50))])
    assert (
        Split("test", 0.5)(few)["reason"].to_list()
        == Split("test", 0.5)(many)["reason"][:3].to_list()
    )


def test_another_seed_is_another_split() -> None:
    table = asked([str(at) for at in range(64)])
    assert not Split("test", 0.5, 1)(table)["keep"].equals(Split("test", 0.5, 2)(table)["keep"])


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_part_of_nothing_or_of_all_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        Split("train", share)


def test_each_bin_keeps_as_many_of_either_kind() -> None:
    near = [(100, 95), (100, 96), (100, 97), (95, 100)]  # 5 % apart or less: three against one
    far = [(100, 10), (10, 100), (11, 100)]  # 90 % apart: one against two
    lone = [(100, 50)]  # nobody lost to half its length
    found = Balanced(ratio=1)(lengths([*near, *far, *lone]))
    kept = found["keep"].to_list()
    assert sum(kept[:3]) == 1
    assert kept[3]
    assert sum(kept[5:7]) == 1
    assert not kept[7]
    assert set(found.filter(~pl.col("keep"))["reason"]) == {"outweighed"}
    assert json.loads(found["detail"][7]) == {"first": 100.0, "second": 50.0}


def test_fewer_bins_weigh_more_different_rows_against_each_other() -> None:
    table = lengths([(100, 95), (10, 100)])
    assert Balanced(bins=10, ratio=1)(table)["keep"].to_list() == [False, False]
    assert Balanced(bins=1, ratio=1)(table)["keep"].to_list() == [True, True]


def test_a_random_sample_of_balanced_rows_with_the_same_seed_is_balanced() -> None:
    table = lengths([(100, 50)] * 900 + [(50, 100)] * 300)
    kept = table.filter(Balanced(ratio=1)(table)["keep"])
    assert kept.height == 600
    drawn = kept.filter(Random(rows=200)(kept)["keep"])
    longer = (drawn["chosen_length_chars"] > drawn["rejected_length_chars"]).sum()
    assert 80 <= longer <= 120  # 100 expected, with a standard deviation of 6


def test_a_ratio_leaves_that_many_of_the_more_frequent_kind_for_each_of_the_other() -> None:
    table = lengths([(100, 50)] * 10 + [(50, 100)] * 3)
    kept = table.filter(Balanced(ratio=2.5)(table)["keep"])
    assert (kept["chosen_length_chars"] == 50).sum() == 3
    assert (kept["chosen_length_chars"] == 100).sum() == 7  # 7.5, rounded down


def flipped(share: float) -> tuple[pl.DataFrame, pl.Series]:
    """4,000 pairs of which the longer wins, the more surely the more they differ; some flipped."""
    random = np.random.default_rng(5)
    apart, flip = random.random(4_000), random.random(4_000) < share
    longer = random.random(4_000) < 0.5 + 0.45 * apart
    pairs = np.stack([np.full(4_000, 1_000.0), np.round(1_000 * (1 - apart))], axis=1)
    pairs = np.where((longer ^ flip)[:, None], pairs, pairs[:, ::-1])
    return lengths([tuple(pair) for pair in pairs.tolist()]), pl.Series(flip)


def test_wrong_labels_get_no_larger_share_unless_a_ratio_is_asked_for() -> None:
    table, wrong = flipped(0.245)
    kept = Balanced()(table)["keep"]
    spread = (0.245 * 0.755 / kept.sum()) ** 0.5
    assert wrong.filter(kept).mean() < wrong.mean() + 2 * spread
    winners = (table["chosen_length_chars"] > table["rejected_length_chars"]).filter(kept)
    assert 0.5 < winners.mean() <= 0.6
    assert wrong.filter(Balanced(ratio=1)(table)["keep"]).mean() > 0.27


def test_who_won_decides_on_no_row_of_a_step() -> None:
    table, _ = flipped(0.2)
    apart = (table["chosen_length_chars"] - table["rejected_length_chars"]).abs() / 1_000
    kept = Balanced()(table)["keep"]
    assert apart.filter(kept).max() < apart.filter(~kept).min()


def test_steps_that_cannot_be_even_leave_the_rows_that_differ_least() -> None:
    table = lengths([(100, 95)] * 3 + [(100, 50)] * 9 + [(50, 50)])
    assert Balanced()(table)["keep"].to_list() == [True] * 3 + [False] * 9 + [True]


def test_equal_rows_stay_and_rows_without_a_number_go() -> None:
    found = Balanced()(lengths([(5, 5), (None, 5), (0, 0)]))
    assert found["reason"].to_list() == ["equal", "not_scored", "equal"]
    assert found["keep"].to_list() == [True, False, True]


def test_an_infinite_length_is_not_scored() -> None:
    inf = float("inf")
    table = lengths([(inf, inf), (inf, 5), (5, -inf), (1e308, -1e308), (5, 5)])
    assert list(Balanced()(table)["reason"]) == [*["not_scored"] * 4, "equal"]


@pytest.mark.parametrize("option", [{"bins": 0}, {"ratio": 0.5}])
def test_no_bins_and_a_ratio_below_1_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Balanced(**option)


def split_run(folder: Path, *stages: dict[str, Any]) -> Path:
    rows = folder / "rows.jsonl"
    lines = ({"prompt": f"q{at % 20}", "completion": f"a {at}"} for at in range(60))
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(parse({"name": "s", "source": str(rows), "stages": list(stages)}), folder / "out")
    return folder / "out"


def test_one_run_writes_both_parts_of_a_split_and_later_stages_see_the_kept_one(
    tmp_path: Path,
) -> None:
    few = {"select": "random", "rows": 5}
    out = split_run(tmp_path, {"score": "length"}, {"select": "split", "test_share": 0.3}, few)
    kept, test = (pl.read_parquet(out / f"{name}.parquet") for name in ("kept", "test"))
    assert kept.height == 5
    assert kept.schema == test.schema  # with the scores that were there by then
    ledger = pl.read_parquet(out / "ledger.parquet")
    assert set(test["id"]) == set(ledger.filter(reason="test_prompt")["id"])
    assert 3 <= test.height < 60
    manifest = read_json(out / "manifest.json")
    assert manifest["parts"] == {"test.parquet": test.height}
    assert manifest["outputs"]["test.parquet"] == hash_file(out / "test.parquet")
    (out / "test.parquet").write_bytes(b"damaged")
    split_run(tmp_path, {"score": "length"}, {"select": "split", "test_share": 0.3}, few)
    assert manifest["outputs"]["test.parquet"] == hash_file(out / "test.parquet")


def test_a_part_of_an_earlier_recipe_is_removed_and_of_two_splits_both_are_there(
    tmp_path: Path,
) -> None:
    out = split_run(tmp_path, {"select": "split", "part": "test", "test_share": 0.5})
    assert (out / "train.parquet").is_file()
    twice = ({"select": "split", "test_share": 0.3, "seed": seed} for seed in (1, 2))
    split_run(tmp_path, *twice)
    assert {path.name for path in out.glob("t*.parquet")} == {"test.parquet", "test-2.parquet"}
    parts = [pl.read_parquet(out / f"{name}.parquet") for name in ("kept", "test", "test-2")]
    assert sum(part.height for part in parts) == 60


def test_a_users_file_under_the_name_of_a_part_is_neither_removed_nor_replaced(
    tmp_path: Path,
) -> None:
    mine = split_run(tmp_path, {"score": "length"}) / "test.parquet"
    mine.write_bytes(b"mine")
    split_run(tmp_path, {"score": "heuristics"})
    with pytest.raises(UsageError, match=r"test\.parquet was not written by `siftune curate run`"):
        split_run(tmp_path, {"select": "split", "test_share": 0.3})
    with overwriting(True), pytest.raises(UsageError, match=r"test\.parquet was not written by"):
        whole_page(mine.parent, "a page", "report")
    assert mine.read_bytes() == b"mine"


def test_a_run_that_was_killed_before_its_manifest_writes_its_part_again(tmp_path: Path) -> None:
    split = {"select": "split", "test_share": 0.3}
    out = split_run(tmp_path, split)
    expected = hash_file(out / "test.parquet")
    (out / "manifest.json").unlink()
    split_run(tmp_path, split)
    assert hash_file(out / "test.parquet") == expected
