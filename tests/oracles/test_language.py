"""At the level of tokens: a one-layer model lands where the bandit does, through our own code."""

from __future__ import annotations

import pytest
import torch

from curate.core import registry
from finetune.oracles.bandit import kl
from tests.oracles.language import SENTENCES, land, language, log_probs

BETA = 0.5
REWARD = torch.linspace(-1, 1.5, len(SENTENCES)).double()[torch.tensor([3, 0, 6, 1, 5, 2, 4])]


def test_the_sentences_are_all_there_is():
    assert float(log_probs(language(0)).logsumexp(0)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpo", {}),
        ("gpo", {"f": "savage"}),
        ("rpo_reward_aware", {}),
        ("rpo_reward_aware", {"distance": "squared"}),
        ("ld_dpo", {"alpha": 1.0}),
        ("tdpo2", {"alpha": 0.0}),
        ("dpo_llama3", {"sft_weight": 0.0}),
    ],
)
def test_lands_on_the_boltzmann_policy_token_by_token(name, options):
    loss = registry.build("finetune.losses.pair", name, {"beta": BETA, **options})
    model, reference = language(0), language(0).requires_grad_(False)
    bandit = land(loss, model, reference, REWARD)
    assert kl(log_probs(reference), bandit.optimum(BETA)) > 0.3
    assert kl(log_probs(model), bandit.optimum(BETA)) < 1e-3


def test_length_regularised_dpo_prices_tokens():
    loss = registry.build("finetune.losses.pair", "r_dpo", {"beta": BETA, "alpha": 0.3})
    model, reference = language(0), language(0).requires_grad_(False)
    bandit = land(loss, model, reference, REWARD)
    priced = REWARD - 0.3 * bandit.length
    assert kl(log_probs(model), bandit.optimum(BETA, priced)) < 1e-3
    assert kl(log_probs(model), bandit.optimum(BETA)) > 0.01


def test_tdpo_lands_elsewhere_once_there_is_more_than_one_token():
    loss = registry.build("finetune.losses.pair", "tdpo1", {"beta": BETA})
    model, reference = language(0), language(0).requires_grad_(False)
    bandit = land(loss, model, reference, REWARD)
    assert kl(log_probs(model), bandit.optimum(BETA)) > 0.01
