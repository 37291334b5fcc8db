"""MTLD by hand, HD-D by the hypergeometric distribution of scipy, distinct-n by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import hypergeom

from siftune.curate.scorers.lexical_diversity import LexicalDiversity, _factors
from tests.contracts.test_scorers import table, turn


def measured(*texts: str) -> dict[str, list[float | None]]:
    chats = [[turn("user", "Q"), turn("assistant", text)] for text in texts]
    found = LexicalDiversity()(table("conversation", messages=chats))
    return {one.name.removeprefix("lexical_diversity_"): one.to_list() for one in found}


def test_mtld_by_hand() -> None:
    found = measured("A b, a b a B.", "a b a b a b a", "a b c a", "a b c d", "a a")
    assert found["mtld"] == [
        3.0,  # a b a is 2/3, below .72: two factors of three words, both ways
        3.5,  # the seventh word begins a part in which nothing is repeated
        pytest.approx(4 / (0.25 / 0.28)),  # 3/4 is not below .72: the rest is .893 of a factor
        None,
        2.0,  # 1/2 after two words
    ]


def test_a_share_of_72_percent_ends_no_factor() -> None:
    words = [*(f"w{at}" for at in range(18)), *["w0"] * 7, "new"]  # 18/25, then 19/26
    assert _factors(words) == pytest.approx((1 - 19 / 26) / 0.28)


def test_hdd_is_the_expected_share_of_distinct_words_among_42() -> None:
    words = [f"w{at * at % 17}" for at in range(60)]
    total, counts = len(words), Counter(words)
    expected = sum(1 - hypergeom.pmf(0, total, count, 42) for count in counts.values()) / 42
    found = measured(" ".join(words), " ".join(words[:42]), " ".join(words[:41]))
    assert found["hdd"] == [
        pytest.approx(expected, rel=1e-12),
        pytest.approx(len(set(words[:42])) / 42),  # all of them are drawn
        None,
    ]


def test_distinct_n_by_hand() -> None:
    found = measured("the cat the cat sat", "one", "")
    assert found["distinct_1"] == [pytest.approx(3 / 5), 1.0, None]
    assert found["distinct_2"] == [pytest.approx(3 / 4), None, None]
    assert found["distinct_3"] == [1.0, None, None]
