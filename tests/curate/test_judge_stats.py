"""Statistics of an LLM judge: against worked examples and other libraries, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from siftune.curate.judge_stats.agreement import (
    accuracy,
    cohen_kappa,
    kendall_tau,
    krippendorff_alpha,
    numbered,
    spearman,
)
from siftune.curate.judge_stats.biases import (
    consistency,
    length_bias,
    position_bias,
    self_preference,
)
from siftune.curate.judge_stats.calibration import brier, calibrate, rms_calibration_error
from siftune.curate.judge_stats.drift import Limits, Round, measure_drift
from siftune.curate.judge_stats.intervals import (
    Estimate,
    NotEstimableError,
    bootstrap,
    mean,
    share,
)
from siftune.curate.judge_stats.logistic import (
    fit_logistic,
    length_controlled_win_rate,
    length_feature,
)
from siftune.curate.judge_stats.pair_biases import PairBiases, pair_biases
from siftune.curate.judge_stats.report import compare
from siftune.curate.judge_stats.win_rates import prediction_powered, rogan_gladen, win_rate
from siftune.curate.judging.pairs import Shown, pair_values

NONE = np.nan
KRIPPENDORFF = np.array(  # the worked example of Krippendorff 2011: four observers, twelve units
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
)


def ratings(rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    gold = rng.integers(1, 6, rows).astype(float)
    return np.clip(gold + rng.integers(-1, 3, rows), 1, 5), gold


@pytest.mark.parametrize(
    ("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_krippendorffs_example(level: str, value: float) -> None:
    found = krippendorff_alpha(KRIPPENDORFF, level=level)  # type: ignore[arg-type]
    assert found.value == pytest.approx(value, abs=5e-4)
    assert found.rows == 11  # one unit has one rating
    assert found.low < value < found.high


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_is_that_of_scikit_learn(weights: str) -> None:
    judge, gold = ratings()
    found = cohen_kappa(judge, gold, weights=weights)  # type: ignore[arg-type]
    theirs = cohen_kappa_score(judge, gold, weights=None if weights == "none" else weights)
    assert found.value == pytest.approx(theirs)


def test_rank_correlations_are_those_of_scipy_with_ties_and_missing_rows() -> None:
    judge, gold = ratings()
    with_gaps = np.append(judge, [NONE, 3.0]), np.append(gold, [2.0, NONE])
    assert spearman(*with_gaps).value == pytest.approx(stats.spearmanr(judge, gold)[0])
    assert kendall_tau(*with_gaps).value == pytest.approx(stats.kendalltau(judge, gold)[0])
    assert spearman(*with_gaps).rows == 120


def test_labels_are_numbered_alike_for_all_raters() -> None:
    (first, second), labels = numbered(["tie", "first", None], ["first", "second", "tie"])
    assert labels == ["first", "second", "tie"]
    assert first.tolist()[:2] == [2, 0]
    assert second.tolist() == [0, 1, 2]
    assert np.isnan(first[2])


def test_raw_agreement_overstates_where_one_label_is_common() -> None:
    gold = np.repeat([1.0, 0.0], [95, 5])
    always = np.ones(100)
    assert accuracy(always, gold).value == 0.95
    with pytest.raises(NotEstimableError, match="kappa is 0"):
        cohen_kappa(always, gold)
    assert cohen_kappa(np.arange(100) > 0, gold).value < 0


def test_kappa_of_one_label_alone_is_not_estimable() -> None:
    with pytest.raises(NotEstimableError, match="same"):
        cohen_kappa(np.ones(20), np.ones(20))


def test_full_agreement_has_an_interval_that_shrinks_with_the_rows() -> None:
    few, many = np.tile([0.0, 1.0], 10), np.tile([0.0, 1.0], 200)
    assert cohen_kappa(few, few).low < cohen_kappa(many, many).low < 1
    assert krippendorff_alpha([few, few]).low == pytest.approx(cohen_kappa(few, few).low)


def test_no_event_at_all_has_an_upper_end() -> None:
    assert share(np.zeros(100)).low == 0
    assert share(np.full(100, 0.1)).high == pytest.approx(0.134, abs=0.001)  # nor of any other
    assert share(np.zeros(100)).high == pytest.approx(0.037, abs=0.002)  # near the rule of three


def test_values_that_are_nearly_alike_have_an_interval_as_wide_as_equal_ones() -> None:
    rng = np.random.default_rng(0)
    for value in (1e-6, 0.5):
        alike, nearly = share(np.full(50, value)), share(value + 1e-7 * rng.random(50))
        assert (nearly.low, nearly.high) == pytest.approx((alike.low, alike.high), abs=1e-6)
        assert nearly.high > value + 0.03
    spread = rng.random(50)  # here it is the usual one
    half = share(np.append(spread, [0.0, 1.0])).high - share(spread).high
    assert abs(half) < 0.02


def test_a_judge_that_is_always_right_has_errors_that_were_not_seen() -> None:
    """1 - (q² / (n + q²)) is the least share of right ones: 0.907 for 40 of 40."""
    squared = stats.t.ppf(0.975, 39) ** 2
    gold = np.where(np.arange(100) < 40, 1.0, NONE)
    found = prediction_powered(np.arange(100) % 2, gold)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(1 - squared / (40 + squared))
    assert found.low == pytest.approx(win_rate(gold).low) == pytest.approx(0.907, abs=5e-4)
    truth = np.tile([0.0, 1.0], 50)  # a judge with its gold labels: y - f is 0, could be -1 … 1
    same = prediction_powered(truth, np.where(np.arange(100) < 40, truth, NONE), power=1)
    assert same.value - same.low == same.high - same.value == pytest.approx(1 - found.low, abs=0.05)
    sure = np.where(truth == 1, 0.985, 0.015)
    assert brier(sure, truth).high > 0.03
    error = rms_calibration_error(sure, truth)
    assert (error.value, error.low) == (pytest.approx(0.015), 0.0)
    assert 0.03 < error.high < 0.3
    none = rms_calibration_error(np.tile([0.0, 1.0], 500), np.tile([0.0, 1.0], 500))
    assert none.high < error.high / 2


def test_what_is_the_same_for_every_prompt_has_no_interval() -> None:
    with pytest.raises(NotEstimableError, match="10 for every prompt"):
        mean(np.full(8, 10.0))
    with pytest.raises(NotEstimableError, match="2 for every prompt"):
        mean([1, 3, 1, 3], ["a", "a", "b", "b"])
    rounds = [PairBiases({}, {}).as_round(np.full(8, words)) for words in (10, 16)]
    assert not measure_drift(rounds).stop


def test_a_rate_beyond_all_rates_has_no_interval() -> None:
    """A judge that finds half of the gold wins cannot call nine of ten other rows a win."""
    judge = np.repeat([1.0, 0, 0, 1, 0], [900, 100, 100, 50, 50])
    gold = np.repeat([NONE, 0, 1], [1000, 100, 100])
    with pytest.raises(NotEstimableError, match="no random part of all"):
        rogan_gladen(judge, gold)
    with pytest.raises(NotEstimableError, match=r"is beyond 0 … 1"):
        prediction_powered(judge, np.where(gold == 0, NONE, gold), power=2)


def test_rows_of_one_prompt_count_as_one_draw() -> None:
    values = np.random.default_rng(1).integers(0, 2, 60).astype(float)
    again, prompts = np.repeat(values, 10), np.repeat(np.arange(60), 10)
    alone, together = share(values), share(again, prompts)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert together.prompts == 60
    judge = np.where(np.random.default_rng(2).random(60) < 0.8, values, 1 - values)
    one = cohen_kappa(judge, values)
    ten = cohen_kappa(np.repeat(judge, 10), again, prompts)
    assert (ten.value, ten.low, ten.high) == pytest.approx((one.value, one.low, one.high))


def test_bca_interval_is_that_of_scipy_where_values_are_skewed() -> None:
    values = np.random.default_rng(5).exponential(size=80) ** 2
    ours = bootstrap(lambda weight: weight @ values / weight.sum(1), 80, draws=9_000)
    theirs = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(1))
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.03 * (high - low))
    percentile = stats.bootstrap((values,), np.mean, method="percentile", rng=1)
    assert abs(percentile.confidence_interval.high - high) > 0.07 * (high - low)


def test_one_prompt_alone_has_no_interval() -> None:
    with pytest.raises(NotEstimableError, match="two prompts"):
        share([1.0, 0.0], ["a", "a"])
    with pytest.raises(NotEstimableError, match="three prompts"):
        bootstrap(lambda weight: weight.sum(1), 2)


def test_rogan_gladen_refuses_a_judge_at_chance() -> None:
    rng = np.random.default_rng(0)
    judge = rng.integers(0, 2, 300).astype(float)
    gold = np.where(np.arange(300) < 60, rng.integers(0, 2, 300), NONE)
    with pytest.raises(NotEstimableError, match="not identified"):
        rogan_gladen(judge, gold)


def test_rogan_gladen_does_with_gold_rows_of_another_win_rate() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(4000) < 0.3).astype(float)
    truth[:1000] = np.arange(1000) % 2  # half of the gold rows are wins
    right = rng.random(4000) < np.where(truth == 1, 0.9, 0.7)
    judge = np.where(right, truth, 1 - truth)
    gold = np.where(np.arange(4000) < 1000, truth, NONE)
    assert rogan_gladen(judge, gold).value == pytest.approx(0.3, abs=0.03)
    assert win_rate(judge).value > 0.45
    assert prediction_powered(judge, gold, power=1).value > 0.35  # which assumes a random part


def test_rogan_gladen_interval_is_the_published_formula() -> None:
    """Lang and Reiczigel's, from the counts: 330 wins of 600, 40 of 50 losses, 63 of 70 wins."""
    judge = np.repeat([1.0, 0, 0, 1, 1, 0], [330, 270, 40, 10, 63, 7])
    gold = np.repeat([NONE, 0, 1], [600, 50, 70])
    z = stats.norm.ppf(0.975)
    n, m0, m1 = 600 + z**2, 52, 72
    p, q0, q1 = (330 + z**2 / 2) / n, 41 / m0, 64 / m1
    rate, of_q0, of_q1 = (p + q0 - 1) / (q0 + q1 - 1), q0 * (1 - q0) / m0, q1 * (1 - q1) / m1
    middle = rate + 2 * z**2 * (rate * of_q1 - (1 - rate) * of_q0)
    half = z * np.sqrt(p * (1 - p) / n + (1 - rate) ** 2 * of_q0 + rate**2 * of_q1) / (q0 + q1 - 1)
    found = rogan_gladen(judge, gold)
    assert found.value == pytest.approx((0.55 + 0.8 - 1) / (0.8 + 0.9 - 1))
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-4)


