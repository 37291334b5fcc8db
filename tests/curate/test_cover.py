"""The cover rule and the join that finds pairs for it, against all pairs counted one by one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.curate.comparing.shingle_sets import Sets
from siftune.curate.comparing.shingles import shingle
from siftune.curate.dedup.candidate_filter import candidates
from siftune.curate.dedup.group_cover import cover_groups
from siftune.curate.dedup.prefix_filter import exact_ratio
from tests.curate.cover_rule import Pairs, as_dict, slow_cover


def grams(text: str, ngram: int) -> frozenset[tuple[str, ...]]:
    words = text.split()
    size = min(ngram, len(words))
    return frozenset(tuple(words[i : i + size]) for i in range(len(words) - size + 1) if words)


def jaccard_pairs(texts: Sequence[str], ngram: int, threshold: Fraction) -> Pairs:
    sets = [grams(text, ngram) for text in texts]
    found = {}
    for i, x in enumerate(sets):
        for j, y in enumerate(sets):
            if i != j and x | y and Fraction(len(x & y), len(x | y)) >= threshold:
                found[i, j] = Fraction(len(x & y), len(x | y))
    return found


def fast_cover(
    texts: Sequence[str],
    ngram: int,
    threshold: Fraction,
    order: Sequence[int],
    fixed: int = 0,
    few: int = 32,
) -> dict[int, tuple[int, float]]:
    """`cover_groups` in the row numbers of ``texts``."""
    made = Sets(*shingle(pl.Series(texts, dtype=pl.String), ngram))
    rows, group, _ = candidates(made, threshold)
    at = {row: i for i, row in enumerate(rows.tolist())}
    places = np.array([at[row] for row in order if row in at], np.int64)
    still = sum(row in at for row in order[:fixed])
    found = as_dict(cover_groups(made, rows, group, places, still, threshold, few))
    return {int(rows[x]): (int(rows[y]), value) for x, (y, value) in found.items()}


def edited_texts(random: Random, count: int) -> list[str]:
    """Texts around a few bases, from copies to strangers, over a small or large vocabulary."""
    size = random.choice([3, 12, 1000])
    bases = [[random.randrange(size) for _ in range(random.randrange(45))] for _ in range(6)]
    texts = []
    for _ in range(count):
        words = list(random.choice(bases))
        for _ in range(random.randrange(4)):
            words.insert(random.randrange(len(words) + 1), random.randrange(size))
            del words[random.randrange(len(words))]
        texts.append(" ".join(f"w{word}" for word in words))
    return texts


@settings(deadline=None, max_examples=25)
@given(
    random=st.randoms(use_true_random=False),
    ngram=st.sampled_from([1, 2, 5]),
    threshold=st.sampled_from([0.2, 0.5, 0.7, 0.8, 0.9, 1.0]),
    fixed=st.sampled_from([0, 0, 20]),
    few=st.sampled_from([0, 5, 60]),
)
def test_the_join_finds_what_comparing_all_pairs_finds(
    random: Random, ngram: int, threshold: float, fixed: int, few: int
) -> None:
    """Whether none, some or all groups are small enough to hold each text against all others."""
    texts = edited_texts(random, 60)
    order = random.sample(range(60), 60)
    ratio = exact_ratio(threshold)
    expected = slow_cover(jaccard_pairs(texts, ngram, ratio), order, fixed)
    assert fast_cover(texts, ngram, ratio, order, fixed, few) == expected


def test_three_hundred_texts_are_covered_as_by_all_pairs() -> None:
    texts = edited_texts(Random(5), 300)
    ratio = exact_ratio(0.7)
    expected = slow_cover(jaccard_pairs(texts, 3, ratio), range(300))
    assert len(expected) > 50
    assert fast_cover(texts, 3, ratio, range(300)) == expected


@pytest.mark.parametrize(("threshold", "drops"), [(0.5, True), (0.51, False)])
def test_a_tie_with_the_threshold_is_decided_in_integers(threshold: float, drops: bool) -> None:
    """{a, b, c} and {a, b, d}: 2 of 4 shared."""
    found = fast_cover(["a b c", "a b d"], 1, exact_ratio(threshold), [0, 1])
    assert found == ({1: (0, 0.5)} if drops else {})


def test_seven_tenths_is_seven_tenths() -> None:
    """7 of 10 shared: 0.7 in binary is a little less, 0.7 as 7/10 is a tie."""
    texts = ["a b c d e f g h", "a b c d e f g x y"]
    assert fast_cover(texts, 1, exact_ratio(0.7), [0, 1]) == {1: (0, 0.7)}


def test_a_chain_is_covered_by_its_ends_not_swallowed() -> None:
    """1-2 and 2-3 are pairs, 1-3 is not: 2 goes, and 3, which no survivor resembles, stays."""
    texts = ["a b c d e f", "c d e f g h", "e f g h i j"]
    assert fast_cover(texts, 1, exact_ratio(0.5), [0, 1, 2]) == {1: (0, 0.5)}


def test_the_most_similar_survivor_is_named_and_of_equals_the_better() -> None:
    texts = ["a b c d e x y z", "a b c d e f y z", "a b c d e f g z"]
    for order, survivor in (([0, 1, 2], 0), ([1, 0, 2], 1), ([2, 0, 1], 2)):
        found = fast_cover(texts, 1, exact_ratio(0.6), order)
        assert {by for by, _ in found.values()} == {survivor}


def test_texts_that_share_all_but_a_few_words_are_covered_as_by_all_pairs() -> None:
    """Each would meet nearly all others under common shingles: they are held against all."""
    random, template = Random(8), [f"t{i}" for i in range(60)]
    texts = []
    for _ in range(150):
        words = [random.choice("abcde") if random.random() < 0.06 else word for word in template]
        texts.append(" ".join(words[: random.choice([55, 60])]))
    for threshold in (0.5, 0.7, 0.9):
        ratio = exact_ratio(threshold)
        expected = slow_cover(jaccard_pairs(texts, 3, ratio), range(150))
        assert 5 < len(expected) < 149
        assert fast_cover(texts, 3, ratio, range(150)) == expected


@settings(deadline=None, max_examples=60)
@given(
    random=st.randoms(use_true_random=False),
    threshold=st.sampled_from([0.3, 0.5, 0.7, 0.9]),
    crowd=st.sampled_from([0, 1, 3, 256]),
)
def test_no_text_with_a_neighbour_is_sieved_out_and_neighbours_are_in_one_group(
    random: Random, threshold: float, crowd: int
) -> None:
    """Hashes of few upper halves: many fall together there, and whole ones are repeated."""
    pool = [(random.randrange(40) << 58) + low for low in range(60)]
    bases = [random.sample(pool, random.randrange(1, 30)) for _ in range(5)]
    texts = []
    for _ in range(40):
        text = list(random.choice(bases))
        text[random.randrange(len(text))] = random.choice(pool)
        texts.append(text + random.choices(text, k=random.randrange(3)))
    sets = [frozenset(text) for text in texts]
    pairs = {
        (i, j)
        for i, x in enumerate(sets)
        for j, y in enumerate(sets)
        if i != j and Fraction(len(x & y), len(x | y)) >= exact_ratio(threshold)
    }
    ends = np.cumsum([0, *map(len, texts)])
    made = Sets(np.array([value for text in texts for value in text], np.uint64), ends)
    rows, group, empty = candidates(made, exact_ratio(threshold), crowd)
    groups = dict(zip(rows.tolist(), group.tolist(), strict=True))
    assert all(groups[i] == groups[j] for i, j in pairs)
    assert not len(empty)


def test_texts_that_share_no_more_than_a_part_are_sieved_out() -> None:
    """3 of 7 shingles shared, all else of their own; and a text that shares with two, not one."""
    texts = ["a b c d", "a b c e", "p q r s", "p q x y", "r s x y"]
    made = Sets(*shingle(pl.Series(texts), 1))
    assert candidates(made, exact_ratio(0.7))[0].tolist() == []
    assert candidates(made, exact_ratio(0.5))[0].tolist() == [0, 1]


def test_copies_of_one_text_do_not_cost_their_square() -> None:
    """All pairs of 20,000 would take minutes; each meets the one survivor only."""
    texts = ["the same answer to every question there is"] * 20_000
    found = fast_cover(texts, 5, exact_ratio(0.7), range(20_000))
    assert set(found.values()) == {(0, 1.0)}
    assert len(found) == 19_999


def test_nothing_is_covered_by_nothing() -> None:
    assert fast_cover([], 5, exact_ratio(0.7), []) == {}
