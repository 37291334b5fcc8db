"""Planted biases and agreements of simulated judges are measured; coverage of the intervals.

A world draws one data set and gives each estimate beside the planted value; an interval has to hold
that value in about 95 % of the draws. `pytest -m slow tests/curate/test_judge_coverage.py -s`
prints the table of 1,000 draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from siftune.curate.judge_stats.agreement import (
    accuracy,
    cohen_kappa,
    kendall_tau,
    krippendorff_alpha,
    spearman,
)
from siftune.curate.judge_stats.biases import length_bias, position_bias, self_preference
from siftune.curate.judge_stats.calibration import brier, rms_calibration_error
from siftune.curate.judge_stats.intervals import Estimate, mean
from siftune.curate.judge_stats.logistic import length_controlled_win_rate, length_feature
from siftune.curate.judge_stats.win_rates import prediction_powered, rogan_gladen, win_rate

Draw = Callable[[np.random.Generator], dict[str, tuple[Estimate, float]]]
RIGHT = 0.85
"""How often a simulated judge answers by the true quality, where nothing else moves it."""


def noisy(truth: np.ndarray, rng: np.random.Generator, right: float = RIGHT) -> np.ndarray:
    return np.where(rng.random(truth.size) < right, truth, 1 - truth)


def wins_of_prompts(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
    """Three pairs a prompt, whose prompts differ: the mean win rate is 0.6, with ties."""
    prompts = np.repeat(np.arange(80), 3)
    chance = np.repeat(rng.beta(3, 2, 80), 3)
    wins = (rng.random(240) < chance).astype(float)
    wins[rng.random(240) < 0.2] = 0.5
    words = np.exp(np.repeat(rng.normal(4, 0.4, 80), 3) + rng.normal(0, 0.5, 240))
    return {
        "win rate, 80 prompts": (win_rate(wins, prompts), 0.8 * 0.6 + 0.1),
        "mean length, 80 prompts": (mean(words, prompts), np.exp(4 + (0.4**2 + 0.5**2) / 2)),
    }


def positions(planted: float) -> Draw:
    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        better = (rng.random(200) < 0.5).astype(float)
        forward, swapped = noisy(better, rng), noisy(better, rng)
        forward[rng.random(200) < planted] = 1.0
        swapped[rng.random(200) < planted] = 0.0
        found = position_bias(forward, swapped)
        first_twice = second_twice = 0.0
        for right in (RIGHT, 1 - RIGHT):
            a_first, a_second = planted + (1 - planted) * right, (1 - planted) * right
            first_twice += a_first * (1 - a_second) / 2
            second_twice += (1 - a_first) * a_second / 2
        return {
            f"position bias {planted:.0%}": (found.bias, planted),
            f"inconsistent at {planted:.0%}": (found.inconsistent, first_twice + second_twice),
            f"first twice at {planted:.0%}": (found.first_twice, first_twice),
            f"second twice at {planted:.0%}": (found.second_twice, second_twice),
        }

    return draw


def lengths(planted: float) -> Draw:
    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        own, other = rng.lognormal(5, 0.6, (2, 300))
        gold = rng.choice([0.0, 0.5, 1.0], 300, p=[0.4, 0.2, 0.4])
        odds = planted * length_feature(own, other)
        wins = rng.random(300) < 1 / (1 + np.exp(-odds - 1.5 * (2 * gold - 1)))
        against = rng.random(300) < 1 / (1 + np.exp(-odds - 0.4))
        rate, slope = length_controlled_win_rate(against, own, other)
        return {
            f"length coefficient {planted}": (length_bias(wins, own, other, gold), planted),
            f"length-controlled win rate, {planted}": (rate, 1 / (1 + np.exp(-0.4))),
            f"its length coefficient {planted}": (slope, planted),
        }

    return draw


def kin(planted: float) -> Draw:
    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        gold = rng.choice([0.5, 1.0, 0.0], 300, p=[1 / 3, 0.4, 4 / 15])
        seen = np.where(gold == 0.5, rng.integers(0, 2, 300), gold)
        own = noisy(seen, rng)
        own[rng.random(300) < planted] = 1.0
        found = self_preference(own, gold)
        rest = 1 - planted
        by_truth = {0.5: 0.5, 1.0: RIGHT, 0.0: 1 - RIGHT}
        rates = {truth: planted + rest * p for truth, p in by_truth.items()}
        judged = (100 * rates[0.5] + 120 * rates[1.0] + 80 * rates[0.0]) / 300
        assert found.ability is not None
        return {
            f"self-preference {planted:.0%}": (found.bias, planted),
            f"excess at {planted:.0%}": (found.excess, judged - (50 + 120) / 300),
            f"ability at {planted:.0%}": (
                found.ability,
                (120 * rates[1.0] + 80 * (1 - rates[0.0])) / 200,
            ),
        }

    return draw


def corrected(rate: float) -> Draw:
    """600 rows, 120 with gold labels; sensitivity 0.9, specificity 0.75."""

    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        truth = (rng.random(600) < rate).astype(float)
        right = rng.random(600) < np.where(truth == 1, 0.9, 0.75)
        judge = np.where(right, truth, 1 - truth)
        gold = np.where(np.arange(600) < 120, truth, np.nan)
        graded = np.clip(truth * 0.4 + rng.random(600) * 0.6, 0, 1)
        few = np.where(np.arange(600) < 40, truth, np.nan)
        return {
            f"Rogan-Gladen, {rate}": (rogan_gladen(judge, gold), rate),
            f"prediction-powered, {rate}": (prediction_powered(judge, gold), rate),
            f"prediction-powered λ = 1, {rate}": (prediction_powered(judge, gold, power=1), rate),
            f"prediction-powered, graded, 40 gold, {rate}": (prediction_powered(graded, few), rate),
        }

    return draw


def corrected_by_prompts(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
    """Four answers a prompt: quality and errors are shared within a prompt."""
    prompts = np.repeat(np.arange(150), 4)
    truth = (rng.random(600) < np.repeat(rng.beta(3, 2, 150), 4)).astype(float)
    right = rng.random(600) < np.repeat(rng.beta(8.5, 1.5, 150), 4)
    judge = np.where(right, truth, 1 - truth)
    gold = np.where(prompts < 50, truth, np.nan)
    return {
        "Rogan-Gladen, 4 a prompt": (rogan_gladen(judge, gold, prompts), 0.6),
        "prediction-powered, 4 a prompt": (prediction_powered(judge, gold, prompts), 0.6),
    }


LABELS = np.array([1.0, 2.0, 3.0, 4.0])
SHARES = np.array([0.15, 0.25, 0.35, 0.25])


def raters(count: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Ratings 1 … 4 (raters, rows): the true one, else one beside it or any."""
    truth = rng.choice(LABELS, rows, p=SHARES)
    kind = rng.random((count, rows))
    near = np.clip(truth + rng.choice([-1, 1], (count, rows)), 1, 4)
    return np.where(
        kind < 0.6, truth, np.where(kind < 0.8, near, rng.integers(1, 5, (count, rows)))
    )


