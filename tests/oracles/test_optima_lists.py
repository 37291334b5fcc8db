"""Each loss on lists rests where its docstring says, and is what it says it is at the edges."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.losses.list_types import ListLogps, win_rates
from siftune.finetune.losses.types import Answers, PairLogps
from siftune.finetune.oracles.bandit import Bandit, kl, minimise
from tests.oracles.claims import holds

GROUP = "finetune.losses.listwise"
BETA = 0.5
TIGHT = 1e-6  # nats


def build(name, **options):
    return registry.build(GROUP, name, options)


def lists_of(bandit, policy, rows, **columns):
    """Lists of the responses numbered ``rows`` ``(B, K)``."""
    answers = Answers(policy[rows], bandit.length[rows], bandit.ref[rows])
    return ListLogps(answers, torch.ones_like(rows, dtype=torch.bool), columns)


def land(value, bandit, rounds=20):
    logits = bandit.ref.clone().requires_grad_()
    minimise(lambda: value(logits.log_softmax(0)), [logits], rounds)
    return logits.detach().log_softmax(0)


def rankings(size, length):
    """All ordered choices of ``length`` of ``size`` responses, the best first."""
    return torch.tensor(list(itertools.permutations(range(size), length)))


def plackett_luce(reward, rows):
    """The chance of each ranking, given which responses are met."""
    taken = reward[rows]
    below = taken.flip(1).logcumsumexp(1).flip(1)
    return (taken - below).sum(1).exp()


# --- rankings -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
@holds("plackett_luce")
def test_plackett_luce_lands_on_the_boltzmann_policy(length, seed):
    bandit, loss = Bandit.draw(size=4, seed=seed), build("plackett_luce", beta=BETA)
    rows = rankings(4, length)
    chance = plackett_luce(bandit.reward, rows)
    assert chance.sum().item() == pytest.approx(math.comb(4, length))  # one for each set met
    score = -torch.arange(length).double().expand(len(rows), length)

    def value(policy):
        return (chance * loss(lists_of(bandit, policy, rows, score=score)).loss).sum()

    assert kl(bandit.ref, bandit.optimum(BETA)) > 0.05
    assert kl(land(value, bandit), bandit.optimum(BETA)) < TIGHT


def test_plackett_luce_of_two_is_dpo_and_of_a_tie_is_nothing():
    dpo = registry.build("finetune.losses.pair", "dpo", {"beta": 0.7})
    expected = dpo(PairLogps.of((-6, -9), (-5, -7))).loss
    loss = build("plackett_luce", beta=0.7)
    two = {"policy": (-9, -6), "ref": (-7, -5)}
    torch.testing.assert_close(loss(ListLogps.of(**two, score=(0, 1))).loss, expected)
    assert loss(ListLogps.of(**two, score=(1, 1))).loss.item() == 0


@pytest.mark.parametrize("length", [2, 3, 5])
def test_plackett_luce_at_the_reference_costs_the_log_of_all_orders(length):
    same = tuple(range(length))
    found = build("plackett_luce")(ListLogps.of(policy=same, ref=same, score=same)).loss
    assert found.item() == pytest.approx(math.log(math.factorial(length)))


def test_plackett_luce_is_minus_the_log_chance_of_the_ranking():
    reward = torch.tensor([0.3, -1.0, 0.9, 0.2]).double()
    rows = rankings(4, 4)
    for row, chance in zip(rows[::5], plackett_luce(reward, rows)[::5], strict=True):
        score = torch.empty(4).scatter_(0, row, -torch.arange(4.0)).tolist()
        logps = ListLogps.of(policy=reward.tolist(), ref=[0.0] * 4, score=score)
        torch.testing.assert_close(build("plackett_luce", beta=1.0)(logps).loss[0], -chance.log())


# --- the best -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4])
@holds("best_of_k")
def test_the_best_of_k_lands_on_the_law_of_the_best(count):
    bandit, loss = Bandit.draw(size=4), build("best_of_k")
    rows = torch.cartesian_prod(*[torch.arange(4)] * count).reshape(-1, count)
    chance = bandit.ref[rows].sum(1).exp()  # drawn one by one, the same one twice too
    score = bandit.reward[rows]

    def value(policy):
        return (chance * loss(lists_of(bandit, policy, rows, score=score)).loss).sum()

    order = bandit.reward.argsort()
    reached = bandit.ref.exp()[order].cumsum(0) ** count
    target = torch.empty(4).double()
    target[order] = torch.diff(reached, prepend=torch.zeros(1).double())
    found = land(value, bandit)
    assert kl(found, target.log()) < TIGHT
    assert kl(found, bandit.ref) <= math.log(count) - (count - 1) / count + TIGHT
    assert (kl(found, bandit.ref) > 0.05) == (count > 1)


def test_the_best_of_one_is_fine_tuning_and_tied_ones_share():
    sft = registry.build("finetune.losses.token", "nll", {"mean": "row"})
    from siftune.finetune.losses.answer_types import AnswerLogps

    one = build("best_of_k")(ListLogps.of(policy=(-6,), length=(3,), score=(0,))).loss
    torch.testing.assert_close(one, sft(AnswerLogps.of(policy=-6, length=3)).loss)
    tied = ListLogps.of(policy=(-6, -4, -9), length=(3, 1, 1), score=(5, 5, 1))
    assert build("best_of_k")(tied).loss.item() == 3.0  # of 2 and 4


# --- RRHF -----------------------------------------------------------------------------------


@holds("rrhf")
def test_rrhf_ranks_for_nothing_where_the_order_agrees_and_pays_each_pair_that_does_not():
    agreeing = ListLogps.of(policy=(-2, -8, -6), length=(2, 2, 2), score=(9, 1, 3))
    for weight in (0.0, 1.0, 100.0):
        assert build("rrhf", rank_weight=weight)(agreeing).loss.item() == 1.0  # the best's NLL
    wrong = ListLogps.of(policy=(-2, -8, -6), length=(2, 2, 2), score=(1, 9, 3))
    # p -1, -4, -3: 1 over 0 misses by 3, 1 over 2 by 1, 2 over 0 by 2; the best has 4
    assert build("rrhf", rank_weight=10.0)(wrong).loss.item() == 10 * 6 + 4


@holds("rrhf", "best_of_k")
def test_rrhf_without_ranking_is_fine_tuning_on_the_best():
    logps = ListLogps.of(policy=(-6, -4, -9), length=(3, 1, 3), score=(5, 2, 1))
    torch.testing.assert_close(
        build("rrhf", rank_weight=0.0)(logps).loss, build("best_of_k")(logps).loss
    )


def test_rrhf_moves_only_misplaced_pairs_and_the_best():
    policy = torch.tensor([[-2.0, -8.0, -6.0, -9.0]]).double().requires_grad_()
    score = torch.tensor([[4.0, 1.0, 3.0, 2.0]]).double()
    answers = Answers(policy, torch.ones(1, 4).double())
    build("rrhf")(ListLogps(answers, torch.ones(1, 4).bool(), {"score": score})).loss.backward()
    assert policy.grad.tolist() == [[-1.0, 1.0, 0.0, -1.0]]  # 1 stands above 3 and should not


def test_rrhf_counts_length_by_its_exponent():
    logps = ListLogps.of(policy=(-4, -6), length=(4, 9), score=(0, 1))
    best = 6 / 9
    for penalty, wrong in ((0.0, 2.0), (0.5, 0.0), (1.0, 0.0)):
        found = build("rrhf", length_penalty=penalty)(logps).loss.item()
        assert found == pytest.approx(wrong + best)


# --- D2O ------------------------------------------------------------------------------------


@holds("d2o", "dpo")
def test_d2o_with_one_anchor_is_dpo():
    dpo = registry.build("finetune.losses.pair", "dpo", {"beta": 0.7})
    d2o = build("d2o", beta=0.7, alpha=0.7)
    logps = ListLogps.of(policy=(-9, -6), ref=(-7, -5), score=(0, 1))
    torch.testing.assert_close(d2o(logps).loss, dpo(PairLogps.of((-6, -9), (-5, -7))).loss)


def test_d2o_is_at_most_the_mean_of_dpo_over_the_anchors():
    """-log σ is convex: of a mean it is at most the mean, and less where the anchors differ."""
    dpo = registry.build("finetune.losses.pair", "dpo", {"beta": 0.7})
    d2o = build("d2o", beta=0.7, alpha=0.7)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        policy, ref = (-9 * torch.rand(2, 4, generator=generator).double()).tolist()
        whole = d2o(ListLogps.of(policy=policy, ref=ref, score=(2, 0, 2, 1))).loss.item()
        anchors = [0, 2, 3]
        single = PairLogps.of(
            ([policy[k] for k in anchors], [policy[1]] * 3),
            ([ref[k] for k in anchors], [ref[1]] * 3),
        )
        assert whole < dpo(single).loss.mean().item()


def test_d2o_counts_anchors_and_the_bad_one_each_by_its_own_weight():
    logps = ListLogps.of(policy=(-6, -4, -9), ref=(-5, -7, -7), score=(1, 1, 0))
    found = build("d2o", beta=0.5, alpha=2.0)(logps).loss.item()
    assert found == pytest.approx(math.log1p(math.exp(-(0.5 * 1 - 2.0 * -2))))
    same = ListLogps.of(policy=(-6, -4), ref=(-5, -7), score=(1, 1))
    assert build("d2o")(same).loss.item() == 0  # nothing is worse than the rest


# --- XPO ------------------------------------------------------------------------------------

RHO = torch.tensor([0.1, 0.4, 0.3, 0.2]).double()  # the law of the reference's samples


def xpo_of_a_population(loss, bandit, policy):
    """Every pair of a policy's sample (all alike) and one of RHO, labelled by Bradley-Terry."""
    first, second = torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    rows = torch.stack([first, second], 1)
    theirs = torch.tensor([0.0, 1.0]).double().expand(rows.shape)
    total = 0
    for score in ((1.0, 0.0), (0.0, 1.0)):
        label = torch.tensor(score).double().expand(rows.shape)
        gap = bandit.reward[first] - bandit.reward[second]
        chance = RHO[second] / 4 * torch.sigmoid(gap if score[0] else -gap)
        batch = lists_of(bandit, policy, rows, score=label, by_reference=theirs)
        total = total + (chance * loss(batch).loss).sum()
    return total


