"""Defaults are those of the paper or of its authors' code, as each docstring says."""

from __future__ import annotations

from dataclasses import fields

import pytest

from siftune.curate.core.registry import find
from siftune.finetune.training.build_loss import ANSWERS, LISTS, LOSSES, group_of

PUBLISHED = {
    "alphapo": {"alpha": 0.25, "beta": 2.5, "gamma_beta_ratio": 0.1},
    "cpo": {"beta": 0.1, "sft_weight": 1.0},
    "d2o": {"beta": 0.1, "alpha": 0.1},
    "dpo": {"beta": 0.1},
    "dpo_llama3": {"beta": 0.1, "sft_weight": 0.2},
    "dpo_norm": {"beta": 5.0},
    "dpop": {"beta": 0.3, "penalty": 50.0},
    "exo": {"beta": 0.1, "label_smoothing": 1e-3},
    "ipo": {"beta": 0.1, "ratios": "mean"},
    "kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
    "npo": {"beta": 0.1},
    "orpo": {"beta": 0.1},
    "quark": {"kl_weight": 0.05, "entropy_weight": 0.06, "bins": 5},
    "rrhf": {"rank_weight": 1.0, "length_penalty": 1.0},
    "simpo": {"beta": 2.0, "gamma_beta_ratio": 0.25},
    "sppo_hard": {"beta": 1e-3},
    "sppo_soft": {"beta": 1e-3},
    "tdpo1": {"beta": 0.1},
    "tdpo2": {"beta": 0.1, "alpha": 0.5},
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_defaults_are_the_published_ones(name):
    loss = find(group_of(name, (LOSSES, *ANSWERS, *LISTS)), name)
    own = {field.name: field.default for field in fields(loss)}
    assert {key: own[key] for key in PUBLISHED[name]} == PUBLISHED[name]


OF_TRAINERS = {  # a run without options: what the guides and the results say of it
    "ppo": {"epochs": 4, "minibatches": 4, "batch_size": 64, "kl_coef": 0.05, "save_every": 10},
    "reward_model": {"by_prompt": False, "save_every": 100, "log_every": 10, "held_out": 0.1},
}


@pytest.mark.parametrize("name", sorted(OF_TRAINERS))
def test_a_run_without_options_is_the_one_that_is_described(name):
    own = {field.name: field.default for field in fields(find("finetune.trainers", name))}
    assert {key: own[key] for key in OF_TRAINERS[name]} == OF_TRAINERS[name]
