"""Selectors by a value, a draw, a length or a group."""

from __future__ import annotations

import json
import math
import statistics
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.budget import sampling_keys
from siftune.curate.rows.chat import turn
from siftune.curate.rows.decisions import draws


def table(**columns: Any) -> pl.DataFrame:
    """Rows a, b, c, ... with the given columns."""
    height = len(next(iter(columns.values())))
    ids = [f"f:{i}" for i in range(1, height + 1)]
    base = {"id": ids, "kind": ["conversation"] * height, "digest": list("abcdefghij"[:height])}
    return pl.DataFrame({**base, **columns})


def select(name: str, table: pl.DataFrame, /, **options: Any) -> pl.DataFrame:
    answer: pl.DataFrame = build("curate.selectors", name, options)(table)
    return answer


def details(answer: pl.DataFrame) -> list[Any]:
    return [text and json.loads(text) for text in answer["detail"]]


# threshold


def test_threshold_keeps_what_lies_between_its_bounds_and_on_them() -> None:
    rows = table(ifd=[0.1, 0.25, 0.5, 0.75, 0.9, None, float("nan")])
    answer = select("threshold", rows, by="ifd", min=0.25, max=0.75)
    assert answer["reason"].to_list() == [
        "below_threshold", "passed", "passed", "passed", "above_threshold",
        "not_scored", "not_scored",
    ]  # fmt: skip
    assert details(answer)[0] == {"by": "ifd", "value": 0.1, "min": 0.25, "max": 0.75}


def test_threshold_names_only_the_bound_it_was_given() -> None:
    answer = select("threshold", table(ifd=[0.5]), by="ifd", min=1)
    assert details(answer) == [{"by": "ifd", "value": 0.5, "min": 1.0}]


def test_threshold_tells_a_float32_value_as_it_was_stored() -> None:
    rows = table(ifd=pl.Series([0.1], dtype=pl.Float32))
    assert details(select("threshold", rows, by="ifd", min=0))[0]["value"] == 0.1


def test_threshold_reads_true_as_one() -> None:
    answer = select("threshold", table(refusal=[True, False, None]), by="refusal", max=0)
    assert answer["keep"].to_list() == [False, True, False]


def test_threshold_compares_extra_as_numbers_not_as_text() -> None:
    extra = ['{"score": 10}', '{"score": "9"}', '{"score": 2.5}', '{"score": "n/a"}', None]
    answer = select("threshold", table(extra=extra), by="extra.score", min=3)
    assert answer["reason"].to_list() == [
        "passed", "passed", "below_threshold", "not_scored", "not_scored",
    ]  # fmt: skip


def test_threshold_finds_an_extra_field_with_a_space_in_its_name() -> None:
    answer = select("threshold", table(extra=['{"my score": 4}']), by="extra.my score", min=3)
    assert answer["keep"].to_list() == [True]