@holds("xpo", "dpo")
def test_xpo_rests_where_its_optimism_balances_dpo():
    """The slope of DPO's own loss, taken from ``dpo`` on the same pairs, is ``α (π - ρ)``."""
    bandit, alpha = Bandit.draw(size=4), 0.02
    loss = build("xpo", beta=BETA, alpha=alpha)
    found = land(lambda policy: xpo_of_a_population(loss, bandit, policy), bandit)
    free = found.clone().requires_grad_()
    dpo = registry.build("finetune.losses.pair", "dpo", {"beta": BETA})
    first, second = torch.cartesian_prod(torch.arange(4), torch.arange(4)).T
    wins = torch.sigmoid(bandit.reward[first] - bandit.reward[second])
    sides = [Answers(free[rows], torch.ones(16), bandit.ref[rows]) for rows in (first, second)]
    there = dpo(PairLogps(sides[0], sides[1])).loss
    back = dpo(PairLogps(sides[1], sides[0])).loss
    (RHO[second] / 4 * (wins * there + (1 - wins) * back)).sum().backward()
    torch.testing.assert_close(free.grad, alpha * (found.exp() - RHO), atol=1e-8, rtol=0)
    assert kl(found, bandit.optimum(BETA)) > 1e-3


def test_xpo_without_optimism_lands_where_dpo_does_and_with_it_beyond_the_references_samples():
    bandit = Bandit.draw(size=4)
    landed = {}
    for alpha in (0.0, 0.02, 0.05):
        loss = build("xpo", beta=BETA, alpha=alpha)
        landed[alpha] = land(
            lambda policy, loss=loss: xpo_of_a_population(loss, bandit, policy), bandit, 2
        )
    assert kl(landed[0.0], bandit.optimum(BETA)) < TIGHT
    said = [float(RHO @ policy) for policy in landed.values()]  # the mean log-prob of what ρ says
    assert said[0] > said[1] > said[2]


