"""What ties the losses to each other: special cases, limits, gradients worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.losses.types import Answers, PairLogps, needs_of
from tests.oracles.claims import holds

GROUP = "finetune.losses.pair"


def build(name, **options):
    return registry.build(GROUP, name, options)


def numbers(count=6, seed=0, scale=4.0):
    generator = torch.Generator().manual_seed(seed)
    return -scale * torch.rand(2, 2, count, dtype=torch.float64, generator=generator)


def batch(policy, ref, length=None, **columns):
    ones = torch.ones_like(policy)
    length = ones if length is None else length
    sides = [Answers(policy[side], length[side], ref[side]) for side in (0, 1)]
    return PairLogps(sides[0], sides[1], columns)


def tokened(policy, ref, lengths=None, **tokens):
    """Pairs from token values ``(2, B, T)``; ``tokens`` are further ones of that shape."""
    lengths = torch.full(policy.shape[:2], policy.shape[2]) if lengths is None else lengths
    there = torch.arange(policy.shape[2]) < lengths[..., None]
    every = {"policy": policy * there, "reference": ref * there, **tokens}
    sides = [
        Answers(
            policy=every["policy"][side].sum(1),
            lengths=lengths[side],
            reference=every["reference"][side].sum(1),
            tokens={name: value[side] for name, value in every.items()},
        )
        for side in (0, 1)
    ]
    return PairLogps(sides[0], sides[1])


def same(ours, theirs, given, factor=1.0):
    torch.testing.assert_close(ours(given).loss, factor * theirs(given).loss)


PAIRS = batch(*numbers())
DPO = build("dpo", beta=0.7)


def gradient(loss, policy, ref, **more):
    """Of the summed loss by the policy's log-probs ``(2, B)``."""
    policy = policy.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(batch(policy, ref, **more)).loss.sum(), policy)
    return found


@pytest.mark.parametrize(
    ("name", "options", "value"),
    [
        ("dpo", {}, math.log(2)),
        ("cdpo", {}, math.log(2)),
        ("robust_dpo", {}, math.log(2)),
        ("rso_sigmoid", {}, math.log(2)),
        ("rso_hinge", {}, 1.0),
        ("dpop", {}, math.log(2)),
        ("ipo", {"beta": 0.25}, 4.0),
        ("gpo", {"f": "savage"}, 0.25),
        ("gpo", {"f": "exponential"}, 1.0),
        ("f_dpo", {}, math.log(2)),
        ("exo", {"label_smoothing": 0.1}, -math.log(2) - 0.5 * math.log(0.09)),
        ("nca", {}, 2 * math.log(2)),
        ("bco_pair", {}, 2 * math.log(2)),
        ("apo_zero", {}, 1.0),
        ("apo_down", {}, 1.0),
        ("sppo_hard", {"beta": 0.5}, 2.0),
        ("aot", {}, math.log(2)),
        ("aot_unpaired", {}, math.log(2)),
        ("dpo_norm", {}, math.log(2)),
        ("discopop", {}, 0.5 * math.log(2) + 0.5),
    ],
)
def test_a_policy_that_is_its_reference_has_a_known_loss(name, options, value):
    policy = numbers()[0]
    found = build(name, **options)(batch(policy, policy)).loss
    torch.testing.assert_close(found, torch.full((6,), value, dtype=torch.float64))


def test_dpo_pulls_both_completions_equally_by_how_wrong_it_is():
    policy, ref = numbers()
    by_hand = -0.7 * torch.sigmoid(-0.7 * PAIRS.gap)
    torch.testing.assert_close(gradient(DPO, policy, ref), torch.stack([by_hand, -by_hand]))


def test_swapping_chosen_and_rejected_turns_the_logit_round():
    """log(1 + e^-z) less log(1 + e^z) is -z."""
    swapped = PairLogps(PAIRS.rejected, PAIRS.chosen)
    torch.testing.assert_close(DPO(PAIRS).loss - DPO(swapped).loss, -0.7 * PAIRS.gap)
    for name in ("ipo", "rso_hinge", "exo"):
        assert (build(name)(PAIRS).loss != build(name)(swapped).loss).all()