@pytest.mark.parametrize("power", [1.0, 0.3])
def test_prediction_powered_interval_has_the_variance_of_both_samples(power: float) -> None:
    rng = np.random.default_rng(0)
    truth, judge = rng.random((2, 330))
    gold = np.where(np.arange(330) < 300, truth, NONE)
    found = prediction_powered(judge, gold, power=power)
    y, f, rest = truth[:300], judge[:300], judge[300:]
    variance = (y - power * f).var() / 300 + power**2 * rest.var() / 30
    half = stats.t.ppf(0.975, 299) * np.sqrt(variance * 300 / 299)
    assert found.value == pytest.approx(y.mean() + power * (rest.mean() - f.mean()))
    assert (found.high - found.low) / 2 == pytest.approx(half)


def test_prediction_powered_with_a_useless_judge_is_the_gold_mean() -> None:
    gold = np.where(np.arange(200) < 40, np.arange(200) % 4 > 0, NONE).astype(float)
    found = prediction_powered(np.full(200, 0.5), gold)
    assert found.value == pytest.approx(0.75)


def test_a_good_judge_narrows_the_interval_of_the_gold_rows() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 1000).astype(float)
    judge = np.where(rng.random(1000) < 0.92, truth, 1 - truth)
    gold = np.where(np.arange(1000) < 60, truth, NONE)
    alone, powered = win_rate(gold), prediction_powered(judge, gold)
    assert powered.high - powered.low < 0.75 * (alone.high - alone.low)


