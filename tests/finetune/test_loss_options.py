"""Options of losses: finite, in their ranges, and refused in a line where they are not."""

from __future__ import annotations

import math

import pytest

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.training.build_loss import ANSWERS, LISTS, LOSSES, built
from tests.fuzz.commands import called

FAMILIES = ((LOSSES,), ANSWERS, LISTS)
FAMILY = {name: family for family in FAMILIES for group in family for name in registry.names(group)}


def loss_class(name):
    group = next(group for group in FAMILY[name] if name in registry.names(group))
    return registry.find(group, name)


def make(name, **options):
    return built(name, options, {}, FAMILY[name])


NUMBERS = [
    (name, option)
    for name in FAMILY
    for option, field in registry.options(loss_class(name)).items()
    if str(field.type) in ("float", "int")
]

FROM_ZERO, ABOVE_ZERO = "[0, inf)", "(0, inf)"
RANGES = {
    ("alphapo", "alpha"): "(-inf, inf)",
    ("alphapo", "gamma_beta_ratio"): FROM_ZERO,
    ("aot", "label_smoothing"): "[0, 0.5)",
    ("aot_unpaired", "label_smoothing"): "[0, 0.5)",
    ("cdpo", "label_smoothing"): "[0, 0.5)",
    ("cpo", "sft_weight"): FROM_ZERO,
    ("d2o", "alpha"): FROM_ZERO,
    ("discopop", "tau"): ABOVE_ZERO,
    ("dpo_llama3", "sft_weight"): FROM_ZERO,
    ("dpop", "penalty"): FROM_ZERO,
    ("exo", "label_smoothing"): "(0, 0.5)",
    ("f_dpo", "alpha"): "(0, 1]",
    ("kto", "desirable_weight"): FROM_ZERO,
    ("kto", "undesirable_weight"): FROM_ZERO,
    ("ld_dpo", "alpha"): "[0, 1]",
    ("npo", "retain_weight"): FROM_ZERO,
    ("npo_kl", "retain_weight"): FROM_ZERO,
    ("quark", "bins"): "[1, inf)",
    ("quark", "entropy_weight"): FROM_ZERO,
    ("quark", "kl_weight"): FROM_ZERO,
    ("r_dpo", "alpha"): FROM_ZERO,
    ("reward_weighted", "max_weight"): ABOVE_ZERO,
    ("robust_dpo", "label_smoothing"): "[0, 0.5)",
    ("rpo_reward_aware", "eta"): ABOVE_ZERO,
    ("rrhf", "length_penalty"): FROM_ZERO,
    ("rrhf", "rank_weight"): FROM_ZERO,
    ("simpo", "gamma_beta_ratio"): FROM_ZERO,
    ("slic_hf", "margin"): FROM_ZERO,
    ("slic_hf", "regularisation"): FROM_ZERO,
    ("tdpo2", "alpha"): FROM_ZERO,
    ("xpo", "alpha"): FROM_ZERO,
    **{(name, "beta"): ABOVE_ZERO for name, option in NUMBERS if option == "beta"},
}
"""What options of losses may be."""


def test_the_ranges_are_those_of_options():
    assert set(RANGES) <= set(NUMBERS)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "option"), NUMBERS)
def test_no_option_is_nan_or_infinite(name, option, wrong):
    with pytest.raises(UsageError, match=f"^{name}: {option}[: ]"):
        make(name, **{option: wrong})


def ends(interval):
    """Of an interval: its finite ends and whether it has them, and a number beyond each."""
    low, high = map(float, interval[1:-1].split(","))
    if math.isfinite(low):
        yield low, interval[0] == "["
        yield low - 1, False
    if math.isfinite(high):
        yield high, interval[-1] == "]"
        yield high + 1, False


@pytest.mark.parametrize(
    ("name", "option", "value", "right"),
    [(*key, *end) for key, interval in RANGES.items() for end in ends(interval)],
)
def test_an_option_is_refused_where_its_range_ends(name, option, value, right):
    if right:
        assert getattr(make(name, **{option: value}), option) == value
        return
    with pytest.raises(UsageError, match=f"^{name}: {option}"):
        make(name, **{option: value})


@pytest.mark.parametrize(("name", "option"), [key for key in NUMBERS if key[1] != "beta"])
def test_a_loss_that_is_made_by_hand_has_a_range_for_each_number_too(name, option):
    for wrong in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=rf"^{option} is in [\[(].*, got -?(nan|inf)"):
            loss_class(name)(**{option: wrong})


def test_an_added_loss_has_a_weight_and_may_have_options():
    both = built("dpo", {}, {"ipo": {"weight": 0.2, "ratios": "sum"}, "sft": 0.5})
    assert [weight for _, weight in both.parts] == [1.0, 0.2, 0.5]
    assert both.parts[1][0].ratios == "sum"


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ({"sft": 0}, "also: sft: expected a weight above 0, got 0"),
        ({"sft": math.nan}, "also: sft: expected a weight above 0, got nan"),
        ({"sft": math.inf}, "also: sft: expected a weight above 0, got inf"),
        ({"ipo": {"ratios": "sum"}}, "also: ipo: expected a weight above 0, got None"),
        ({"ipo": {"weight": True}}, "also: ipo: expected a weight above 0, got True"),
        ({"ipo": {"weight": 1, "ratio": "sum"}}, "ipo has no option 'ratio'; did you mean ratios"),
        ({"cpo": {"weight": 1, "sft_weight": -1}}, r"cpo: sft_weight is in \[0, inf\), got -1"),
        ({"ipo": {"weight": 1, "beta": -1}}, "ipo: beta: expected more than 0, got -1"),
    ],
)
def test_an_added_loss_out_of_range_is_refused(also, said):
    with pytest.raises(UsageError, match=f"^{said}"):
        built("dpo", {}, also)


def test_the_command_refuses_in_a_line_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["finetune", "dpo_llama3", "no-rows", "--out", "x", "--model", "no-model"]
    told = called(*words, "--sft-weight", "-3")
    assert told.code == 2
    assert "dpo_llama3: sft_weight is in [0, inf), got -3.0" in told.err
    assert told.err.count("\n") == 1
