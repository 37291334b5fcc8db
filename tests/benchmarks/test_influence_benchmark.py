"""Influence beside true leave-one-out on a tiny language model, and the rows of the benchmark."""

from __future__ import annotations

import pytest

from benchmarks import influence


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sft", "dpo"])
def test_products_order_rows_as_leaving_each_out_does(loss: influence.Loss) -> None:
    """Plain gradients to the first order; a step of Adam is not the share of a row in a batch."""
    for seed in (0, 1):
        found = influence.correlations(seed, loss, rows=32, targets=8, lr=2e-5)
        assert found["sgd: product"] >= 0.9
        assert found["adam: product"] >= 0.5
        assert found["adam: cosine (LESS)"] >= 0.5


@pytest.mark.parametrize("loss", ["sft", "dpo"])
def test_made_up_rows_are_distinct_and_drawn_by_the_seed(loss: influence.Loss) -> None:
    rows = influence.made_up(48, 3, loss)
    assert len({str(row) for row in rows}) == 48
    assert rows != influence.made_up(48, 4, loss)
    of_one_task = influence.made_up(8, 3, loss, task=0)
    assert all("colour" in str(row) for row in of_one_task)
