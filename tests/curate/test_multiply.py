"""Products by our own kernel: right to rounding, and the same bits however they are cut up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.curate.comparing import shingles
from siftune.curate.native import gemm
from siftune.curate.native.gemm import Columns, is_wide, products
from siftune.curate.vectors.unit_vectors import on_grid, slack

needs_wide = pytest.mark.skipif(
    not is_wide(), reason="the processor has no 512-bit instructions: numpy's product is used"
)


def units(height: int, width: int, seed: int = 0) -> np.ndarray:
    return on_grid(np.random.default_rng(seed).normal(size=(height, width)))[0]


def in_order(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Each sum from the first to the last dimension, rounded once a step.

    In float64 the product of two float32 numbers is exact, so is the sum to 53 bits: it is rounded
    twice, to float64 and to float32, which is rounding once but in the rarest case.
    """
    found = np.zeros((len(left), len(right)), np.float32)
    for k in range(left.shape[1]):
        step = np.outer(left[:, k].astype(float), right[:, k].astype(float))
        found = (found.astype(float) + step).astype(np.float32)
    return found


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 20), st.integers(0, 140), st.integers(0, 33), st.booleans())
def test_any_shape_is_multiplied(height: int, count: int, width: int, double: bool) -> None:
    kind = np.float64 if double else np.float32
    random = np.random.default_rng(height * 1000 + count)
    left = random.integers(-8, 9, size=(height, width)).astype(kind)
    right = random.integers(-8, 9, size=(count, width)).astype(kind)
    found = products(left, right)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, left @ right.T)


@needs_wide
def test_each_sum_is_made_from_the_first_dimension_to_the_last() -> None:
    left, right = units(50, 384), units(70, 384, seed=1)
    assert (products(left, right) == in_order(left, right)).mean() > 0.9999


@needs_wide
def test_the_bits_do_not_depend_on_what_stands_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = units(300, 100), units(200, 100, seed=1)
    whole = products(left, right)
    np.testing.assert_array_equal(products(right, left).T, whole)
    np.testing.assert_array_equal(products(left[17:18], right[5:77]), whole[17:18, 5:77])
    monkeypatch.setattr(gemm, "_MIN_FOR_THREADS", 0)
    monkeypatch.setattr(gemm, "threads", lambda: 3)
    np.testing.assert_array_equal(products(left, right), whole)


def test_rows_that_do_not_lie_one_after_the_other_in_memory() -> None:
    left, right = units(40, 30), units(50, 30, seed=1)
    backwards = np.asfortranarray(left)[::-1]
    np.testing.assert_allclose(products(backwards, right), left[::-1] @ right.T, atol=1e-6)
    np.testing.assert_allclose(products(left, right[::2]), left @ right[::2].T, atol=1e-6)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("many", [1, 4])
@pytest.mark.parametrize("bound", [-1.0, 0.05, 0.3, 2.0])
def test_what_reaches_a_bound_comes_by_row_then_column(
    wide: bool, many: int, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wide and not is_wide():
        pytest.skip("the processor has no 512-bit instructions")
    monkeypatch.setattr(gemm, "is_wide", lambda: wide)
    monkeypatch.setattr(gemm, "_MIN_FOR_THREADS", 0)
    monkeypatch.setattr(gemm, "threads", lambda: many)
    left, right = units(131, 48), units(333, 48, seed=1)
    columns = Columns(right)
    row, column = columns.above(left, bound)
    expected = np.nonzero(columns.of(left) >= np.float32(bound))
    np.testing.assert_array_equal(row, expected[0])
    np.testing.assert_array_equal(column, expected[1])


def test_products_of_units_are_within_the_bound_that_is_counted_on() -> None:
    left, right = units(200, 384), units(200, 384, seed=1)
    exact = left.astype(float) @ right.astype(float).T
    assert np.abs(products(left, right) - exact).max() < slack(384) / 10


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert shingles.threads() == 1
    assert [part.stop - part.start for part in gemm._parts(100, 1)] == [100]
    assert [part.stop - part.start for part in gemm._parts(100, 4)] == [30, 30, 30, 10]