@pytest.mark.parametrize("distance", ["backward", "forward", "squared"])
def test_rewards_say_which_is_better_not_the_order(distance):
    loss = build("rpo_reward_aware", distance=distance)
    scores = torch.linspace(-1, 2, 6).double(), torch.linspace(1, 0, 6).double()
    names = ("score_chosen", "score_rejected")
    there = replace(PAIRS, columns=dict(zip(names, scores, strict=True)))
    columns = dict(zip(names, reversed(scores), strict=True))
    back = PairLogps(PAIRS.rejected, PAIRS.chosen, columns)
    torch.testing.assert_close(loss(there).loss, loss(back).loss)


@pytest.mark.parametrize(
    ("special", "general"),
    [
        (build("cdpo", beta=0.7, label_smoothing=0.0), DPO),
        (build("robust_dpo", beta=0.7, label_smoothing=0.0), DPO),
        (build("dpop", beta=0.7, penalty=0.0), DPO),
        (build("gpo", beta=0.7), DPO),
        (build("rso_sigmoid", beta=0.7), DPO),
        (build("r_dpo", beta=0.7, alpha=0.0), DPO),
        (build("f_dpo", beta=0.7, divergence="reverse_kl"), DPO),
        (build("gpo", beta=0.7, f="hinge"), build("rso_hinge", beta=0.7)),
        (build("f_dpo", divergence="alpha", alpha=1.0), build("f_dpo", divergence="forward_kl")),
        (build("ipo", beta=0.3), build("ipo", beta=0.3, ratios="sum")),  # of one token each
        (build("dpo_norm", beta=0.7), DPO),
    ],
)
def test_special_cases(special, general):
    same(special, general, PAIRS)


def test_alpha_divergence_tends_to_dpo():
    for alpha, error in ((1e-2, 0.05), (1e-4, 5e-4), (1e-6, 5e-6)):
        near = build("f_dpo", beta=0.7, divergence="alpha", alpha=alpha)
        assert (near(PAIRS).loss - DPO(PAIRS).loss).abs().max() < error