def test_xpo_on_a_list_of_two_is_dpo_and_the_price_of_the_references_sample():
    dpo = registry.build("finetune.losses.pair", "dpo", {"beta": 0.7})
    two = {"policy": (-9, -6), "ref": (-7, -5)}
    for theirs, cost in (((1, 0), -9), ((0, 1), -6)):
        found = build("xpo", beta=0.7, alpha=0.1)(
            ListLogps.of(**two, score=(0, 1), by_reference=theirs)
        ).loss
        torch.testing.assert_close(found, dpo(PairLogps.of((-6, -9), (-5, -7))).loss + 0.1 * cost)


def test_xpo_compares_own_samples_with_the_references_alone_and_leaves_ties_out():
    four = ListLogps.of(
        policy=(-3, -4, -5, -6), ref=(0, 0, 0, 0), score=(3, 1, 2, 3), by_reference=(0, 0, 1, 1)
    )
    # 0 over 2 (2 nats), 2 over 1 (-1), 3 over 1 (-2); 0 and 3 are tied
    terms = [math.log1p(math.exp(-gap)) for gap in (2, -1, -2)]
    found = build("xpo", beta=1.0, alpha=0.01)(four).loss.item()
    assert found == pytest.approx(sum(terms) / 3 + 0.01 * (-5 - 6) / 2)


