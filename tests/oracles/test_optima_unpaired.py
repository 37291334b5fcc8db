"""Each loss on single completions, trained to the end, rests where its docstring says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.optimize import brentq

from siftune.curate.core import registry
from siftune.finetune.losses.answer_types import AnswerLogps, means_of
from siftune.finetune.losses.token.quark import quantised
from siftune.finetune.losses.types import Answers, PairLogps, needs_of
from siftune.finetune.oracles.bandit import Bandit, kl, minimise
from tests.oracles.claims import holds, holds_each

GROUPS = ("finetune.losses.unpaired", "finetune.losses.token")
BETA = 0.5
TIGHT = 1e-6  # nats


def build(name, **options):
    group = next(group for group in GROUPS if name in registry.names(group))
    return registry.build(group, name, options)


def completions(loss, bandit, policy, label=None, value=None, means=None, **columns):
    """Every response once: label ``(K,)``; the values a token has at the bandit's one state."""
    p = policy.exp()
    known = {
        "policy": policy,
        "reference": bandit.ref,
        "kl": (p * (policy - bandit.ref)).sum().expand(len(p)),
        "ref_kl": (bandit.ref.exp() * (bandit.ref - policy)).sum().expand(len(p)),
        "entropy": -(p * policy).sum().expand(len(p)),
    }
    tokens = {name: value[:, None] for name, value in known.items()}
    answers = Answers(policy, torch.ones_like(policy), bandit.ref, tokens)
    known = {"reward": bandit.reward, **columns}
    needed = {name: known[name] for name in needs_of(loss).columns}
    return AnswerLogps(answers, label, needed, value, means=means or {})


def land(value, bandit, extra=()):
    """Log-probs that minimise ``value(policy)``, ``extra`` being trained beside them."""
    logits = bandit.ref.clone().requires_grad_()
    minimise(lambda: value(logits.log_softmax(0)), [logits, *extra])
    return logits.detach().log_softmax(0)