@cache
def planted_agreements() -> dict[str, float]:
    """The agreements of a table whose rows are as frequent as the three raters make them."""
    beside = (np.eye(4, k=1) + np.eye(4, k=-1)) / 2
    beside[0, 0] = beside[3, 3] = 0.5
    said = 0.6 * np.eye(4) + 0.2 * beside + 0.2 / 4
    joint = np.einsum("t,ta,tb,tc->abc", SHARES, said, said, said)
    rows = np.repeat(np.arange(64), np.round(20_000 * joint.ravel()).astype(int))
    table = LABELS[np.stack(np.unravel_index(rows, (4, 4, 4)))]
    return {name: one.value for name, one in agreements_in(table, draws=2).items()}


def agreements_in(table: np.ndarray, draws: int = 1_000) -> dict[str, Estimate]:
    judge, gold = table[0], table[1]
    return {
        "accuracy": accuracy(judge, gold),
        "kappa": cohen_kappa(judge, gold, draws=draws),
        "kappa, linear": cohen_kappa(judge, gold, weights="linear", draws=draws),
        "kappa, quadratic": cohen_kappa(judge, gold, weights="quadratic", draws=draws),
        "alpha, nominal": krippendorff_alpha(table, draws=draws),
        "alpha, ordinal": krippendorff_alpha(table, level="ordinal", draws=draws),
        "alpha, interval": krippendorff_alpha(table, level="interval", draws=draws),
        "Spearman": spearman(judge, gold, draws=draws),
        "Kendall": kendall_tau(judge, gold, draws=draws),
    }