def test_threshold_takes_a_statistic_of_a_list() -> None:
    rows = table(ifd=[[0.2, 0.4], [0.9], []])
    answer = select("threshold", rows, by="ifd.mean", max=0.5)
    assert answer["reason"].to_list() == ["passed", "above_threshold", "not_scored"]


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (table(ifd=[[0.1]]), {"by": "ifd", "min": 0}, "use ifd.mean"),
        (table(topic=["x"]), {"by": "topic", "min": 0}, "expected one number a row"),
        (table(extra=['{"topic": "x"}']), {"by": "extra.topic", "min": 0}, "found 'x'"),
        (table(ifd=[0.1]), {"by": "ifdd", "min": 0}, "did you mean ifd"),
        (table(ifd=[0.1]), {"by": "ifd"}, "set min, max or both"),
        (table(ifd=[0.1]), {"by": "ifd", "min": 2, "max": 1}, "nothing fits"),
    ],
)
def test_threshold_says_what_is_wrong(
    rows: pl.DataFrame, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        select("threshold", rows, **options)


# flags


def test_flags_drops_what_raises_one_and_names_it() -> None:
    rows = table(heuristics_flags=[[], ["short"], ["links", "short"], None])
    answer = select("flags", rows)
    assert answer["reason"].to_list() == ["passed", "flagged", "flagged", "not_scored"]
    assert details(answer) == [None, {"flags": ["short"]}, {"flags": ["links", "short"]}, None]


def test_flags_counts_only_those_it_was_told() -> None:
    rows = table(heuristics_flags=[["empty"], ["echo", "empty"], ["echo"]])
    answer = select("flags", rows, any_of=["echo"])
    assert answer["keep"].to_list() == [True, False, False]
    assert details(answer) == [None, {"flags": ["echo"]}, {"flags": ["echo"]}]


def test_flags_drops_for_a_harmless_flag_only_if_it_is_named() -> None:
    rows = table(heuristics_flags=[["open_slots"], ["no_input", "echo"], ["url_input"]])
    assert select("flags", rows)["keep"].to_list() == [True, False, False]
    assert details(select("flags", rows))[1] == {"flags": ["echo"]}
    assert select("flags", rows, any_of=["open_slots"])["keep"].to_list() == [False, True, True]


def test_flags_wants_a_list() -> None:
    with pytest.raises(UsageError, match="for numbers use threshold"):
        select("flags", table(ifd=[0.1]), column="ifd")


# top_k, top_fraction


def test_top_k_breaks_ties_by_digest_and_says_where_a_row_came() -> None:
    rows = table(ifd=[0.5, 0.9, 0.5, None])
    answer = select("top_k", rows, by="ifd", rows=2)
    assert answer["reason"].to_list() == ["selected", "selected", "below_cutoff", "not_scored"]
    assert details(answer) == [
        {"by": "ifd", "cutoff": 0.5, "rank": 2, "value": 0.5},
        {"by": "ifd", "cutoff": 0.5, "rank": 1, "value": 0.9},
        {"by": "ifd", "cutoff": 0.5, "rank": 3, "value": 0.5},
        {"by": "ifd", "cutoff": 0.5, "rank": None, "value": None},
    ]


def test_top_k_can_keep_the_smallest() -> None:
    answer = select("top_k", table(ppl=[3, 1, 2, None]), by="ppl", rows=2, descending=False)
    assert answer["reason"].to_list() == ["above_cutoff", "selected", "selected", "not_scored"]


def test_top_k_keeps_fewer_rather_than_a_row_without_a_score() -> None:
    assert select("top_k", table(ifd=[0.5, None]), by="ifd", rows=2)["keep"].to_list() == [
        True,
        False,
    ]


def included(weights: list[float], k: int) -> list[float]:
    """Exact chance of each row to be among k draws without replacement, over all orders."""
    chance = [0.0] * len(weights)
    for order in permutations(range(len(weights)), k):
        left, probability = sum(weights), 1.0
        for row in order:
            probability *= weights[row] / left
            left -= weights[row]
        for row in order:
            chance[row] += probability
    return chance


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_draws_with_a_temperature_have_their_exact_chances(temperature: float) -> None:
    scores, tables, k = [3.0, 1.0, 0.0, 0.0], 5000, 2
    mean, deviation = statistics.fmean(scores), statistics.pstdev(scores)
    weights = [math.exp((score - mean) / deviation / temperature) for score in scores]
    ids = [f"f:{at}" for at in range(tables * 4)]
    frame = pl.DataFrame({"id": ids, "digest": ids, "score": scores * tables})
    keys = sampling_keys(frame, frame["score"], temperature, seed=7).to_numpy().reshape(tables, 4)
    drawn = (keys >= np.sort(keys, axis=1)[:, [4 - k]]).mean(axis=0)
    for found, chance in zip(drawn, included(weights, k), strict=True):
        assert abs(found - chance) < 4 * math.sqrt(chance * (1 - chance) / tables)


def test_a_draw_depends_on_the_seed_and_the_scale_of_a_score_on_nothing() -> None:
    rows = table(score=[1.0, 2.0, 4.0, 3.0, None, math.inf])
    answer = select("top_k", rows, by="score", rows=2, temperature=1, seed=4)
    assert answer["keep"].sum() == 2
    assert set(answer["reason"]) == {"selected", "not_drawn", "not_scored"}
    assert answer["reason"].to_list()[4:] == ["not_scored"] * 2
    first = next(one for one in details(answer) if one["rank"] == 1)
    assert first.keys() == {"by", "rank", "temperature", "value"}
    scaled = rows.with_columns(pl.col("score") * 10 + 5)
    again = select("top_k", scaled, by="score", rows=2, temperature=1, seed=4)
    assert again["keep"].to_list() == answer["keep"].to_list()
    turned = select("top_k", rows.reverse(), by="score", rows=2, temperature=1, seed=4)
    assert turned.reverse().equals(answer)
    kept = {
        tuple(select("top_k", rows, by="score", rows=2, temperature=1, seed=seed)["keep"])
        for seed in range(12)
    }
    assert len(kept) > 1


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("top_k", {"by": "n", "rows": 3}),
        ("top_fraction", {"by": "n", "fraction": 0.5}),
        ("longest", {"by": "n", "rows": 3}),
        ("top_k", {"by": "n", "rows": 3, "descending": False}),
    ],
)
def test_a_small_temperature_takes_the_best_and_a_large_one_any(name: str, given: Any) -> None:
    rows = table(n=pl.Series([5, 1, 4, 2, 3, 6], dtype=pl.UInt8))
    best = select(name, rows, **given)
    for small in (1e-6, 1e-320):
        assert select(name, rows, **given, temperature=small)["keep"].equals(best["keep"])
    drawn = [
        select(name, rows, **given, temperature=1e9, seed=seed)["keep"].equals(best["keep"])
        for seed in range(5)
    ]
    assert not all(drawn)
    larger = given | ({"fraction": 0.9} if "fraction" in given else {"rows": 5})
    smaller_sample = select(name, rows, **given, temperature=2, seed=1)["keep"]
    assert (select(name, rows, **larger, temperature=2, seed=1)["keep"] | ~smaller_sample).all()
    with pytest.raises(UsageError, match="temperature: expected above 0"):
        select(name, rows, **given, temperature=0)