def law(size=5, seed=7):
    """A law of completions that is not the reference's, nowhere 0."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, dtype=torch.float64, generator=generator).add(0.1).log_softmax(0).exp()


# --- rewards --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@holds("dro_v")
def test_dro_v_lands_on_the_boltzmann_policy_and_its_value_whatever_the_law(seed):
    bandit, behaviour, loss = Bandit.draw(seed=seed), law(), build("dro_v", beta=BETA)
    worth = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def value(policy):
        batch = completions(loss, bandit, policy, value=worth.expand(5), reward=bandit.reward)
        return (behaviour * loss(batch).loss).sum()

    found = land(value, bandit, [worth])
    assert kl(bandit.ref, bandit.optimum(BETA)) > 0.1
    assert kl(found, bandit.optimum(BETA)) < TIGHT
    best = BETA * (bandit.ref + bandit.reward / BETA).logsumexp(0)
    assert worth.item() == pytest.approx(best.item(), abs=1e-6)


@holds("reward_weighted")
def test_reward_weighted_regression_lands_there_for_completions_of_the_reference():
    bandit = Bandit.draw()
    loss = build("reward_weighted", beta=BETA, max_weight=1e9)

    for drawn in (bandit.ref.exp(), law()):

        def value(policy, drawn=drawn):
            batch = completions(loss, bandit, policy, reward=bandit.reward)
            return (drawn * loss(batch).loss).sum()

        target = (drawn.log() + bandit.reward / BETA).log_softmax(0)
        assert kl(land(value, bandit), target) < TIGHT
    assert kl(target, bandit.optimum(BETA)) > 0.01  # the law of the completions matters here


def test_no_reward_weighs_more_than_the_ceiling():
    logps = AnswerLogps.of(policy=[-2, -2, -2], length=1, reward=[0, 1, 100])
    found = build("reward_weighted", beta=1.0, max_weight=2.0)(logps).loss
    assert found.tolist() == [2.0, 4.0, 4.0]


# --- labels ---------------------------------------------------------------------------------

RATES = torch.tensor([0.9, 0.7, 0.5, 0.3, 0.1]).double()  # of being labelled desirable
BOTH = torch.tensor([True] * 5 + [False] * 5)


def labelled(loss, bandit, policy, means=None):
    """The expected loss when each response is as likely met, and labelled by its rate."""
    twice = Bandit(bandit.reward.repeat(2), bandit.ref.repeat(2), bandit.length.repeat(2))
    batch = completions(loss, twice, policy.repeat(2), BOTH, means=means)
    return (torch.cat([RATES, 1 - RATES]) * loss(batch).loss).sum() / 5


@holds("bco")
def test_bco_pulls_each_completion_to_its_odds_above_the_shift():
    bandit, loss, middle = Bandit.draw(), build("bco", beta=BETA), torch.tensor(0.3).double()
    means = {"desirable": middle + 1, "undesirable": middle - 1}
    ratio = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    minimise(lambda: labelled(loss, bandit, bandit.ref + ratio, means), [ratio])
    expected = (middle + RATES.logit()) / BETA
    torch.testing.assert_close(ratio.detach(), expected, atol=1e-6, rtol=0)


@holds("kto", "apo_zero_unpaired")
def test_kto_and_apo_zero_keep_what_is_mostly_desirable_by_its_closed_form():
    """Of what stays, ``(aλ_D - bλ_U) σ'(β (l - z)) / π`` is the same; the rest is gone."""
    bandit = Bandit.draw()
    weights = {"desirable_weight": 1.2, "undesirable_weight": 0.9}
    cases = [
        (build("kto", beta=2.0, **weights), torch.tensor(0.4).double(), 1.2, 0.9),
        (build("apo_zero_unpaired", beta=2.0), torch.tensor(0.0).double(), 1.0, 1.0),
    ]
    for loss, z, gain, pain in cases:
        found = land(
            lambda policy, loss=loss, z=z: labelled(loss, bandit, policy, {"kl": z}), bandit
        )
        pull = RATES * gain - (1 - RATES) * pain
        stays = found.exp() > 1e-3
        assert stays.sum() == 2
        assert (pull[stays] > 0).all()
        at = torch.sigmoid(2.0 * (found - bandit.ref - z))
        balance = (pull * at * (1 - at) / found.exp())[stays]
        torch.testing.assert_close(balance, balance[:1].expand_as(balance), rtol=1e-3, atol=0)


# --- forgetting -----------------------------------------------------------------------------

FORGET, WEIGHT = 1, 0.3  # the response to be forgotten, and how much that weighs


def forgetting(loss, bandit, policy, kept, length=None):
    """The expected loss: response FORGET undesirable, all of the law ``kept`` desirable."""
    length = torch.ones(5).double() if length is None else length
    rows = torch.cat([torch.tensor([FORGET]), torch.arange(5)])
    weight = torch.cat([torch.tensor([WEIGHT]).double(), kept])
    batch = completions(loss, bandit, policy, torch.arange(6) > 0)
    answers = batch.answers
    tokens = {name: value[rows] for name, value in answers.tokens.items()}
    taken = Answers(answers.policy[rows], length[rows], answers.ref[rows], tokens)
    return (weight * loss(replace(batch, answers=taken)).loss).sum()


@holds_each({name: (name, {"retain_weight": 1.0}) for name in ("npo", "npo_kl")})
def test_npo_with_a_retain_term_lands_on_its_closed_form(name, options):
    bandit = Bandit.draw(seed=2)
    beta = 0.8
    kept = law() if name == "npo" else bandit.ref.exp()
    loss = build(name, beta=beta, **options)
    found = land(lambda policy: forgetting(loss, bandit, policy, kept), bandit)
    assert kl(found, balanced(kept, bandit.ref, beta).log()) < TIGHT
    assert found[FORGET] < kept[FORGET].log() - 0.1
    assert kl(found, kept.log()) > 1e-3