def test_forward_kl_goes_on_as_a_straight_line_where_it_would_overflow():
    """f'(u) = 1 - 1/u: 0 at u = 1; below a log-ratio of -20 along its tangent, e^20 a nat."""
    policy = torch.tensor([[-21.0, -26.0], [-1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    found = build("f_dpo", beta=1.0)(batch(policy, torch.full((2, 2), -1.0).double()))
    assert found.chosen_reward.tolist() == pytest.approx([1 - math.e**20, 1 - 6 * math.e**20])
    assert found.rejected_reward.tolist() == [0, 0]
    (pull,) = torch.autograd.grad(found.loss.sum(), policy)
    assert pull[0].tolist() == pytest.approx([-(math.e**20)] * 2)


def test_gpo_squared_is_ipo_at_half_its_beta():
    same(build("gpo", f="squared", beta=0.7), build("ipo", ratios="sum", beta=0.35), PAIRS, 0.49)


@pytest.mark.parametrize("f", ["logistic", "hinge", "squared", "exponential", "savage"])
def test_gpo_functions_fall_at_zero(f):
    policy = numbers()[0]
    chosen, rejected = gradient(build("gpo", f=f, beta=1.0), policy, policy)
    assert (chosen < 0).all()
    torch.testing.assert_close(chosen, -rejected)


def test_robust_dpo_is_unbiased():
    """Labels flipped at ε: (1 - ε) L(z) + ε L(-z) is the DPO loss of the true label."""
    robust, swapped = build("robust_dpo", beta=0.7, label_smoothing=0.3), PAIRS.rejected
    flipped = PairLogps(swapped, PAIRS.chosen)
    mean = 0.7 * robust(PAIRS).loss + 0.3 * robust(flipped).loss
    torch.testing.assert_close(mean, DPO(PAIRS).loss)


def test_dpop_is_dpo_where_chosen_has_gained_and_charges_where_it_lost():
    policy, ref = numbers()
    gained = policy[0] >= ref[0]
    assert 0 < gained.sum() < len(gained)
    dpop = build("dpop", beta=0.7, penalty=5.0)
    ours, theirs = dpop(PAIRS).loss, DPO(PAIRS).loss
    torch.testing.assert_close(ours[gained], theirs[gained])
    assert (ours[~gained] > theirs[~gained]).all()
    chosen, rejected = gradient(dpop, policy, ref)
    torch.testing.assert_close(chosen[~gained], -6 * rejected[~gained])  # 1 + λ


def test_reward_aware_losses_vanish_when_the_gaps_match():
    columns = {"score_chosen": 0.7 * PAIRS.gap, "score_rejected": torch.zeros(6).double()}
    for distance in ("backward", "forward", "squared"):
        loss = build("rpo_reward_aware", distance=distance, beta=0.7)
        found = loss(replace(PAIRS, columns=columns)).loss
        torch.testing.assert_close(found, torch.zeros(6).double(), atol=1e-12, rtol=0)


def test_reward_aware_backward_is_dpo_when_rewards_are_far_apart():
    far = {
        "score_chosen": torch.full((6,), 1e3).double(),
        "score_rejected": torch.zeros(6).double(),
    }
    same(build("rpo_reward_aware", beta=0.7), DPO, replace(PAIRS, columns=far))


def test_reward_aware_squared_with_a_gap_of_one_half_is_ipo_rescaled():
    half = {
        "score_chosen": torch.full((6,), 0.5).double(),
        "score_rejected": torch.zeros(6).double(),
    }
    squared = build("rpo_reward_aware", distance="squared", beta=0.7)
    same(squared, build("ipo", ratios="sum", beta=0.7), replace(PAIRS, columns=half), 0.49)


def test_soft_sppo_with_certain_wins_is_hard_sppo():
    sure = replace(PAIRS, columns={"win_probability": torch.ones(6).double()})
    same(build("sppo_soft", beta=0.2), build("sppo_hard", beta=0.2), sure)


def test_exo_is_zero_at_the_logit_of_its_smoothing_and_nowhere_else():
    logits = torch.tensor([math.log(0.9 / 0.1), 0.0, 5.0]).double()
    policy = torch.stack([logits, torch.zeros(3).double()])
    found = build("exo", beta=1.0, label_smoothing=0.1)(batch(policy, torch.zeros_like(policy)))
    assert found.loss[0].abs() < 1e-12
    assert (found.loss[1:] > 0.05).all()


@holds("apo_zero", "apo_down")
def test_anchored_losses_move_what_they_say():
    policy, ref = numbers()
    chosen, rejected = gradient(build("apo_zero", beta=0.7), policy, ref)
    slope = [torch.sigmoid(0.7 * r) * torch.sigmoid(-0.7 * r) * 0.7 for r in policy - ref]
    torch.testing.assert_close(chosen, -slope[0])
    torch.testing.assert_close(rejected, slope[1])
    chosen, rejected = gradient(build("apo_down", beta=0.7), ref, ref)
    assert (rejected > 0).all()
    torch.testing.assert_close(chosen, torch.zeros(6).double(), atol=1e-12, rtol=0)  # σ' - σ'


@holds("discopop")
def test_discopop_is_logistic_for_wrong_pairs_and_exponential_for_right_ones():
    z = torch.tensor([-3.0, 3.0]).double()
    policy = torch.stack([z, torch.zeros(2).double()])
    found = build("discopop", beta=1.0, tau=1e-3)(batch(policy, torch.zeros_like(policy))).loss
    torch.testing.assert_close(
        found, torch.tensor([math.log1p(math.exp(3)), math.exp(-3)]).double()
    )


@holds("aot", "aot_unpaired", "dpo")
def test_aot_alone_in_its_batch_is_dpo():
    for name in ("aot", "aot_unpaired"):
        for row in range(6):
            one = batch(*numbers()[:, :, row : row + 1])
            same(build(name, beta=0.7), DPO, one)


@holds("aot_unpaired")
def test_unpaired_aot_does_not_know_who_stood_beside_whom():
    policy, ref = numbers()
    turned = [torch.stack([value[0], value[1].roll(1)]) for value in (policy, ref)]
    loss = build("aot_unpaired", beta=0.7)
    torch.testing.assert_close(loss(batch(*turned)).loss.mean(), loss(PAIRS).loss.mean())
    paired = build("aot", beta=0.7)
    assert paired(batch(*turned)).loss.mean() != paired(PAIRS).loss.mean()


def test_aot_is_never_above_any_other_pairing_of_its_gaps():
    """Sorting both is the cheapest transport under a convex cost."""
    loss, (policy, ref) = build("aot", beta=0.7), numbers()
    ours = loss(PAIRS).loss.mean()
    gaps, old = (policy[0] - policy[1]), (ref[0] - ref[1])
    for seed in range(20):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        other = -torch.nn.functional.logsigmoid(0.7 * (gaps - old[order])).mean()
        assert ours <= other + 1e-12


# --- lengths and tokens -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["simpo", "orpo", "alphapo", "dpo_norm", "ipo", "sft"])
def test_saying_every_token_twice_leaves_losses_of_means_alone(name):
    policy, ref = numbers()
    length = torch.full((2, 6), 3.0).double()
    once, twice = batch(policy, ref, length), batch(2 * policy, 2 * ref, 2 * length)
    same_loss = build(name)
    torch.testing.assert_close(same_loss(once).loss, same_loss(twice).loss)
    assert (build("dpo")(once).loss != build("dpo")(twice).loss).all()


def test_simpo_without_margin_on_equal_lengths_is_dpo_without_a_reference():
    policy, ref = numbers()
    given = batch(policy, ref, torch.full((2, 6), 4.0).double())
    alone = build("cpo", beta=2.0 / 4, sft_weight=0.0)
    same(build("simpo", beta=2.0, gamma_beta_ratio=0.0), alone, given)
    uniform = batch(policy, torch.full_like(ref, -3.0))
    same(alone, build("dpo", beta=0.5), uniform)


@holds("alphapo", "simpo")
def test_alphapo_tends_to_simpo_and_at_alpha_minus_one_gaps_are_of_probabilities():
    policy, ref = numbers()
    given = batch(policy, ref, torch.full((2, 6), 4.0).double())
    simpo = build("simpo", beta=2.0, gamma_beta_ratio=0.3)(given).loss
    for alpha, far in ((1e-2, 0.1), (1e-4, 1e-3), (1e-6, 1e-5)):
        near = build("alphapo", alpha=alpha, beta=2.0, gamma_beta_ratio=0.3)(given).loss
        assert (near - simpo).abs().max() < far
    found = build("alphapo", alpha=-1.0, beta=2.0, gamma_beta_ratio=0.0)(given).loss
    mean_token = (policy / 4).exp()  # (1 - p) / -1 is p - 1
    expected = -torch.nn.functional.logsigmoid(2.0 * (mean_token[0] - mean_token[1]))
    torch.testing.assert_close(found, expected)


def test_cpo_adds_the_nll_of_a_chosen_token():
    policy, ref = numbers()
    length = torch.full((2, 6), 4.0).double()
    with_nll = build("cpo", sft_weight=1.0)(batch(policy, ref, length)).loss
    without = build("cpo", sft_weight=0.0)(batch(policy, ref, length)).loss
    torch.testing.assert_close(with_nll - without, -policy[0] / 4)


@holds("orpo")
def test_orpo_has_the_odds_of_the_mean_token():
    p, q = 0.6, 0.2
    policy = torch.tensor([[3 * math.log(p)], [2 * math.log(q)]]).double()
    length = torch.tensor([[3.0], [2.0]]).double()
    found = build("orpo", beta=0.3)(batch(policy, policy, length)).loss.item()
    odds = (p / (1 - p)) / (q / (1 - q))
    assert found == pytest.approx(-math.log(p) - 0.3 * math.log(odds / (1 + odds)))


@holds("slic_hf")
def test_slic_beyond_its_margin_only_fine_tunes():
    policy = torch.tensor([[-1.0, -3.0], [-5.0, -3.5]]).double()
    chosen, rejected = gradient(build("slic_hf", regularisation=0.5), policy, policy)
    assert chosen.tolist() == [-0.5, -1.5]
    assert rejected.tolist() == [0.0, 1.0]


def test_a_longer_chosen_completion_is_content_with_less():
    """The reward it is fitted to has the price of length taken off."""
    policy, ref = numbers()
    longer = torch.stack([torch.full((6,), 9.0), torch.full((6,), 2.0)]).double()
    loss = build("r_dpo", beta=0.7, alpha=0.1)
    found = loss(batch(policy, ref, longer)).loss
    torch.testing.assert_close(found, -torch.nn.functional.logsigmoid(0.7 * PAIRS.gap + 0.7))


TOKENS = numbers(count=20).reshape(2, 2, 5, 4)
RAGGED = torch.tensor([[1, 2, 3, 4, 4], [4, 3, 2, 2, 1]])


def test_ld_dpo_is_dpo_for_equal_lengths_and_at_alpha_one():
    given = tokened(*TOKENS)
    same(build("ld_dpo", beta=0.7, alpha=0.3), DPO, given)
    ragged = tokened(*TOKENS, RAGGED)
    same(build("ld_dpo", beta=0.7, alpha=1.0), DPO, ragged)
    assert (build("ld_dpo", beta=0.7, alpha=0.3)(ragged).loss != DPO(ragged).loss).all()


def test_ld_dpo_at_zero_does_not_see_past_the_shorter_completion():
    loss, (policy, ref) = build("ld_dpo", beta=0.7, alpha=0.0), TOKENS
    shared = RAGGED.min(0).values
    cut = tokened(policy, ref, torch.stack([shared, shared]))
    same(loss, DPO, cut)
    torch.testing.assert_close(loss(tokened(policy, ref, RAGGED)).loss, DPO(cut).loss)


def spread(seed=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 5, 4, dtype=torch.float64, generator=generator)


def test_tdpo_has_no_drift_at_the_reference_and_is_dpo_then():
    policy = TOKENS[0]
    given = tokened(policy, policy, RAGGED, ref_kl=torch.zeros(2, 5, 4).double())
    for name in ("tdpo1", "tdpo2"):
        found = build(name)(given).loss
        torch.testing.assert_close(found, torch.full((5,), math.log(2)).double())


@holds("tdpo1", "tdpo2")
def test_tdpo_by_hand():
    kls, there = spread(), torch.arange(4) < RAGGED[..., None]
    given = tokened(*TOKENS, RAGGED, ref_kl=kls)
    chosen, rejected = (kls * there).sum(2)
    logit = 0.7 * (given.gap - (rejected - chosen))
    found = build("tdpo1", beta=0.7)(given).loss
    torch.testing.assert_close(found, -torch.nn.functional.logsigmoid(logit))
    same(build("tdpo2", beta=0.7, alpha=0.0), DPO, given)
    torch.testing.assert_close(build("tdpo2", beta=0.7, alpha=1.0)(given).loss, found)


def test_tdpo2_lets_no_gradient_through_the_chosen_drift():
    for name, through in (("tdpo1", True), ("tdpo2", False)):
        kls = spread().requires_grad_()
        build(name)(tokened(*TOKENS, RAGGED, ref_kl=kls)).loss.sum().backward()
        assert bool(kls.grad[0].abs().sum() > 0) is through
        assert kls.grad[1].abs().sum() > 0


@holds("wpo", "dpo")
def test_wpo_weighs_dpo_by_what_the_policy_would_say_and_not_through_it():
    squares = -spread()
    policy = TOKENS[0].clone().requires_grad_()
    for clamp in (False, True):
        given = tokened(policy, TOKENS[1], RAGGED, log_sum_squares=squares)
        there = torch.arange(4) < RAGGED[..., None]
        weight = (((policy - squares) * there).sum(2) / RAGGED).sum(0).exp().detach()
        weight = weight.clamp(max=1) if clamp else weight
        wpo = build("wpo", beta=0.7, clamp=clamp)(given).loss
        torch.testing.assert_close(wpo, weight * DPO(given).loss)
        (ours,) = torch.autograd.grad(wpo.sum(), policy, retain_graph=True)
        (theirs,) = torch.autograd.grad((weight * DPO(given).loss).sum(), policy)
        torch.testing.assert_close(ours, theirs)


def test_wpo_clamps_what_is_likelier_than_the_policys_own_words():
    given = tokened(*TOKENS, RAGGED, log_sum_squares=torch.full((2, 5, 4), -9.0).double())
    same(build("wpo", beta=0.7), DPO, given)
    assert (build("wpo", beta=0.7, clamp=False)(given).loss > DPO(given).loss).all()


@holds("dpo_llama3", "dpo")
def test_llama3_leaves_formatting_out_of_the_preference_and_not_out_of_the_nll():
    formatting = torch.zeros(2, 5, 4).double()
    last = RAGGED[..., None] - 1 == torch.arange(4)
    plain = tokened(*TOKENS, RAGGED, formatting=formatting)
    same(build("dpo_llama3", beta=0.7, sft_weight=0.0), DPO, plain)
    policy = TOKENS[0].clone().requires_grad_()
    given = tokened(policy, TOKENS[1], RAGGED, formatting=last.double())
    build("dpo_llama3", sft_weight=0.0)(given).loss.sum().backward(retain_graph=True)
    assert (policy.grad[last] == 0).all()
    before = policy.grad.clone()
    build("dpo_llama3", sft_weight=0.2)(given).loss.sum().backward()
    nll = policy.grad - 2 * before
    there = torch.arange(4) < RAGGED[0][:, None]
    torch.testing.assert_close(
        nll[0][there], (-0.2 / RAGGED[0][:, None]).expand(5, 4)[there].double()
    )
    assert (nll[1] == 0).all()


def test_weighted_losses_add_up_and_need_what_their_parts_need():
    from siftune.finetune.losses.weighted import Weighted

    policy, ref = numbers()
    given = batch(policy, ref, torch.full((2, 6), 4.0).double())
    cpo = Weighted(((build("cpo", sft_weight=0.0), 1.0), (build("sft"), 1.0)))
    same(cpo, build("cpo"), given)
    plain = tokened(*TOKENS, RAGGED, formatting=torch.zeros(2, 5, 4).double())
    llama = Weighted(((DPO, 1.0), (build("sft"), 0.2)))
    same(llama, build("dpo_llama3", beta=0.7), plain)
    torch.testing.assert_close(llama(plain).chosen_reward, DPO(plain).chosen_reward)
    every = needs_of(
        Weighted(((build("sft"), 1.0), (build("tdpo1"), 1.0), (build("sppo_soft"), 1.0)))
    )
    assert every.reference
    assert every.tokens == ("ref_kl",)
    assert every.columns == ("win_probability",)
    assert not every.couples_batch
    assert needs_of(Weighted(((build("sft"), 1.0), (build("aot"), 1.0)))).couples_batch


def test_what_was_not_asked_for_is_not_there():
    bare = PairLogps.of(policy=(-1, -2))
    with pytest.raises(TypeError, match="set needs_reference = True"):
        build("dpo")(bare)
    with pytest.raises(TypeError, match="'ref_kl' were given: list them in needs_tokens"):
        build("tdpo1")(PairLogps.of(policy=(-1, -2), ref=(-1, -1)))
    with pytest.raises(TypeError, match="'score_chosen' was given: list it in needs_columns"):
        build("rpo_reward_aware")(PairLogps.of(policy=(-1, -2), ref=(-1, -1)))


@pytest.mark.parametrize("sides", [1.0, (1.0,), (1.0, 2.0, 3.0)])
def test_pairs_have_two_sides(sides):
    with pytest.raises(UsageError, match=r"policy: expected \(chosen, rejected\), got"):
        PairLogps.of(policy=sides)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cdpo", {"label_smoothing": 0.5}, r"label_smoothing is in \[0, 0.5\), got 0.5"),
        ("robust_dpo", {"label_smoothing": 0.5}, r"label_smoothing is in \[0, 0.5\), got 0.5"),
        ("exo", {"label_smoothing": 0.0}, r"label_smoothing is in \(0, 0.5\), got 0.0"),
        ("ld_dpo", {"alpha": 1.5}, r"alpha is in \[0, 1\], got 1.5"),
        ("f_dpo", {"alpha": 0.0}, r"alpha is in \(0, 1\], got 0.0"),
        ("alphapo", {"alpha": 0.0}, "alpha is not 0: that is simpo"),
        ("gpo", {"f": "cubic"}, "gpo: f: .*'logistic'"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(name, options, said):
    from siftune.curate.core.errors import UsageError

    with pytest.raises(UsageError, match=said):
        build(name, **options)


def test_a_loss_that_declares_nothing_needs_nothing():
    assert needs_of(object()) == needs_of(build("sft"))
