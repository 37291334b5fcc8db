"""Selectors of preference pairs, each by a worked example."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import BadRow, UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import TURNS
from siftune.curate.records.ranked_pairs import below_mean, places_of
from siftune.curate.rows.chat import turn


def table(**columns: object) -> pl.DataFrame:
    height = len(next(iter(columns.values())))  # type: ignore[arg-type]
    base = {
        "id": [f"p:{at}" for at in range(height)],
        "digest": [f"{at:032x}" for at in range(height)],
    }
    return pl.DataFrame({**base, **columns})


def reasons(name: str, rows: pl.DataFrame, /, **options: object) -> list[str]:
    return list(build("curate.selectors", name, options)(rows)["reason"])


def kept(name: str, rows: pl.DataFrame, /, **options: object) -> list[int]:
    decided = build("curate.selectors", name, options)(rows)
    return decided["keep"].arg_true().to_list()


def test_bees_by_hand() -> None:
    rows = table(reward=[2.0, -2.0, 0.0, 2.0], implicit=[0.1, 0.1, 0.1, -0.1])
    made = build("curate.selectors", "bees", {"margins": ("reward", "implicit"), "rows": 1})(rows)
    found = [json.loads(one)["value"] for one in made["detail"]]
    # the bound is twice the root mean square: 2√3 and .2
    p = [(m / math.sqrt(3) / 2 + 1) / 2 for m in (2.0, -2.0, 0.0, 2.0)]
    q = [0.75, 0.75, 0.75, 0.25]
    expected = [a * b / (a * b + (1 - a) * (1 - b)) for a, b in zip(p, q, strict=True)]
    assert found == pytest.approx(expected)
    assert made["keep"].to_list() == [True, False, False, False]


def test_bees_lets_no_source_overrule_all_others() -> None:
    rows = table(a=[9.0, 0.1, 0.1, 0.1, 0.1, 0.1], b=[-9.0, 0.1, 0.1, 0.1, 0.1, 0.1])
    made = build("curate.selectors", "bees", {"margins": ("a", "b"), "rows": 6})(rows)
    assert json.loads(made["detail"][0])["value"] == pytest.approx(0.5)


def test_bees_takes_margins_of_any_size() -> None:
    small = [3.0, -4.0, 1.0, 0.5]
    rows = table(a=small, huge=[one * 1e200 for one in small], b=[1.0, 2.0, -1.0, 0.0])
    made = [
        build("curate.selectors", "bees", {"margins": (name, "b"), "rows": 2})(rows)
        for name in ("a", "huge")
    ]
    values = [[json.loads(text)["value"] for text in one["detail"]] for one in made]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert made[0]["keep"].to_list() == made[1]["keep"].to_list()


def test_length_matched_puts_a_gap_on_an_edge_into_the_upper_step() -> None:
    rows = table(chosen_length_chars=[1, 3, 7], rejected_length_chars=[0, 0, 0])
    made = build("curate.selectors", "length_matched", {"bins": 2})(rows)  # the edge is log 4
    assert [json.loads(text)["step"] for text in made["detail"]] == [0, 1, 1]


def test_length_matched_counts_no_infinite_length() -> None:
    rows = table(
        chosen_length_chars=[9.0, 1.0, math.inf], rejected_length_chars=[1.0, 9.0, math.inf]
    )
    assert reasons("length_matched", rows, bins=1) == ["matched", "matched", "not_scored"]


def test_difficulty_takes_small_gaps_not_negative_ones() -> None:
    rows = table(gap=[-5.0, 0.1, 3.0, -0.2, None])
    assert kept("difficulty", rows, by="gap", rows=2) == [1, 3]
    assert kept("difficulty", rows, by="gap", rows=2, order="signed") == [0, 3]
    assert reasons("difficulty", rows, by="gap", rows=2)[4] == "not_scored"


def test_selective_orders_from_easy_to_hard() -> None:
    rows = table(loss=[0.9, 0.1, 0.5, 0.3, None])
    made = build("curate.selectors", "selective", {"by": "loss", "fraction": 0.6})(rows)
    assert made["keep"].to_list() == [False, True, True, True, False]
    assert made["selective_order"].to_list() == [None, 1, 3, 2, None]


def test_rip_keeps_good_long_rejected_answers_that_are_near_the_chosen_one() -> None:
    rows = table(
        score_rejected=[1.0, 5.0, 5.0, 5.0, None],
        rejected_length_chars=[90, 10, 90, 90, 90],
        margin=[0.1, 0.1, 9.0, 0.1, 0.1],
    )
    found = reasons("rip", rows, min_reward=0.5, min_length=0.5, max_gap=0.5)
    assert found == ["low_reward", "short_rejected", "large_gap", "selected", "not_scored"]
    assert kept("rip", rows, min_reward=0, min_length=0, max_gap=1) == [0, 1, 2, 3]
    # the median reward of the pairs that have all three numbers is 2, of all rewards 5
    rows = table(
        score_rejected=[1.0, 2.0, 3.0, 8.0, 9.0],
        rejected_length_chars=[9, 9, 9, None, 9],
        margin=[1.0, 1.0, 1.0, 1.0, None],
    )
    assert kept("rip", rows) == [1, 2]


def test_margin_in_each_unit() -> None:
    rows = table(margin=[-1.0, 0.0, 2.0, 7.0, None], source=["a", "a", "a", "b", "b"])
    assert kept("margin", rows, min=0, max=5) == [1, 2]
    size = math.sqrt(54 / 4)
    assert kept("margin", rows, min=7 / size - 1e-9, unit="deviations") == [3]
    assert kept("margin", rows, min=0.5, unit="quantiles") == [2, 3]
    assert kept("margin", rows, min=0.5, unit="quantiles", group_by="source") == [1, 2, 3]
    tied = table(margin=[1.0, 2.0, 2.0, 3.0])  # quantiles .125, .5, .5, .875
    assert kept("margin", tied, min=0.5, max=0.5, unit="quantiles") == [1, 2]
    assert reasons("margin", rows, min=0)[0] == "below_threshold"
    with pytest.raises(UsageError, match="set min, max or both"):
        build("curate.selectors", "margin", {})
    with pytest.raises(UsageError, match="group_by is for the units"):
        build("curate.selectors", "margin", {"min": 0, "group_by": "source"})


def test_margins_in_deviations_do_not_depend_on_the_order_or_on_infinite_ones() -> None:
    margins = np.exp(3 * np.random.default_rng(0).normal(size=50))
    select = build("curate.selectors", "margin", {"min": 1, "unit": "deviations"})
    first = [json.loads(one)["value"] for one in select(table(margin=margins))["detail"]]
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(len(margins))
        other = [json.loads(one)["value"] for one in select(table(margin=margins[order]))["detail"]]
        assert [first[at] for at in order] == other
    rows = table(margin=[3.0, -4.0, 1.0, math.inf, -math.inf, None])
    size = math.sqrt(26 / 3)
    given = {"min": 3 / size - 1e-9, "unit": "deviations"}
    assert kept("margin", rows, **given) == [0]
    assert reasons("margin", rows, **given)[3:] == ["not_scored"] * 3
    huge = table(margin=[3e200, -4e200, 1e200])
    assert kept("margin", huge, **given) == [0]


def asked(prompts: list[str], **columns: object) -> pl.DataFrame:
    turns = pl.Series([[turn("user", one)] for one in prompts], dtype=TURNS)
    return table(kind=["preference"] * len(prompts), prompt=turns, **columns).with_columns(
        chosen=turns, rejected=turns
    )


def test_best_per_prompt() -> None:
    rows = asked(["A", "B", "A", "A", "B"], margin=[1.0, 2.0, 3.0, None, 2.0])
    assert reasons("best_per_prompt", rows, by="margin") == [
        *("not_best", "best", "best", "not_scored", "not_best")
    ]
    assert kept("best_per_prompt", rows, by="margin", descending=False) == [0, 1]
    assert kept("best_per_prompt", rows, by="margin", rows=2) == [0, 1, 2, 4]


def test_sweet_spot_rejects_two_deviations_below_the_mean() -> None:
    scores = [10.0, 9.0, 9.0, 9.0, 5.0, 1.0]  # μ 7.17, σ 3.18: the target is .80 at 2, 4.0 at 1
    pairs = [(a, b) for a in scores for b in scores if a > b]
    rows = table(
        score_chosen=[a for a, _ in pairs],
        score_rejected=[b for _, b in pairs],
        g=["x"] * len(pairs),
    )
    distinct = np.unique(scores)
    for deviations in (0.5, 1.0, 2.0):
        options = {"deviations": deviations, "group_by": "g"}
        (one,) = kept("sweet_spot", rows, **options)
        target = distinct.mean() - deviations * distinct.std()
        lower = distinct[distinct < 10]
        assert pairs[one] == (10.0, lower[np.abs(lower - target).argmin()])
    found = reasons("sweet_spot", rows, group_by="g")
    assert set(found) == {"sweet_spot", "not_nearest", "not_best_chosen"}


def test_sweet_spot_takes_the_best_of_all_answers_or_no_pair() -> None:
    answers = {"A": -3.0, "B": -2.0, "C": -1.0}  # by the list A is best, by the reward C
    pairs = [("A", "B"), ("A", "C"), ("B", "C")]
    turns = {
        side: pl.Series([[turn("assistant", pair[at])] for pair in pairs], dtype=TURNS)
        for at, side in enumerate(("chosen", "rejected"))
    }
    scores = {f"rm_{side}": [answers[p[at]] for p in pairs] for at, side in enumerate(turns)}
    prompt = pl.Series([[turn("user", "p")]] * 3, dtype=TURNS)
    rows = table(kind=["preference"] * 3, prompt=prompt, **turns, **scores)
    given = {"chosen": "rm_chosen", "rejected": "rm_rejected"}
    assert reasons("sweet_spot", rows, **given) == ["not_best_chosen"] * 3
    made = build("curate.selectors", "sweet_spot", {**given, "flip": True})(rows)
    # μ -2, σ √(2/3): A, at -3, is nearest to -3.63
    assert list(made["reason"]) == ["not_best_chosen", "sweet_spot", "not_nearest"]
    sides = [made[side][1][0]["content"] for side in ("chosen", "rejected")]
    assert sides == ["C", "A"]
    assert made["digest"][1] != rows["digest"][1]
    assert made["digest"][0] == rows["digest"][0]
    # the pairs score B differently, and C by its median: a pair is turned by that, not by its own
    scores = {"rm_chosen": [-3.0, -3.0, -0.5], "rm_rejected": [-2.0, -4.0, 0.0]}
    made = build("curate.selectors", "sweet_spot", {**given, "flip": True})(
        rows.with_columns(**{name: pl.Series(values) for name, values in scores.items()})
    )
    # A -3, B -1.25, C -2: the best is B; μ - 2σ is -3.52
    assert list(made["reason"]) == ["sweet_spot", "not_best_chosen", "not_nearest"]
    assert [made["chosen"][at][0]["content"] for at in range(3)] == ["B", "A", "B"]


def test_sweet_spot_keeps_no_pair_whose_rejected_answer_is_as_good() -> None:
    nan = float("nan")
    rows = table(
        score_chosen=[1.0, 2.0, math.inf, nan, 3.0],
        score_rejected=[2.0, 2.0, 1.0, 1.0, 1.0],
        g=list("abcde"),
    )
    assert reasons("sweet_spot", rows, group_by="g") == [
        *("not_best_chosen", "not_best_chosen", "not_scored", "not_scored", "sweet_spot")
    ]


def test_sweet_spot_takes_the_lower_of_two_rejected_answers_that_are_as_near() -> None:
    rows = table(score_chosen=[10.0] * 3, score_rejected=[6.0, 4.0, 0.0], g=["x"] * 3)
    assert kept("sweet_spot", rows, group_by="g", deviations=0.0) == [1]  # μ is 5


def test_places_of_each_pairing() -> None:
    scores = [3.0, None, 10.0, 1.0, 7.0, 7.0]
    assert places_of(scores, "best_worst") == [(2, 3)]
    assert places_of(scores, "adjacent") == [(2, 4), (4, 0), (0, 3)]
    assert below_mean([3, 10, 1, 7, 7]) == pytest.approx(5.6 - 2 * math.sqrt(10.24))
    assert places_of(scores, "sweet_spot") == [(2, 3)]
    every = places_of(scores, "all")
    assert len(every) == 9  # ten pairs of five answers, one of them a tie
    gaps = [scores[a] - scores[b] for a, b in every]  # type: ignore[operator]
    assert gaps == sorted(gaps)
    drawn = {places_of(scores, "best_random", str(key))[0] for key in range(40)}
    assert drawn == {(2, 0), (2, 3), (2, 4), (2, 5)}
    with pytest.raises(BadRow, match="two answers with different scores"):
        places_of([1.0, 1.0, None], "all")


def test_length_matched_evens_out_the_sign_in_every_step() -> None:
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(10, 400, 400), rng.integers(10, 200, 400)
    rows = table(chosen_length_chars=chosen, rejected_length_chars=rejected)
    made = build("curate.selectors", "length_matched", {"bins": 4})(rows)
    step = made["detail"].str.json_path_match("$.step").to_numpy()
    keep = made["keep"].to_numpy()
    sign = np.sign(np.log((chosen + 1) / (rejected + 1)))
    for one in np.unique(step):
        here = keep & (step == one)
        assert (sign[here] > 0).sum() == (sign[here] < 0).sum()
    loose = build("curate.selectors", "length_matched", {"bins": 4, "tolerance": 0.1})(rows)
    wins = sign[loose["keep"].to_numpy() & (sign != 0)] > 0
    assert 0.55 < wins.mean() <= 0.6
    assert loose["keep"].sum() > made["keep"].sum()


def test_length_matched_keeps_the_best_of_the_frequent_kind() -> None:
    rows = table(
        chosen_length_chars=[9, 9, 9, 1],
        rejected_length_chars=[1, 1, 1, 9],
        noise=[0.9, 0.1, 0.5, 0.2],
    )
    given = {"bins": 1, "by": "noise", "descending": False}
    assert kept("length_matched", rows, **given) == [1, 3]
    assert reasons("length_matched", rows, **given)[0] == "outweighed"