@pytest.mark.parametrize(("fraction", "kept"), [(0, 0), (0.01, 1), (0.25, 1), (0.5, 2), (1, 3)])
def test_top_fraction_is_of_all_rows_and_at_least_one(fraction: float, kept: int) -> None:
    rows = table(ifd=[0.1, 0.2, 0.3, None])
    assert select("top_fraction", rows, by="ifd", fraction=fraction)["keep"].sum() == kept


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_a_fraction_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        build("curate.selectors", "top_fraction", {"by": "ifd", "fraction": fraction})


# random


def test_rows_of_equal_content_draw_different_numbers() -> None:
    twins = table(ifd=[0, 0]).with_columns(digest=pl.lit("same"))
    assert draws(twins, seed=0).n_unique() == 2


def test_draws_are_uniform_and_differ_by_seed() -> None:
    rows = pl.DataFrame({"id": [f"f:{i}" for i in range(4000)], "digest": ["d"] * 4000})
    first, second = draws(rows, seed=0), draws(rows, seed=1)
    for drawn in (first, second):
        deciles = (drawn * 10).cast(pl.Int64).value_counts()["count"]
        assert deciles.len() == 10
        # Each is binomial(4000, 0.1): 400 with a standard deviation of 19.
        assert deciles.is_between(320, 480).all()
    correlation = pl.DataFrame({"a": first, "b": second}).select(pl.corr("a", "b")).item()
    assert abs(correlation) < 0.07  # four standard deviations are 0.063


