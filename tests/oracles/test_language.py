"""At the level of tokens: a one-layer model lands where the bandit does, through our own code."""

from __future__ import annotations

import itertools

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.losses.list_types import ListLogps
from siftune.finetune.losses.types import Answers
from siftune.finetune.models.value_head import add_value_head
from siftune.finetune.oracles.bandit import kl, minimise
from tests.oracles.language import SENTENCES, land, language, log_probs, score_as_answers

BETA = 0.5
REWARD = torch.linspace(-1, 1.5, len(SENTENCES)).double()[torch.tensor([3, 0, 6, 1, 5, 2, 4])]


def test_the_sentences_are_all_there_is():
    assert float(log_probs(language(0)).logsumexp(0)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpo", {}),
        ("rso_sigmoid", {}),
        ("gpo", {}),
        ("gpo", {"f": "savage"}),
        ("rpo_reward_aware", {}),
        ("rpo_reward_aware", {"distance": "forward"}),
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


def test_robust_dpo_lands_there_when_labels_are_flipped_at_its_rate():
    flipped = {"beta": BETA, "label_smoothing": 0.2}
    loss = registry.build("finetune.losses.pair", "robust_dpo", flipped)
    model, reference = language(0), language(0).requires_grad_(False)
    bandit = land(loss, model, reference, REWARD, flip=0.2)
    assert kl(log_probs(model), bandit.optimum(BETA)) < 1e-3


def test_plackett_luce_lands_there_from_rankings_of_three():
    """All ranked triples of sentences, drawn by their rewards, in the layout of a list."""
    loss = registry.build("finetune.losses.listwise", "plackett_luce", {"beta": BETA})
    model, reference = language(0), language(0).requires_grad_(False)
    rows = torch.tensor(list(itertools.permutations(range(len(SENTENCES)), 3)))
    below = REWARD[rows].flip(1).logcumsumexp(1).flip(1)
    chance = (REWARD[rows] - below).sum(1).exp()
    score = -torch.arange(3).double().expand(rows.shape)
    there = torch.ones_like(rows, dtype=torch.bool)

    def value():
        whole, _ = score_as_answers(model, reference)
        taken = Answers(whole.policy[rows], whole.length[rows], whole.reference[rows])
        return (chance * loss(ListLogps(taken, there, {"score": score})).loss).sum() / chance.sum()

    minimise(value, list(model.parameters()), 1)
    target = (log_probs(reference) + REWARD / BETA).log_softmax(0)
    assert kl(log_probs(reference), target) > 0.3
    assert kl(log_probs(model), target) < 1e-3


def test_dro_v_lands_there_with_its_value_whatever_the_law_of_the_answers():
    loss = registry.build("finetune.losses.unpaired", "dro_v", {"beta": BETA})
    model, reference = language(0), language(0).requires_grad_(False)
    add_value_head(model)
    model.value_head.weight.requires_grad_(False)  # one prompt: its value is the bias
    behaviour = torch.linspace(0.5, 2, len(SENTENCES)).double()

    def value():
        answers, worth = score_as_answers(model, reference, value=True)
        return (behaviour * loss(AnswerLogps(answers, None, {"reward": REWARD}, worth)).loss).mean()

    minimise(value, [one for one in model.parameters() if one.requires_grad], 1)
    target = (log_probs(reference) + REWARD / BETA).log_softmax(0)
    assert kl(log_probs(model), target) < 1e-3
    best = BETA * (log_probs(reference) + REWARD / BETA).logsumexp(0)
    assert model.value_head.bias.item() == pytest.approx(best.item(), abs=1e-2)


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
