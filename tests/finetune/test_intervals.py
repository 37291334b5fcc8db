"""Intervals of evaluation metrics."""

from __future__ import annotations

import numpy as np
import pytest

from siftune.finetune.core.intervals import (
    as_text,
    bootstrap_interval,
    with_crossed_interval,
    with_interval,
)


def test_the_interval_of_independent_values_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 400)
    low, high = bootstrap_interval(values.tolist(), range(400))
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.06)
    assert high == pytest.approx(values.mean() + half, abs=0.06)


def test_values_of_one_prompt_count_as_one_draw() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 50)
    alone = bootstrap_interval(values.tolist(), range(50))
    ten_times = bootstrap_interval(np.repeat(values, 10).tolist(), np.repeat(range(50), 10))
    assert ten_times == pytest.approx(alone)


def test_weights_are_those_of_the_mean() -> None:
    found = with_interval("loss", [1.0, 3.0], ["a", "b"], [3.0, 1.0])
    assert found == {"loss": 1.5, "loss_low": 1.0, "loss_high": 3.0}


def test_both_sides_of_crossed_pairs_vary() -> None:
    """Good answers are alike and bad ones differ, or the other way round: a binomial share."""
    good, bad = range(60), range(100, 140)
    pairs = [(one, other) for one in good for other in bad]
    for side, count in ((0, 60), (1, 40)):
        right = [float(pair[side] % 2) for pair in pairs]
        found = with_crossed_interval("auc", right, *zip(*pairs, strict=True))
        half = 1.96 * 0.5 / count**0.5
        ends = [found[name] for name in ("auc", "auc_low", "auc_high")]
        assert ends == pytest.approx([0.5, 0.5 - half, 0.5 + half], abs=0.02)
    assert with_crossed_interval("auc", [1.0, 0.0], ["a", "b"], ["c", "c"]) == {"auc": 0.5}


def test_one_prompt_alone_has_no_interval() -> None:
    assert with_interval("reward", [1.0, 0.0], ["a", "a"]) == {"reward": 0.5}


def test_metrics_without_an_interval_are_shown_alone() -> None:
    assert as_text({"tokens": 3.0, "x_low": 1.0}) == {"tokens": "3", "x_low": "1"}