def test_a_draw_does_not_depend_on_the_other_rows() -> None:
    rows = table(x=[1, 2, 3, 4])
    assert draws(rows, seed=5)[2] == draws(rows[2:3], seed=5)[0]


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 2**32 - 1))
def test_a_larger_sample_holds_the_smaller(few: int, more: int, seed: int) -> None:
    few, more = min(few, more), max(few, more)
    rows = table(x=list(range(10)))
    small = select("random", rows, rows=few, seed=seed)["keep"]
    large = select("random", rows, rows=more, seed=seed)["keep"]
    assert (small <= large).all()
    assert (small.sum(), large.sum()) == (few, more)


def test_tokens_are_spent_until_the_next_row_would_go_over() -> None:
    rows = table(score=[5, 4, 3, 2], length_tokens=[40, None, 50, 10])
    kept = select("longest", rows, by="score", tokens=95)
    assert kept["reason"].to_list() == ["selected", "not_scored", "selected", "below_cutoff"]


def test_a_negative_length_is_bad_data() -> None:
    with pytest.raises(DataError, match="length_tokens"):
        select("random", table(length_tokens=[3, -1]), tokens=5)


@pytest.mark.parametrize("options", [{}, {"rows": 1, "fraction": 0.5}, {"rows": -1}])
def test_a_budget_is_one_thing_and_not_negative(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"exactly one|at least 0"):
        build("curate.selectors", "random", options)


# longest


def chats(*answers: str | None) -> pl.DataFrame:
    messages = [
        [turn("user", "?"), *([] if text is None else [turn("assistant", text)])]
        for text in answers
    ]
    return table(messages=pl.Series(messages, dtype=TURNS))


def test_longest_measures_the_answer() -> None:
    rows = chats("a much longer answer", "short", None, "")
    answer = select("longest", rows, rows=1)
    assert answer["reason"].to_list() == [
        "selected", "below_cutoff", "not_scored", "below_cutoff",
    ]  # fmt: skip
    assert details(answer)[0] == {"by": "response characters", "cutoff": 20, "rank": 1, "value": 20}


def test_longest_by_words_and_by_characters_differ() -> None:
    rows = chats("incomprehensibilities", "a b c d")
    assert select("longest", rows, rows=1)["keep"].to_list() == [True, False]
    assert select("longest", rows, rows=1, unit="words")["keep"].to_list() == [False, True]


def test_longest_takes_a_column_of_lengths() -> None:
    rows = table(length_tokens=[3, 9, None])
    assert select("longest", rows, rows=2, by="length_tokens")["keep"].to_list() == [
        True, True, False,
    ]  # fmt: skip


# quota


def test_quota_keeps_the_best_of_each_group() -> None:
    rows = table(topic=["x", "x", "x", "y", None, "y"], ifd=[0.1, 0.3, 0.2, 0.9, 0.5, None])
    answer = select("quota", rows, group_by="topic", rows=2, by="ifd")
    assert answer["reason"].to_list() == [
        "over_quota", "selected", "selected", "selected", "no_group", "not_scored",
    ]  # fmt: skip
    assert details(answer)[0] == {
        "by": "ifd", "group": "x", "group_by": "topic", "quota": 2, "rank": 3, "value": 0.1,
    }  # fmt: skip


def test_quota_can_differ_by_value() -> None:
    rows = table(topic=["x", "x", "y", "y", "z"], ifd=[1, 2, 3, 4, 5])
    answer = select("quota", rows, group_by="topic", rows={"x": 1, "y": 2}, by="ifd")
    assert answer["reason"].to_list() == [
        "over_quota", "selected", "selected", "selected", "not_in_quota",
    ]  # fmt: skip