def test_consistency_finds_the_planted_inconsistent_rows() -> None:
    forward = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    swapped = forward.copy()
    swapped[::7] = 1 - swapped[::7]
    assert np.flatnonzero(consistency(forward, swapped) < 1).tolist() == list(range(0, 200, 7))


def test_pairs_judged_in_one_order_alone_are_left_out_of_the_position_bias() -> None:
    found = position_bias([1, 0, 1, 1, NONE, 1], [1, 0, 0, 0, 1, NONE])
    assert found.bias.rows == 4
    assert found.bias.value == 0.5
    assert found.inconsistent.value == found.first_twice.value == 0.5


def test_logistic_fit_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 2))
    wins = (rng.random(300) < 1 / (1 + np.exp(-features @ [1.0, -0.5]))).astype(float)
    theirs = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(features, wins)
    assert fit_logistic(features, wins).coefficients == pytest.approx(theirs.coef_[0], abs=1e-5)


def test_coefficients_of_repeated_rows_are_no_surer() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.lognormal(5, 1, (2, 100))
    wins = rng.integers(0, 2, 100).astype(float)
    once = length_bias(wins, own, other)
    again = [np.repeat(one, 10) for one in (wins, own, other)]
    prompts = np.repeat(np.arange(100), 10)
    ten = length_bias(*again, prompts=prompts)
    assert (ten.value, ten.low, ten.high) == pytest.approx((once.value, once.low, once.high))


