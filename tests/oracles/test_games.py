"""A cycle of preferences, which no reward explains: who finds the Nash mixture, and who cannot.

Exploitability is ``max_y P(y ≻ π) - ½``: what the best answer to π wins beyond a draw (the duality
gap of the symmetric game is twice that). Of the game regularised at β it is
``max_π' [P(π' ≻ π) - β KL(π' ‖ π_ref)] - [½ - β KL(π ‖ π_ref)]``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import root

from siftune.curate.core import registry
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.losses.list_types import ListLogps, win_rates
from siftune.finetune.losses.types import Answers
from siftune.finetune.oracles.bandit import Bandit, kl, land
from tests.oracles.claims import holds

CYCLE = torch.tensor([[0.5, 0.9, 0.4], [0.1, 0.5, 0.7], [0.6, 0.3, 0.5]], dtype=torch.float64)
"""0 beats 1 by far, 1 beats 2, 2 beats 0 by little."""
NASH = torch.tensor([2.0, 1.0, 4.0]).double() / 7  # by hand: all three rates against it are ½
REF = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()


def exploitability(policy):
    return float((CYCLE @ policy.exp()).max()) - 0.5


def regularised_exploitability(policy, beta):
    against = CYCLE @ policy.exp()
    best = beta * (REF + against / beta).logsumexp(0)
    return float(best) - (0.5 - beta * kl(policy, REF))


def equilibrium(beta, mixture=0.0):
    """The policy with ``π ∝ π_ref · exp(P(y ≻ opponent) / β)``, by a root finder."""

    def off(logits):
        policy = torch.tensor(logits).log_softmax(0)
        opponent = ((1 - mixture) * policy + mixture * REF).softmax(0)
        return (policy - (REF + CYCLE @ opponent / beta).log_softmax(0)).numpy()

    found = root(off, REF.numpy(), tol=1e-13)
    # Whether the last step still gained (`success`) hangs on rounding; that it is a root does not.
    assert np.abs(off(found.x)).max() < 1e-9
    return torch.tensor(found.x).log_softmax(0)


def ascend(step, beta, rounds=3000, lr=None):
    """Follow the gradient of a surrogate in the log-probs' own metric (natural gradient)."""
    lr = 0.05 / max(beta, 1) if lr is None else lr
    policy = REF.clone()
    for _ in range(rounds):
        logits = policy.clone().requires_grad_()
        step(logits.log_softmax(0)).backward()
        policy = (policy - lr * logits.grad / policy.exp()).log_softmax(0)
    return policy


def nash_md_value(loss, mixture):
    """Expected surrogate: y from the policy, its win probability against the mixture."""

    def value(policy, ref=REF):
        with torch.no_grad():
            opponent = ((1 - mixture) * policy + mixture * ref).softmax(0)
            beats = CYCLE @ opponent
        answers = Answers(policy, torch.ones(3).double(), ref)
        result = loss(AnswerLogps(answers, columns={"win_probability": beats}))
        return (policy.detach().exp() * result.loss).sum()

    return value


TRIPLES = torch.cartesian_prod(*[torch.arange(3)] * 3)


def drawn_lists(policy, ref, rows):
    """Lists of own samples, their chance, and the win rates that are the judge's."""
    rates = win_rates(CYCLE[rows[:, :, None], rows[:, None, :]])
    there = torch.ones_like(rows, dtype=torch.bool)
    answers = Answers(policy[rows], torch.ones(rows.shape).double(), ref[rows])
    return ListLogps(answers, there, {"win_rate": rates})


def spo_value(loss):
    """Expected surrogate over lists of three own samples."""

    def value(policy, ref):
        chance = policy.detach()[TRIPLES].sum(1).exp()
        return (chance * loss(drawn_lists(policy, ref, TRIPLES)).loss).sum()

    return value


