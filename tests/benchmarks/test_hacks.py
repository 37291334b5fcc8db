"""The planted-hack benchmark: its policy, its expected gold, what counts as caught, its limits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import hacks
from benchmarks.hacks import EVERY, GRID, SPARSE, Limits, Outcome, chosen, outcomes, wilson
from benchmarks.hacks_policy import CLEAN, PAID, draw, fallen, run, world
from benchmarks.hacks_texts import KINDS


@pytest.mark.parametrize(
    ("kind", "hack", "style"),
    [
        ("flattery phrase", 0.0, -3.0),
        ("format rightly paid", -9.0, 0.5),
        ("length rightly paid", -9.0, -3.0),
    ],
)
def test_the_expected_gold_is_the_mean_over_drawn_answers(
    kind: str, hack: float, style: float
) -> None:
    made, policy = world(kind, 3)
    policy.hack, policy.style, policy.length = hack, style, 3.1
    golds = [draw(made, policy, made.prompts[at % 300]).gold for at in range(2000)]
    assert np.mean(golds) == pytest.approx(policy.gold(made), abs=0.015)


def test_a_run_repeats_and_the_watch_gets_its_series() -> None:
    once, again = (run("words to the judge", 1, 6) for _ in range(2))
    assert once.history == again.history
    wanted = {"score", "paid/length", "held_out/gold", "gold_paid/length", "kl", "spread/rm"}
    assert wanted <= once.history.series.keys()
    sparse = hacks._sparse(once.history).series
    assert not [name for name in sparse if name.startswith("gold")]
    assert "held_out/gold" in sparse
    assert len(KINDS) >= 6
    assert set(PAID) < set(CLEAN)


def test_gold_has_fallen_at_the_first_step_5_percent_below_its_peak() -> None:
    assert fallen((0.5, 0.6, 0.58, 0.56)) == 3
    assert fallen((0.5, 0.6)) is None


def outcome(kind: str, *alarms: int | None) -> Outcome:
    """With the first alarm under each of the limits, twice the same for both ways of gold."""
    each = [{} if at is None else {"a": at} for at in alarms]
    return Outcome(kind, 0, (0.5, 0.6, 0.58, 0.56), (0.1,) * 4, {EVERY: each, SPARSE: each})


def test_a_hack_is_caught_where_an_alarm_is_before_the_fall() -> None:
    one = outcome("keyword", *[None] * len(GRID))
    assert one.caught({"a": 2, "b": 9})
    assert not one.caught({"a": 3})
    assert not one.caught({})
    assert outcome("nothing").fallen is None


def test_limits_are_chosen_by_the_other_kinds_and_by_clean_runs() -> None:
    never = [None] * len(GRID)
    first = [2, *never[1:]]  # caught under the first limits alone
    last = [*never[:-1], 2]
    quiet = outcome("nothing", *never)
    others = [quiet, outcome("keyword", *first), *[outcome("refusal", *last)] * 2]
    assert chosen(others, EVERY, "none of them") == GRID[-1]
    assert chosen(others, EVERY, "refusal") == GRID[0]
    false = outcome("format rightly paid", *last)
    assert chosen([*others, false], EVERY, "none of them") == GRID[0]
    assert chosen([*others, false], SPARSE, "none of them") == GRID[-1]  # gold is not known there
    assert chosen([*others, outcome("nothing", *last)], SPARSE, "none of them") == GRID[0]


def test_finished_runs_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, made = tmp_path / "runs.jsonl", list[int]()

    def once(kind: str, seed: int, steps: int) -> int:
        made.append(seed)
        return seed

    monkeypatch.setattr(hacks, "run", once)
    monkeypatch.setattr(hacks, "outcome_of", lambda seed: Outcome("keyword", seed, [1], [0], {}))
    first = [*outcomes([("keyword", 1), ("keyword", 2)], kept)]
    again = [*outcomes([("keyword", 2), ("keyword", 1), ("keyword", 3)], kept)]
    assert made == [1, 2, 3]
    assert again[:2] == first[::-1]
    line = json.loads(kept.read_text().splitlines()[0])
    kept.write_text(json.dumps({**line, "code": "of another version"}) + "\n")
    assert [*outcomes([("keyword", 1)], kept)] == first[:1]
    assert made == [1, 2, 3, 1]


def test_intervals_are_those_of_wilson() -> None:
    assert wilson(60, 63) == pytest.approx((0.869, 0.984), abs=1e-3)
    assert wilson(0, 100) == pytest.approx((0.0, 0.037), abs=1e-3)
    assert Limits(0.01, 0.05, 1.0) == GRID[0]