def test_verdicts_that_follow_from_length_alone_have_no_finite_coefficient() -> None:
    own, other = np.random.default_rng(0).lognormal(5, 1, (2, 60))
    with pytest.raises(NotEstimableError, match="diverges"):
        length_bias(own > other, own, other)
    with pytest.raises(NotEstimableError, match="same length"):
        length_bias(np.tile([0, 1], 30), np.full(60, 5), np.full(60, 3))


def test_gold_takes_the_quality_of_longer_answers_out_of_the_length_bias() -> None:
    rng = np.random.default_rng(1)
    own, other = rng.lognormal(5, 0.5, (2, 2000))
    gap = length_feature(own, other)
    gold = (rng.random(2000) < 1 / (1 + np.exp(-2 * gap))).astype(float)  # longer is better
    wins = np.where(rng.random(2000) < 0.85, gold, 1 - gold)  # and length does nothing else
    assert length_bias(wins, own, other).value > 0.8
    assert not length_bias(wins, own, other, gold).excludes(0.0)


def test_difficulty_is_averaged_over_the_prompts_in_the_length_controlled_rate() -> None:
    rng = np.random.default_rng(2)
    own, other = rng.lognormal(5, 0.5, (2, 4000))
    hard = rng.normal(size=4000)
    odds = 0.5 + 1.0 * length_feature(own, other) - 1.5 * hard
    wins = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(float)
    planted = (1 / (1 + np.exp(-0.5 + 1.5 * hard))).mean()
    rate, slope = length_controlled_win_rate(wins, own, other, difficulty=hard)
    assert rate.value == pytest.approx(planted, abs=0.02)
    assert not rate.excludes(planted)
    assert slope.value == pytest.approx(1.0, abs=0.15)


def test_a_better_model_is_no_self_preference() -> None:
    """The own answers win most pairs, as gold has it, and half of those of equal quality."""
    gold = np.repeat([0.5, 1.0, 0.0], [40, 80, 20])
    own = np.concatenate([np.tile([0.0, 1.0], 20), np.ones(80), np.zeros(20)])
    found = self_preference(own, gold)
    assert found.bias.value == found.excess.value == 0
    assert found.ability is not None
    assert found.ability.value == 1
    with pytest.raises(NotEstimableError, match="equal"):
        self_preference([1, 0, 1], [1, 0, 0])


def test_isotonic_calibration_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(1, 11, 200).astype(float)
    gold = (rng.random(200) < scores / 12).astype(float)
    ours = calibrate(scores, gold, method="isotonic").calibrator(scores)
    assert ours == pytest.approx(IsotonicRegression().fit_transform(scores, gold))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_mends_a_judge_that_is_too_sure(method: str) -> None:
    rng = np.random.default_rng(0)
    said = rng.random(600)
    gold = (rng.random(600) < 0.5 + 0.4 * (said - 0.5)).astype(float)
    gold[:100] = NONE
    found = calibrate(said, gold, method=method)  # type: ignore[arg-type]
    assert np.isnan(found.cross_fitted[:100]).all()
    before = rms_calibration_error(said, gold)
    after = rms_calibration_error(found.cross_fitted, gold)
    assert after.value < before.low
    assert (np.diff(found.calibrator(np.linspace(0, 1, 50))) >= 0).all()


def test_the_rows_of_a_prompt_are_held_out_together() -> None:
    """A fold's curve knows nothing of the prompt: the odd one does not pull its own rows."""
    scores = np.tile(np.arange(10.0), 10)
    prompts = np.repeat(np.arange(10), 10)
    gold = (scores >= 5).astype(float)
    gold[prompts == 3] = 1 - gold[prompts == 3]
    found = calibrate(scores, gold, prompts, folds=10)
    assert (found.cross_fitted[prompts == 3] == found.cross_fitted[prompts == 3][0]).sum() == 1
    assert ((found.cross_fitted > 0.5) == (scores >= 5)).all()
    assert found.calibrator(9.0) < found.cross_fitted[(prompts == 3) & (scores == 9)][0]