def agreement(draws: int = 1_000) -> Draw:
    def draw(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
        table = raters(3, 150, rng)
        table[2, rng.random(150) < 0.3] = np.nan
        planted = planted_agreements()
        return {name: (one, planted[name]) for name, one in agreements_in(table, draws).items()}

    return draw


def calibrated(rng: np.random.Generator) -> dict[str, tuple[Estimate, float]]:
    """Judges of probabilities: one is right about them, one too sure; 250 prompts of two rows."""
    said = rng.random(500)
    prompts = np.repeat(np.arange(250), 2)
    sure, honest = 0.5 + 0.4 * (said - 0.5), said
    middles = (np.arange(10) + 0.5) / 10
    grid = (np.arange(10_000) + 0.5) / 10_000
    truth = 0.5 + 0.4 * (grid - 0.5)
    squared = (truth * (1 - grid) ** 2 + (1 - truth) * grid**2).mean()
    of_sure, of_honest = ((rng.random(500) < chance).astype(float) for chance in (sure, honest))
    rms = float(np.sqrt(((0.6 * (middles - 0.5)) ** 2).mean()))
    return {
        "ECE of one too sure": (rms_calibration_error(said, of_sure, prompts), rms),
        "ECE of a calibrated one": (rms_calibration_error(said, of_honest, prompts), 0.0),
        "Brier": (brier(said, of_sure, prompts), squared),
    }


CHEAP: tuple[Draw, ...] = (
    wins_of_prompts,
    *(positions(planted) for planted in (0.0, 0.1, 0.3)),
    *(lengths(planted) for planted in (0.0, 1.0)),
    *(kin(planted) for planted in (0.0, 0.2)),
    *(corrected(rate) for rate in (0.5, 0.8)),
    corrected_by_prompts,
    calibrated,
)


def covered(worlds: tuple[Draw, ...], draws: int) -> dict[str, tuple[float, float, float]]:
    """Of each estimate: the share of intervals that hold the planted value, its mean, the value."""
    held, values, planted = defaultdict(list), defaultdict(list), {}
    for number, world in enumerate(worlds):
        for seed in range(draws):
            for name, (one, truth) in world(np.random.default_rng([number, seed])).items():
                held[name].append(one.low <= truth <= one.high)
                values[name].append(one.value)
                planted[name] = truth
    return {
        name: (float(np.mean(held[name])), float(np.mean(values[name])), planted[name])
        for name in held
    }


def test_intervals_of_a_few_draws_hold_the_planted_values() -> None:
    found = covered((*CHEAP, agreement(draws=200)), 24)
    shares = [held for held, _, _ in found.values()]
    assert len(shares) == 48
    assert 0.93 <= np.mean(shares) <= 0.98
    assert min(shares) >= 0.75


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_of_1000_draws_hold_the_planted_values_in_93_to_97_percent() -> None:
    found = covered((*CHEAP, agreement()), 1_000)
    for name, (held, value, planted) in found.items():
        line = f"{name:<46} planted {planted:7.4f}  mean {value:7.4f}  covered {held:.1%}"
        print(line)  # noqa: T201  the table that is asked for with -s
    assert {name: held for name, (held, _, _) in found.items() if not 0.93 <= held <= 0.97} == {}
    off = {name: value - planted for name, (_, value, planted) in found.items()}
    assert {
        name: one for name, one in off.items() if abs(one) > max(0.03, 0.01 * abs(found[name][2]))
    } == {}