def test_the_cycle_is_a_cycle_and_its_nash_is_where_nothing_gains():
    torch.testing.assert_close(CYCLE + CYCLE.T, torch.ones(3, 3).double())
    torch.testing.assert_close(CYCLE @ NASH, torch.full((3,), 0.5).double())
    assert exploitability(NASH.log()) == pytest.approx(0, abs=1e-12)
    assert exploitability(REF) > 0.1


@holds("dpo")
def test_dpo_cannot_find_it():
    """It lands on the fit of a reward, which is no answer to a cycle: others exploit it."""
    bandit = Bandit(torch.zeros(3).double(), REF, torch.ones(3).double(), torch.ones(3, 3).double())
    for beta in (0.05, 0.1, 0.5):
        loss = registry.build("finetune.losses.pair", "dpo", {"beta": beta})
        assert exploitability(land(loss, bandit, CYCLE)) > 0.05


@pytest.mark.parametrize("mixture", [0.0, 0.125])
@holds("nash_md")
def test_nash_md_rests_at_its_equilibrium(mixture):
    beta = 0.1
    loss = registry.build("finetune.losses.unpaired", "nash_md", {"beta": beta})
    value = nash_md_value(loss, mixture)
    found = ascend(value, beta, rounds=4000)
    assert kl(found, equilibrium(beta, mixture)) < 1e-6
    assert regularised_exploitability(REF, beta) > 0.04
    if mixture == 0.0:
        assert regularised_exploitability(found, beta) < 1e-6
        assert kl(found, NASH.log()) > 1e-3  # of the regularised game, which is not the game's
    else:
        assert regularised_exploitability(found, beta) < 0.02


@holds("spo")
def test_spo_with_lists_of_own_samples_rests_at_the_regularised_nash():
    """A list counts itself as a draw, which shrinks its win rates by (K - 1) / K: β with them."""
    beta = 0.1
    loss = registry.build("finetune.losses.listwise", "spo", {"beta": beta * 2 / 3})
    value = spo_value(loss)
    found = ascend(lambda policy: value(policy, REF), beta, rounds=4000)
    assert kl(found, equilibrium(beta)) < 1e-6
    assert regularised_exploitability(found, beta) < 1e-6


@holds("spo")
def test_spo_with_its_last_policy_as_reference_finds_the_nash_of_the_game():
    loss = registry.build("finetune.losses.listwise", "spo", {"beta": 0.1})
    value, ref = spo_value(loss), REF.clone()
    for _ in range(60):
        policy = ref.clone()
        for _ in range(25):
            logits = policy.clone().requires_grad_()
            value(logits.log_softmax(0), ref).backward()
            policy = (policy - 2 * logits.grad / policy.exp()).log_softmax(0)
        ref = policy
    assert exploitability(ref) < 0.02


def settle(value, logits):
    """L-BFGS until the gradient is below 1e-7: a round need not be exact to the last digit."""
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=60, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = value()
        loss.backward()
        return loss

    optimiser.step(closure)


@holds("dno")
def test_dno_finds_it_as_the_mean_of_its_rounds():
    """Rounds are trained to the end on lists of samples of the round before."""
    loss = registry.build("finetune.losses.listwise", "dno", {"beta": 1.0})
    policy, rounds = REF.clone(), []
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2]])
    for _ in range(80):
        last = policy
        rates = CYCLE @ last.exp()  # of very many samples
        chance = last[pairs].sum(1).exp()
        logits = last.clone().requires_grad_()

        def value(logits=logits, last=last, rates=rates, chance=chance):
            log_probs = logits.log_softmax(0)
            answers = Answers(log_probs[pairs], torch.ones(pairs.shape).double(), last[pairs])
            there = torch.ones_like(pairs, dtype=torch.bool)
            batch = ListLogps(answers, there, {"win_rate": rates[pairs]})
            return (chance * loss(batch).loss).sum()

        settle(value, logits)
        policy = logits.detach().log_softmax(0)
        rounds.append(policy.exp())
    mean = torch.stack(rounds).mean(0)
    assert exploitability(mean.log()) < 0.02
    assert exploitability(policy) > 0.02  # the last round goes round and round
    assert kl(mean.log(), NASH.log()) < 0.01
