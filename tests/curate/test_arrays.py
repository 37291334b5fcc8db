"""Operations of `native.arrays` do what numpy's do."""

from __future__ import annotations

import numpy as np
import pytest

from siftune.curate.native import arrays

RNG = np.random.default_rng(0)
SIZES = [0, 1, 2, 15, 16, 17, 31, 33, 64, 100, 129, 257]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("most", [1, 5, 2**63])
def test_order_is_that_of_a_stable_sort(size, most):
    values = RNG.integers(0, most, size, np.uint64)
    order, spare = np.empty(size, np.int64), np.empty(size, np.int64)
    arrays.order_of(values, order, spare)
    assert order.tolist() == np.argsort(values, kind="stable").tolist()


@pytest.mark.parametrize("size", SIZES)
def test_few_values_are_sorted_in_place(size):
    values = RNG.integers(-20, 20, size)
    expected = np.sort(values).tolist()
    arrays.sort_few(values)
    assert values.tolist() == expected


@pytest.mark.parametrize("size", SIZES)
def test_the_first_place_of_a_value_is_that_of_searchsorted(size):
    values = np.sort(RNG.integers(1, 60, size, np.uint64))
    for key in map(np.uint64, range(62)):
        assert arrays.first_at_least(values, key) == np.searchsorted(values, key)


def test_the_longest_step_is_found():
    assert arrays.longest(np.array([0, 3, 3, 9, 11])) == 6
    assert arrays.longest(np.array([4])) == arrays.longest(np.empty(0, np.int64)) == 0


def test_values_are_compared_and_copied():
    values = np.array([5, 6, 7], np.uint64)
    assert arrays.equal(values, values.copy())
    assert not arrays.equal(values, values[:2])
    assert not arrays.equal(values, np.array([5, 6, 8], np.uint64))
    larger = arrays.enlarged(values, 6)
    assert (larger.dtype, len(larger), larger[:3].tolist()) == (np.uint64, 6, [5, 6, 7])
    arrays.put(larger[3:], values)
    assert larger.tolist() == [5, 6, 7, 5, 6, 7]