def of(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value, value - half, value + half, rows=400, prompts=400)


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ([Round(length=of(100, 5)), Round(length=of(180, 5))], "1.800 (1.701 … 1.908) times"),
        ([Round(position=of(0.05)), Round(position=of(-0.3))], "position bias grew by 0.250"),
        ([Round(self_preference=of(0.0)), Round(self_preference=of(0.2))], "self-preference grew"),
        ([Round(agreement=of(0.7)), Round(), Round(agreement=of(0.5))], "fell by 0.200"),
    ],
)
def test_drift_beyond_a_limit_stops_the_loop_and_is_named(rounds: list[Round], reason: str) -> None:
    found = measure_drift(rounds)
    assert found.stop
    assert reason in str(found)
    assert len(found.reasons) == 1


@pytest.mark.parametrize(
    "rounds",
    [
        [Round(agreement=of(0.7))],  # nothing to compare with
        [Round(agreement=of(0.7)), Round(agreement=of(0.65))],  # sure, within the limit
        [Round(agreement=of(0.7, 0.2)), Round(agreement=of(0.5, 0.2))],  # beyond it, may be noise
        [Round(agreement=of(0.5)), Round(agreement=of(0.8))],  # better
        [Round(position=of(-0.3)), Round(position=of(0.05))],  # less of it
    ],
)
def test_drift_within_limits_or_noise_goes_on(rounds: list[Round]) -> None:
    assert str(measure_drift(rounds)) == "go on: no figure is beyond its limit"


def test_limits_are_the_users() -> None:
    rounds = [Round(length=of(100, 1)), Round(length=of(130, 1))]
    assert not measure_drift(rounds).stop
    assert measure_drift(rounds, Limits(length=1.2)).stop
    assert not measure_drift(rounds, Limits(length=None)).stop


def test_biases_of_judged_pairs_are_those_of_the_verdicts_in_both_orders() -> None:
    """From the columns of the task `pairwise`, ties included."""
    rng = np.random.default_rng(0)
    forward, swapped = rng.choice([0.0, 0.5, 1.0], (2, 120), p=[0.2, 0.2, 0.6])
    values = [
        pair_values(Shown(one, one), Shown(other, other))
        for one, other in zip(forward, swapped, strict=True)
    ]
    columns = {name: [row[name] for row in values] for name in ("first_position", "consistent")}
    wins = [row["preference"] for row in values]
    found = pair_biases(wins, **columns).figures
    expected = position_bias(forward, 1 - swapped)
    assert found["position_bias"] == expected.bias
    assert found["inconsistent"] == expected.inconsistent
    assert found["position_bias"].value > 0.3


def test_own_answers_may_be_first_or_second_in_a_pair() -> None:
    rng = np.random.default_rng(1)
    own = rng.choice([0.0, 1.0, NONE], 200, p=[0.4, 0.4, 0.2])
    gold = rng.choice([0.0, 0.5, 1.0], 200)
    wins = np.where(rng.random(200) < 0.3, np.nan_to_num(own), gold)
    lengths = rng.integers(10, 50, (2, 200))
    found = pair_biases(
        wins, gold=gold, own=own, lengths=lengths[0], other_lengths=lengths[1]
    ).figures
    mine = np.where(own == 1, wins, 1 - wins)[np.isfinite(own)]
    truth = np.where(own == 1, gold, 1 - gold)[np.isfinite(own)]
    assert found["self_preference"] == self_preference(mine, truth).bias
    assert found["self_preference"].value > 0.1
    torn = np.where((gold == 0.5) & (np.arange(200) % 2 == 0), 0.0, 1.0)  # of the second judge
    fewer = pair_biases(wins, gold=gold, gold_consistent=torn, own=own).figures
    assert fewer["self_preference"].rows == ((gold == 0.5) & (torn == 1) & np.isfinite(own)).sum()
    assert found["self_excess"].rows == np.isfinite(own).sum()
    assert found["length_bias"] == length_bias(wins, *lengths, gold)
    longer = (wins > 0.5) == (lengths[0] > lengths[1])
    decided = (wins != 0.5) & (lengths[0] != lengths[1])
    assert found["longer_wins"].value == pytest.approx(longer[decided].mean())