# --- win rates ------------------------------------------------------------------------------


def test_win_rates_sum_to_half_of_the_list_and_count_oneself_as_a_draw():
    wins = torch.tensor([[9.0, 0.9, 0.4], [0.1, 9.0, 0.7], [0.6, 0.3, 9.0]])
    rates = win_rates(wins)
    torch.testing.assert_close(rates, torch.tensor([1.8, 1.3, 1.4]) / 3)
    assert rates.sum().item() == pytest.approx(1.5)


@holds("dno")
def test_dno_lands_on_a_step_of_mirror_descent():
    bandit, loss = Bandit.draw(size=4), build("dno", beta=BETA)
    rate = torch.tensor([0.9, 0.2, 0.6, 0.3]).double()
    rows = torch.cartesian_prod(*[torch.arange(4)] * 3)
    chance = bandit.ref[rows].sum(1).exp()

    def value(policy):
        return (chance * loss(lists_of(bandit, policy, rows, win_rate=rate[rows])).loss).sum()

    assert kl(land(value, bandit), bandit.optimum(BETA, rate)) < TIGHT


def test_dno_at_its_target_has_the_entropy_of_its_labels():
    logps = ListLogps.of(policy=(-1, -3), ref=(-2, -3.5), win_rate=(0.7, 0.45))  # Δ 0.5
    p = 1 / (1 + math.exp(-0.25))
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert build("dno", beta=0.5)(logps).loss.item() == pytest.approx(entropy)
    same = ListLogps.of(policy=(-1, -1, -1), ref=(-1, -1, -1), win_rate=(0.5, 0.5, 0.5))
    assert build("dno")(same).loss.item() == pytest.approx(math.log(2))  # a mean over three pairs


@holds("spo")
def test_spo_has_the_gradient_of_the_game_against_its_own_samples():
    """As in Nash-MD, with the win rates as they were sampled: a constant to the gradient."""
    bandit, loss = Bandit.draw(size=4), build("spo", beta=BETA)
    rate = torch.tensor([0.9, 0.2, 0.6, 0.3]).double()
    rows = torch.arange(4)[:, None]
    logits = torch.tensor([0.3, -1.0, 0.5, 0.0]).double().requires_grad_()
    policy = logits.log_softmax(0)
    found = loss(lists_of(bandit, policy, rows, win_rate=rate[:, None])).loss
    (policy.detach().exp() * found).sum().backward()
    gradient, logits.grad = logits.grad, None
    policy = logits.log_softmax(0)
    (-(policy.exp() * (rate - BETA * (policy - bandit.ref))).sum()).backward()
    torch.testing.assert_close(gradient, logits.grad)


def test_spos_loss_is_a_mean_over_the_list():
    logps = ListLogps.of(policy=(-4, -2), ref=(-4, -2), win_rate=(0.75, 0.25))
    assert build("spo")(logps).loss.item() == 0.25  # (0.25 · 4 - 0.25 · 2) / 2