def balanced(pull, ref, beta):
    """The policy at which forgetting FORGET is even with what pulls at each response."""

    def policy(log_p):
        force = 2 * WEIGHT * torch.sigmoid(torch.as_tensor(beta * (log_p - ref[FORGET])))
        return (pull - force * (torch.arange(5) == FORGET)) / (pull.sum() - force)

    most = float((pull / pull.sum())[FORGET].log()) - 1e-9
    at = brentq(lambda log_p: float(policy(log_p)[FORGET]) - np_exp(log_p), -30, most, xtol=1e-14)
    return policy(at)


@holds("npo")
def test_npo_pulls_at_what_is_kept_by_its_mean_over_tokens():
    """A long answer is pulled at by as much less as it is longer: not by the sum over its tokens.

    Whether answers are of one token or of more, the policy has one probability for each of them.
    """
    bandit, kept, beta = Bandit.draw(seed=2), law(), 0.8
    length = torch.tensor([1.0, 1, 2, 4, 8]).double()
    loss = build("npo", beta=beta, retain_weight=1.0)
    found = land(lambda policy: forgetting(loss, bandit, policy, kept, length), bandit)
    assert kl(found, balanced(kept / length, bandit.ref, beta).log()) < TIGHT
    assert kl(found, balanced(kept, bandit.ref, beta).log()) > 0.1


def np_exp(x):
    return float(torch.tensor(x).double().exp())


def test_npo_tends_to_gradient_ascent_and_dies_out_where_a_completion_is_forgotten():
    ref = torch.tensor([-3.0, -2.0, -9.0]).double()
    for beta, worst in ((0.1, 1.0), (1e-3, 1e-2), (1e-6, 1e-5)):
        policy = torch.tensor([-9.0, -2.0, -1.0]).double().requires_grad_()
        answers = Answers(policy, torch.ones(3).double(), ref)
        build("npo", beta=beta)(AnswerLogps(answers, torch.zeros(3).bool())).loss.sum().backward()
        assert (policy.grad - 1).abs().max() < worst  # the gradient of the log-prob itself is 1
        expected = 2 * torch.sigmoid(beta * (policy.detach() - ref))
        torch.testing.assert_close(policy.grad, expected)
    far = torch.tensor([-1e4]).double().requires_grad_()
    gone = AnswerLogps(Answers(far, torch.ones(1).double(), ref[:1]), torch.zeros(1).bool())
    build("npo").__call__(gone).loss.sum().backward()
    assert far.grad.item() == pytest.approx(0, abs=1e-12)


# --- imitation ------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", ["token", "row"])
@holds("nll", "weighted_sft")
def test_fine_tuning_lands_on_the_law_of_the_data_times_its_weights(mean):
    bandit, drawn = Bandit.draw(), law()
    weight = torch.tensor([0.0, 1, 2, 3, 4]).double() + 0.5
    for name, target in (("nll", drawn), ("weighted_sft", drawn * weight)):
        loss = build(name, mean=mean)
        means = {"length": torch.tensor(1.0), "weight": (drawn * weight).sum()}

        def value(policy, loss=loss, means=means):
            batch = completions(loss, bandit, policy, means=means, weight=weight)
            return (drawn * loss(batch).loss).sum()

        assert kl(land(value, bandit), (target / target.sum()).log()) < TIGHT


@holds("quark", "nll")
def test_quark_lands_where_its_three_forces_balance():
    bandit, drawn = Bandit.draw(), law()
    loss = build("quark", kl_weight=0.4, entropy_weight=0.3)

    def value(policy):
        return (drawn * loss(completions(loss, bandit, policy)).loss).sum()

    found = land(value, bandit)
    balance = 0.4 * (found - bandit.ref) + 0.3 * found - drawn / found.exp()
    torch.testing.assert_close(balance, balance.mean().expand(5), atol=1e-6, rtol=0)
    plain = build("quark", kl_weight=0.0, entropy_weight=0.0)
    batch = completions(plain, bandit, found)
    torch.testing.assert_close(plain(batch).loss, build("nll")(batch).loss)


