"""Sequential tests: against plain loops, Student's t, and their stated false alarm rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from siftune.finetune.watch.evidence import (
    Evidence,
    all_of,
    any_of,
    drift,
    e_process,
    errors_of,
    lag,
    level,
    z_of,
)
from siftune.finetune.watch.history import Point

BETS = (0.25, 0.5, 1.0, 2.0)


def slowly(z: list[float | None]) -> list[float]:
    """The evidence as its definition has it: an average over starts and bets."""
    found = []
    for end in range(1, len(z) + 1):
        weights = {j: j**-0.25 - (j + 1) ** -0.25 for j in range(1, end + 1)}
        total = 1 - sum(weights.values())
        for j in range(1, end + 1):
            for bet in BETS:
                factors = (
                    math.exp(bet * min(one, 3.0) - bet**2 / 2)
                    for one in z[j - 1 : end]
                    if one is not None
                )
                total += math.prod(factors) / len(BETS) * weights[j]
        found.append(math.log(total))
    return found


def test_evidence_is_the_average_over_starts_and_bets() -> None:
    z = [0.3, None, -1.2, 4.5, 2.2, -0.4, None, 3.1]
    log_e, since = e_process(z)
    assert log_e.tolist() == pytest.approx(slowly(z))
    assert since[-1] == 3
    assert e_process([])[1] == []


def test_false_alarms_are_at_most_as_many_as_stated_and_a_change_is_found() -> None:
    drawn = np.random.default_rng(7).normal(size=(300, 120))
    limit = level(0.05, 1)
    alarms = [e_process(row.tolist())[0].max() >= limit for row in drawn]
    assert np.mean(alarms) <= 0.05
    drawn[:, 60:] += 1.0
    late = [np.flatnonzero(e_process(row.tolist())[0] >= limit)[:1] for row in drawn[:50]]
    assert np.mean([len(one) and 60 <= one[0] < 90 for one in late]) >= 0.9


def test_no_single_step_raises_an_alarm() -> None:
    assert all(e_process([0.0] * n + [99.0])[0].max() < level(0.05, 10) for n in (0, 1, 5, 30))


@pytest.mark.parametrize(("t", "count"), [(1.3, 4), (-2.5, 8), (3.7, 16), (2.0, 64)])
def test_means_of_few_answers_have_the_z_of_the_same_tail(t: float, count: int) -> None:
    exact = stats.norm.isf(stats.t.sf(t, count - 1))
    assert z_of(t, count) == pytest.approx(exact, rel=0.03)


def points(means: list[float], error: float | None = 0.1, count: int = 1000) -> list[Point]:
    return [Point(10 * at, mean, error, count) for at, mean in enumerate(means)]


def test_a_drift_is_measured_from_the_start_with_its_doubt_and_room() -> None:
    given = points([1.0, 1.2, 0.9, 1.1, 1.9, 2.3, 2.8])
    limits = [None]
    for at in range(1, 7):
        base = max(at // 3, 1)
        start = sum([1.0, 1.2, 0.9][:base]) / base
        limits.append(start + 0.2 + 0.1 * start + 2 * 0.1 * math.sqrt(base) / base)
    z = [None] + [z_of((given[i].mean - limits[i]) / 0.1, 1000) for i in range(1, 7)]
    found = drift(given, room=0.2, relative=0.1)
    assert found.log_e.tolist() == pytest.approx(e_process(z)[0].tolist())
    assert (found.first(3.0), found.since[-1]) == (5, 40)
    down = drift([Point(p.step, -p.mean, 0.1, 1000) for p in given], 0.2, 0.1, down=True)
    assert down.log_e.tolist() == pytest.approx(found.log_e.tolist())
    assert drift(given, room=5.0).log_e.max() < 0.1
    assert drift([Point(0, 0.5, 0.1, 9)], start=0.0).log_e[0] > drift(given[:1]).log_e[0]


def test_a_series_without_standard_errors_is_measured_by_its_own_differences() -> None:
    noise = np.random.default_rng(0).normal(size=40)
    flat = points((10 + noise).tolist(), None, 0)
    assert drift(flat).log_e.max() < level(0.05, 1)
    high = points((10 + noise + 6 * (np.arange(40) > 20)).tolist(), None, 0)
    found = drift(high)
    at = found.first(level(0.05, 1))
    assert at is not None
    assert 21 <= at < 26


def test_a_follower_that_stalls_while_the_leader_gains_is_found_and_one_that_follows_is_not() -> (
    None
):
    draw = np.random.default_rng(3).normal(scale=0.1, size=(2, 60))
    rise = np.arange(60) * 0.05
    leader = points((rise + draw[0]).tolist(), count=100)
    follows = points((0.5 * rise + draw[1]).tolist(), count=100)
    stalls = points((np.minimum(0.5 * rise, 0.7) + draw[1]).tolist(), count=100)
    limit = level(0.05, 1)
    assert lag(leader, follows, 0.4).first(limit) is None
    at = lag(leader, stalls, 0.4).first(limit)
    assert at is not None
    assert at > 28
    falls = points((0.7 - 0.5 * np.maximum(rise - 1, 0) + draw[1]).tolist(), count=100)
    assert lag(points([0.0] * 60), falls, 0.2).first(limit) is not None  # whatever the leader does


def test_a_follower_does_not_have_to_fall_with_its_leader() -> None:
    noise = np.random.default_rng(6).normal(scale=0.1, size=60)
    leader = points((-0.3 * np.arange(60)).tolist(), count=100)
    flat = points(noise.tolist(), count=100)
    assert lag(leader, flat, 0.2).log_e.max() < level(0.05, 1)
    falls = points((-0.05 * np.arange(60) + noise).tolist(), count=100)
    assert lag(leader, falls, 0.5).first(level(0.05, 1)) is not None  # and is no excuse for it


def test_the_error_of_a_point_without_one_is_of_those_before_it_and_a_share_of_0_has_one() -> None:
    noise = np.random.default_rng(0).normal(size=30).tolist()
    given = points(noise, None, 0)
    found = errors_of(given)
    assert found[:6] == [None] * 6
    differences = np.abs(np.diff(noise[:12]))
    assert found[12] == pytest.approx(1.4826 * np.median(differences) / math.sqrt(2))
    assert errors_of([*given[:13], *points([99.0] * 17, None, 0)])[:13] == found[:13]
    assert errors_of([Point(0, 1.0, 0.0, 8)]) == [0.5 / 8]


def test_the_level_is_shared_by_all_tests() -> None:
    assert level(0.05, 10) == pytest.approx(math.log(200))


def test_evidence_of_two_things_is_the_least_and_of_one_of_them_the_mean() -> None:
    one = Evidence([1, 2, 3], np.array([0.0, 4.0, 5.0]), [1, 2, 2])
    other = Evidence([2, 4], np.array([1.0, 6.0]), [2, 3])
    both = all_of(one, other)
    assert (list(both.steps), both.log_e.tolist(), both.since[-1]) == (
        [1, 2, 3, 4],
        [0, 1, 1, 5],
        3,
    )
    either = any_of(one, other)
    assert either.log_e[3] == pytest.approx(math.log((math.exp(5) + math.exp(6)) / 2))
    assert (either.since[3], either.since[1]) == (3, 2)
