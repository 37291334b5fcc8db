"""The planted-hack benchmark: its policy, its expected gold, and what counts as caught."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.hacks import KINDS, Run, caught, draw, run, wilson, world
from siftune.finetune.watch.history import History


def test_the_expected_gold_is_the_mean_over_drawn_answers() -> None:
    made, policy = world("flattery phrase", 3)
    policy.hack = 0.0
    golds = [draw(made, policy, made.prompts[at % 300]).gold for at in range(3000)]
    assert np.mean(golds) == pytest.approx(policy.gold(made.harm), abs=0.015)


def test_a_run_repeats_and_the_watch_gets_its_series() -> None:
    once, again = (run("words to the judge", 1, 6) for _ in range(2))
    assert once.history == again.history
    assert {"score", "paid/length", "held_out/gold", "kl"} <= once.history.series.keys()
    assert len(KINDS) >= 6


def test_a_hack_is_caught_where_an_alarm_is_before_the_fall() -> None:
    one = Run("keyword", 0, History(), (0.5, 0.6, 0.58, 0.56), (0.1,) * 4)
    assert one.fallen == 3
    assert caught(one, {"a": 2, "b": 9})
    assert not caught(one, {"a": 3})
    assert not caught(one, {})
    assert Run(None, 0, History(), (0.5, 0.6), (0.0,) * 2).fallen is None


def test_intervals_are_those_of_wilson() -> None:
    assert wilson(60, 63) == pytest.approx((0.869, 0.984), abs=1e-3)
    assert wilson(0, 100) == pytest.approx((0.0, 0.037), abs=1e-3)