def test_win_rates_of_judged_pairs_stand_beside_each_other() -> None:
    rng = np.random.default_rng(2)
    lengths = rng.integers(10, 50, (2, 300))
    wins = (rng.random(300) < np.where(lengths[0] > lengths[1], 0.8, 0.3)).astype(float)
    wins[:5] = NONE
    given = {
        "lengths": lengths[0] + 15,
        "other_lengths": lengths[1],
        "prompts": np.arange(300) // 2,
    }
    found = pair_biases(wins, **given, rates=True)
    assert [*found.figures][:2] == ["win_rate", "length_controlled"]
    assert found.figures["win_rate"] == win_rate(wins, given["prompts"])
    assert (
        found.figures["length_controlled"] == length_controlled_win_rate(wins, *given.values())[0]
    )
    assert "win_rate" not in pair_biases(wins, **given).figures
    shown = repr(PairBiases({"length_correlation": of(-0.4)}, {}))
    assert shown.startswith("length_correlation  -0.400 (")


def test_a_round_of_judged_pairs_is_compared_with_the_next() -> None:
    def judged(shown_first: float, words: int) -> Round:
        return pair_biases([1.0, 0.0] * 50, first_position=[shown_first, 1.0] * 50).as_round(
            np.arange(100) % 7 + words, of(0.6)
        )

    found = measure_drift([judged(1.0, 100), judged(1.5, 102)])
    assert found.reasons == ("the position bias grew by 0.250 (0.187 … 0.312), the limit is 0.1",)
    assert found.changes["length"].value == pytest.approx(104.95 / 102.95)
    assert found.changes["agreement"].value == 0


def test_what_pairs_do_not_determine_has_its_reason() -> None:
    found = pair_biases(
        [NONE, NONE], first_position=[NONE, NONE], lengths=[1, 2], other_lengths=[0, 1]
    )
    assert found.figures == {}
    assert found.not_estimable == {
        "position_bias": "no pair has a value",
        "length_bias": "all pairs differ by the same length",
        "longer_wins": "no pair has a value",
    }
    assert "position_bias: not estimable: no pair has a value" in repr(found)


def test_what_never_varies_has_no_interval() -> None:
    """A judge of one verdict has a kappa of 0 and a win rate of a half that tell nothing."""
    gold, lengths = [0, 1] * 5, np.arange(10.0)
    with pytest.raises(NotEstimableError, match="single label"):
        cohen_kappa([1] * 10, gold)
    with pytest.raises(NotEstimableError, match="do not vary"):
        bootstrap(lambda weight: np.full(len(weight), 0.25), 10)
    for wins in ([0.5] * 10, [1.0] * 10):  # always a tie, or the answer shown first; always A
        found = pair_biases(wins, lengths=lengths, other_lengths=lengths[::-1], rates=True)
        for name in ("length_controlled", "length_bias"):
            assert found.not_estimable[name] == "all verdicts are the same"


def test_ratings_beside_gold_of_0_and_1_have_ranks_and_no_win_rate() -> None:
    ratings, gold = [1.0, 6.0, 2.0, 5.0, 3.0, 4.0] * 4, [0.0, 1.0, 0.0, 1.0, 1.0, 0.0] * 4
    found = compare({"rating": ratings}, gold, range(24), win=1)
    assert {"spearman", "kendall"} <= found.figures.keys()
    assert "rating" not in found.figures["win_rate"]
    for name in ("kappa", "kappa_quadratic", "alpha", "accuracy", "win_rate"):
        assert "1 to 6 and gold's 0 and 1" in found.not_estimable[name]["rating"]
    assert "kappa" in compare({"rating": ratings}, gold, range(24), level="ordinal").figures


@pytest.mark.parametrize("pairs", [6, 0])
def test_without_a_verdict_no_bias_is_estimable(pairs: int) -> None:
    none, words = np.full(pairs, np.nan), np.arange(float(pairs))
    found = pair_biases(
        none,
        first_position=none,
        consistent=none,
        lengths=words,
        other_lengths=2 * words[::-1],
        gold=none,
        gold_consistent=none,
        own=none,
        prompts=np.arange(pairs),
        rates=True,
    )
    assert found.figures == {}
    assert len(found.not_estimable) == 9