def test_quarks_best_bin_is_better_than_its_worst_and_bins_are_of_one_size():
    bandit, loss = Bandit.draw(size=6), build("quark", kl_weight=0.05, entropy_weight=0.06)
    bins = quantised(bandit.reward, bins=3)
    assert torch.bincount(bins).tolist() == [2] * 3
    assert torch.bincount(quantised(torch.arange(13.0), bins=5)).tolist() == [2, 2, 2, 2, 5]
    means = []
    for bin_ in (0, 2):
        drawn = (bins == bin_).double() / 2

        def value(policy, drawn=drawn):
            return (drawn * loss(completions(loss, bandit, policy)).loss).sum()

        means.append(float((land(value, bandit).exp() * bandit.reward).sum()))
    assert means[0] > bandit.ref.exp() @ bandit.reward > means[1]
    with pytest.raises(ValueError, match="bins: expected 1 to 6"):
        quantised(bandit.reward, bins=7)


def test_fine_tuning_by_tokens_is_the_sum_over_tokens_however_it_is_split():
    """Micro-batches of one, given the step's means, add to NLL over tokens: 10 nats, 4 tokens."""
    logps = AnswerLogps.of(policy=[-6, -4], length=[3, 1])
    whole = build("nll")(logps).loss
    assert whole.mean().item() == 2.5
    wrong = [build("nll")(AnswerLogps.of(policy=p, length=n)).loss for p, n in ((-6, 3), (-4, 1))]
    assert torch.cat(wrong).mean().item() == 3.0  # each by its own mean: the other loss
    assert build("nll", mean="row")(logps).loss.mean().item() == 3.0


def test_equal_weights_are_no_weights_and_their_scale_does_not_matter():
    for mean in ("token", "row"):
        rows = {"policy": [-6, -4, -3], "length": [3, 1, 2]}
        plain = build("nll", mean=mean)(AnswerLogps.of(**rows)).loss
        same = build("weighted_sft", mean=mean)(AnswerLogps.of(**rows, weight=[7, 7, 7])).loss
        torch.testing.assert_close(same, plain)
        some = [build("weighted_sft", mean=mean)(AnswerLogps.of(**rows, weight=w)).loss
                for w in ([1, 2, 0], [10, 20, 0])]  # fmt: skip
        torch.testing.assert_close(some[0], some[1])
        with pytest.raises(ValueError, match="weight: expected 0 or more"):
            build("weighted_sft", mean=mean)(AnswerLogps.of(**rows, weight=[1, -1, 1]))
        nothing = build("weighted_sft", mean=mean)(AnswerLogps.of(**rows, weight=[0, 0, 0])).loss
        assert nothing.tolist() == [0, 0, 0]


# --- identities -----------------------------------------------------------------------------


def two(label=(True, False), **given):
    return AnswerLogps.of(policy=[-6, -9], ref=[-5, -7], label=list(label), **given)


def test_kto_without_weight_on_undesirable_rows_moves_only_desirable_ones():
    loss = build("kto", undesirable_weight=0.0)
    policy = torch.tensor([-6.0, -9.0, -4.0]).double().requires_grad_()
    ref = torch.full((3,), -5.0).double()
    strange = Answers(ref + 1, torch.ones(3).double(), ref)
    label = torch.tensor([True, False, True])
    batch = AnswerLogps(Answers(policy, torch.ones(3).double(), ref), label, mismatched=strange)
    loss(batch).loss.sum().backward()
    assert policy.grad[1] == 0
    assert (policy.grad[[0, 2]] < 0).all()


