"""Intervals over seeds, against scipy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from siftune.pipelines.compare import arms_table, difference, mean_interval


def test_the_interval_is_students():
    values = [0.61, 0.58, 0.66, 0.60]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    got = mean_interval(values)
    assert (got.low, got.high) == (round(low, 4), round(high, 4))


def test_one_seed_has_no_interval_and_is_not_apart():
    got = mean_interval([0.9])
    assert math.isnan(got.low)
    assert not got.apart_from_zero


def test_pairing_by_seed_removes_what_the_seeds_share():
    curated, random = {0: 0.9, 1: 0.5, 2: 0.7}, {0: 0.8, 1: 0.4, 2: 0.6}
    gap = difference(curated, random)
    assert gap.mean == pytest.approx(0.1)
    assert gap.apart_from_zero
    assert not mean_interval(list(curated.values())).low > max(random.values())


def test_arms_of_other_seeds_are_not_paired():
    with pytest.raises(ValueError, match="cannot be paired"):
        difference({0: 1.0}, {1: 1.0})


def test_the_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.3, 0.05, (2000, 5))
    inside = [mean_interval(list(row)) for row in draws]
    assert 0.93 < np.mean([i.low <= 0.3 <= i.high for i in inside]) < 0.97


def test_the_table_says_how_far_the_reference_is_ahead():
    table = arms_table({"curated": {0: 0.5, 1: 0.6}, "random": {0: 0.3, 1: 0.4}}, "curated")
    assert [line["arm"] for line in table] == ["curated", "random"]
    assert table[1]["behind"] == pytest.approx(0.2)
    assert "behind" not in table[0]