def test_quota_without_a_score_samples_by_seed() -> None:
    rows = table(topic=["x"] * 10)
    kept = {
        tuple(select("quota", rows, group_by="topic", rows=3, seed=seed)["keep"])
        for seed in range(5)
    }
    assert len(kept) > 1
    assert {sum(mask) for mask in kept} == {3}


def test_quota_reads_a_field_of_the_raw_row() -> None:
    rows = table(extra=['{"t": 1}', '{"t": 1}', '{"t": 2}'])
    assert select("quota", rows, group_by="extra.t", rows=1)["keep"].sum() == 2


def test_quota_by_prompt_counts_rows_of_equal_prompts() -> None:
    asked = ["2+2?", "2+2?", "Why?", "2+2?"]
    turns = [[turn("user", text), turn("assistant", f"a{i}")] for i, text in enumerate(asked)]
    rows = table(messages=pl.Series(turns, dtype=TURNS), ifd=[0.1, 0.3, 0.2, 0.9])
    answer = select("quota", rows, group_by="prompt", rows=2, by="ifd")
    assert answer["keep"].to_list() == [False, True, True, True]
    assert details(answer)[0]["group"] == "2+2?"


def test_quota_by_prompt_counts_pairs_too_and_any_other_turns() -> None:
    said = [pl.Series([[turn("user", text)] for text in some], dtype=TURNS)
            for some in (["q", "q", "r"], ["a", "b", "a"], ["x", "y", "z"])]  # fmt: skip
    rows = table(prompt=said[0], chosen=said[1], rejected=said[2])
    rows = rows.with_columns(kind=pl.lit("preference"))
    assert select("quota", rows, group_by="prompt", rows=1)["keep"].sum() == 2
    assert select("quota", rows, group_by="chosen", rows=1)["keep"].sum() == 2
    assert build("curate.selectors", "quota", {"group_by": "prompt", "rows": 1}).needs == (
        "content",
    )


def test_quota_refuses_a_column_of_lists_in_one_line() -> None:
    rows = table(heuristics_flags=[["a"], []])
    with pytest.raises(UsageError, match=r"'heuristics_flags' is List\(String\): expected one"):
        select("quota", rows, group_by="heuristics_flags", rows=1)


# flags


@pytest.mark.parametrize(
    ("column", "word", "near"),
    [
        ("heuristics_flags", "refusals", "did you mean refusal"),
        ("chosen_heuristics_flags", "spam", "empty, placeholder, open_slots, refusal"),
        (
            "pii_kinds",
            "mail",
            "card, email, iban, ip, key, location, national_id, person, phone, ssn",
        ),
    ],
)
def test_a_word_that_is_no_flag_of_the_scorer_is_refused_with_the_list(
    column: str, word: str, near: str
) -> None:
    with pytest.raises(UsageError, match=f"'{word}' is no flag; .*{near}"):
        build("curate.selectors", "flags", {"column": column, "any_of": [word]})


def test_a_word_that_no_row_of_an_unknown_column_has_is_refused_with_those_there_are() -> None:
    rows = table(mine=[["b", "a"], []])
    assert select("flags", rows, column="mine", any_of=["a"])["keep"].to_list() == [False, True]
    with pytest.raises(UsageError, match=r"'c' is no flag; flags of mine: a, b"):
        select("flags", rows, column="mine", any_of=["a", "c"])


def test_every_flag_that_a_scorer_raises_is_declared() -> None:
    from siftune.curate.private_data.personal_data import KINDS
    from siftune.curate.scorers.heuristics import Heuristics
    from siftune.curate.scorers.pii import PII

    assert set(PII.flags["pii_kinds"]) == {*KINDS, "person", "location"}  # by a model
    raised = {f"heuristics_{name}" for name in Heuristics.flags["heuristics_flags"]}
    assert raised == {name for name, kind in Heuristics.adds.items() if kind == pl.Boolean}


def test_a_mapping_that_names_no_value_there_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="there are x, y"):
        select("quota", table(topic=["x", "y"]), group_by="topic", rows={"X": 1})