def test_npos_kl_is_a_mean_over_the_tokens_of_what_is_kept():
    tokens = {"policy": torch.zeros(1, 3), "ref_kl": torch.tensor([[1.0, 3.0, 9.0]])}
    kept = Answers(torch.zeros(1), torch.tensor([2.0]), torch.zeros(1), tokens)  # two, and padding
    batch = AnswerLogps(kept, torch.tensor([True]))
    assert build("npo_kl", retain_weight=5.0)(batch).loss.item() == 10.0


def test_no_gradient_goes_through_z_or_the_shift():
    policy = torch.tensor([-6.0, -9.0]).double().requires_grad_()
    ones, ref = torch.ones(2).double(), torch.tensor([-5.0, -7.0]).double()
    strange = Answers(policy + 9, ones, ref)
    label = torch.tensor([True, False])
    batch = AnswerLogps(Answers(policy, ones, ref), label, mismatched=strange)
    for loss in (build("kto"), build("bco"), build("bco", shift="pooled")):
        means = means_of(loss, batch)
        assert not any(value.requires_grad for value in means.values())


def test_ktos_z_is_held_at_zero_after_the_mean_and_belongs_to_the_whole_step():
    loss = build("kto", beta=1.0)

    def with_strangers(*ratios):
        ratio = torch.tensor(ratios).double()
        return replace(two(), mismatched=Answers(ratio, torch.ones_like(ratio), 0 * ratio))

    zero, apo = loss(with_strangers(-3.0, 1.0)).loss, build("apo_zero_unpaired", beta=1.0)(two())
    torch.testing.assert_close(zero, apo.loss)  # clamped before the mean it would be 0.5
    half = loss(with_strangers(-3.0, 4.0)).loss
    torch.testing.assert_close(half[0], torch.sigmoid(torch.tensor(1.5).double()))  # z ½, l -1
    step = loss(replace(with_strangers(9.0), means={"kl": torch.tensor(0.5).double()})).loss
    torch.testing.assert_close(step, half)


def test_bco_with_no_shift_is_bco_on_pairs_and_its_shifts_differ_on_unbalanced_batches():
    pair = registry.build("finetune.losses.pair", "bco_pair", {"beta": 0.7})
    nothing = {"all": torch.tensor(0.0).double()}
    alone = build("bco", beta=0.7)(replace(two(), means=nothing)).loss.sum()
    torch.testing.assert_close(alone, pair(PairLogps.of((-6, -9), (-5, -7))).loss[0])
    three = AnswerLogps.of(policy=[0, 0, 3], ref=[0, 0, 0], label=[True, True, False])
    rewards = torch.tensor([0.0, 0.0, 3.0]).double()
    sign = torch.tensor([1.0, 1.0, -1.0]).double()
    for shift, middle in (("classes", 1.5), ("pooled", 1.0)):
        found = build("bco", beta=1.0, shift=shift)(three).loss
        expected = torch.nn.functional.softplus(-sign * (rewards - middle))
        torch.testing.assert_close(found, expected)


@holds("nash_md")
def test_nash_md_has_the_gradient_of_the_game():
    """REINFORCE's surrogate, weighted by the policy, against the game's own gradient.

    The opponent is fixed: ``P(π ≻ opponent) - β KL(π ‖ π_ref)`` is differentiated as it stands.
    """
    bandit, beats, loss = Bandit.draw(), law(), build("nash_md", beta=BETA)
    logits = torch.tensor([0.3, -1.0, 0.5, 0.0, 1.0]).double().requires_grad_()
    policy = logits.log_softmax(0)
    batch = completions(loss, bandit, policy, win_probability=beats)
    (policy.detach().exp() * loss(batch).loss).sum().backward()
    found, logits.grad = logits.grad, None
    policy = logits.log_softmax(0)
    game = (policy.exp() * (beats - BETA * (policy - bandit.ref))).sum()
    (-game).backward()
    torch.testing.assert_close(found, logits.grad)
