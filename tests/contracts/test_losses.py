"""What is true of every loss on pairs: gradients, independence, finiteness, equality with TRL."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch

from curate.core import registry
from finetune.losses.types import Answers, PairLogps, needs_of
from finetune.token_statistics import NEED_REFERENCE, STATISTICS
from tests.oracles.trl_values import trl_loss

GROUP = "finetune.losses.pair"
VARIANTS = {
    "ipo": [{}, {"ratios": "sum"}],
    "cdpo": [{}, {"label_smoothing": 0.0}],
    "robust_dpo": [{}, {"label_smoothing": 0.3}],
    "dpop": [{}, {"penalty": 0.0}, {"beta": 0.3, "penalty": 50.0}],
    "gpo": [{"f": f} for f in get_args(get_type_hints(registry.find(GROUP, "gpo"))["f"])],
    "f_dpo": [
        {"divergence": name}
        for name in get_args(get_type_hints(registry.find(GROUP, "f_dpo"))["divergence"])
    ],
    "rpo_reward_aware": [{"distance": name} for name in ("backward", "forward", "squared")],
    "wpo": [{"clamp": False}, {}],
    "aot": [{}, {"label_smoothing": 0.2}],
    "alphapo": [{}, {"alpha": -0.5}],
}
CASES = [
    pytest.param(name, options, id="-".join([name, *map(str, options.values())]))
    for name in registry.names(GROUP)
    for options in VARIANTS.get(name, [{}])
]
PAIRS, WIDTH = 5, 4
LENGTHS = torch.tensor([[1, 2, 3, 4, 4], [4, 3, 2, 2, 1]])  # of chosen and of rejected
COLUMNS = {"score_chosen": 0.9, "score_rejected": 0.2, "margin": 0.7, "win_probability": 0.8}


@pytest.fixture(params=CASES and [case.values for case in CASES], ids=[case.id for case in CASES])
def loss(request):
    name, options = request.param
    return registry.build(GROUP, name, options)


def draw(pairs=PAIRS, seed=0, scale=1.0):
    """Token log-probs ``(2, pairs, WIDTH)``, all below zero; the second draw is the reference's."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 2, pairs, WIDTH)
    return -scale * torch.rand(shape, dtype=torch.float64, generator=generator) - 0.05


def answers(loss, policy, reference, length, seed=0):
    """One side from token log-probs, with whatever ``loss`` asks for beside them."""
    needs = needs_of(loss)
    there = torch.arange(policy.shape[1]) < length[:, None]
    policy, reference = policy * there, reference * there
    generator = torch.Generator().manual_seed(seed)
    tokens = {
        name: torch.rand(policy.shape, dtype=torch.float64, generator=generator) * there
        for name in needs.tokens
    }
    if "log_sum_squares" in tokens:
        tokens["log_sum_squares"] = -tokens["log_sum_squares"]
    return Answers(
        policy=policy.sum(1),
        length=length.to(policy.dtype),
        reference=reference.sum(1) if needs.reference else None,
        tokens={**tokens, "policy": policy, "reference": reference} if needs.tokens else {},
    )


def pairs_of(loss, policy, reference, lengths=LENGTHS):
    """A batch from ``(2, B, T)`` token log-probs; it gives a loss only what the loss declares."""
    sides = [
        answers(loss, policy[side], reference[side], lengths[side], seed=side) for side in (0, 1)
    ]
    size = policy.shape[1]
    columns = {
        name: torch.linspace(COLUMNS[name] / 2, COLUMNS[name], size, dtype=torch.float64)
        for name in needs_of(loss).columns
    }
    return PairLogps(sides[0], sides[1], columns)


def part(batch, rows):
    """The pairs ``rows`` of a batch."""

    def side(whole):
        return Answers(
            policy=whole.policy[rows],
            length=whole.length[rows],
            reference=None if whole.reference is None else whole.reference[rows],
            tokens={name: value[rows] for name, value in whole.tokens.items()},
        )

    columns = {name: value[rows] for name, value in batch.columns.items()}
    return PairLogps(side(batch.chosen), side(batch.rejected), columns)


def test_declarations_are_things_the_trainer_can_give(loss):
    needs = needs_of(loss)
    assert set(needs.tokens) <= {*STATISTICS, "policy", "formatting"}
    assert set(needs.columns) <= COLUMNS.keys()
    if set(needs.tokens) & set(NEED_REFERENCE):
        assert needs.reference


def test_options_are_frozen_and_rebuild_the_same_loss(loss):
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.beta = 1.0
    assert type(loss)(**dataclasses.asdict(loss)) == loss


def test_one_finite_loss_a_pair_and_detached_rewards(loss):
    policy, reference = draw()
    policy.requires_grad_()
    result = loss(pairs_of(loss, policy, reference))
    for value in (result.loss, result.chosen_reward, result.rejected_reward):
        assert value.shape == (PAIRS,)
        assert value.isfinite().all()
    assert result.loss.requires_grad
    assert not result.chosen_reward.requires_grad
    assert not result.rejected_reward.requires_grad


def test_gradients_are_right_in_float64(loss):
    policy, reference = draw(seed=3, scale=3.0)
    policy.requires_grad_()
    if getattr(loss, "weighs_by_policy", False):  # a detached weight is no part of the gradient
        pytest.skip("its weights are detached on purpose; its own test holds the gradient")
    assert torch.autograd.gradcheck(
        lambda given: loss(pairs_of(loss, given, reference)).loss, (policy,)
    )


def test_a_pair_does_not_change_its_neighbours(loss):
    if needs_of(loss).couples_batch:
        pytest.skip("couples_batch: the pairs of a batch are compared with each other")
    policy, reference = draw()
    batch = pairs_of(loss, policy, reference)
    other = policy.clone()
    other[:, 0] *= 3
    changed = loss(pairs_of(loss, other, reference)).loss
    assert changed[0] != loss(batch).loss[0]
    torch.testing.assert_close(changed[1:], loss(batch).loss[1:], rtol=0, atol=0)


def test_a_batch_is_its_pairs_one_by_one(loss):
    if needs_of(loss).couples_batch:
        pytest.skip("couples_batch: the pairs of a batch are compared with each other")
    batch = pairs_of(loss, *draw())
    singles = torch.cat([loss(part(batch, slice(row, row + 1))).loss for row in range(PAIRS)])
    torch.testing.assert_close(loss(batch).loss, singles)


def test_the_order_of_pairs_does_not_matter(loss):
    batch = pairs_of(loss, *draw())
    back = torch.arange(PAIRS).flip(0)
    there, here = loss(batch).loss.mean(), loss(part(batch, back)).loss.mean()
    torch.testing.assert_close(there, here)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("whose", ["policy", "reference"])
def test_finite_where_a_completion_is_all_but_impossible(loss, side, whose, dtype):
    """One completion at -10 000 nats: log-ratios and gaps of ±10⁴."""
    policy, reference = (value.to(dtype) for value in draw())
    {"policy": policy, "reference": reference}[whose][side] *= 1e4
    policy.requires_grad_()
    result = loss(pairs_of(loss, policy, reference)).loss
    result.sum().backward()
    assert result.isfinite().all()
    assert policy.grad.isfinite().all()


def test_finite_for_a_completion_that_is_certain(loss):
    policy, reference = draw()
    policy = torch.zeros_like(policy, requires_grad=True)
    result = loss(pairs_of(loss, policy, reference)).loss
    result.sum().backward()
    assert result.isfinite().all()
    assert policy.grad.isfinite().all()


# --- TRL 1.16 -------------------------------------------------------------------------------

TRL = {
    # a label: (our loss, its options, TRL's loss_type, TRL's settings)
    "dpo": ("dpo", {}, "sigmoid", {}),
    "rso_sigmoid": ("rso_sigmoid", {}, "sigmoid", {}),
    "rso_hinge": ("rso_hinge", {}, "hinge", {}),
    "gpo-hinge": ("gpo", {"f": "hinge"}, "hinge", {}),
    "ipo": ("ipo", {}, "ipo", {}),
    "robust_dpo": ("robust_dpo", {}, "robust", {"label_smoothing": 0.1}),
    "exo": ("exo", {"label_smoothing": 0.02}, "exo_pair", {"label_smoothing": 0.02}),
    "nca": ("nca", {}, "nca_pair", {}),
    "bco_pair": ("bco_pair", {}, "bco_pair", {}),
    "sppo_hard": ("sppo_hard", {}, "sppo_hard", {}),
    "aot": ("aot", {"label_smoothing": 0.1}, "aot", {"label_smoothing": 0.1}),
    "aot_unpaired": ("aot_unpaired", {}, "aot_unpaired", {}),
    "apo_zero": ("apo_zero", {}, "apo_zero", {}),
    "apo_down": ("apo_down", {}, "apo_down", {}),
    "discopop": ("discopop", {}, "discopop", {}),
    "dpo_norm": ("dpo_norm", {}, "sigmoid_norm", {}),
    "ld_dpo": ("ld_dpo", {"alpha": 0.3}, "sigmoid", {"ld_alpha": 0.3}),
    "wpo": ("wpo", {"clamp": False}, "sigmoid", {"use_weighting": True}),
    "f_dpo-forward_kl": ("f_dpo", {}, "sigmoid", {"f_divergence_type": "forward_kl"}),
    "f_dpo-js": ("f_dpo", {"divergence": "js"}, "sigmoid", {"f_divergence_type": "js_divergence"}),
    "f_dpo-reverse_kl": ("f_dpo", {"divergence": "reverse_kl"}, "sigmoid", {}),
    "f_dpo-alpha": (
        "f_dpo",
        {"divergence": "alpha", "alpha": 0.3},
        "sigmoid",
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
    ),
}


@pytest.mark.parametrize("label", sorted(TRL))
@pytest.mark.parametrize("beta", [0.1, 1.3])
def test_equal_to_trl(label, beta):
    name, options, kind, settings = TRL[label]
    ours = registry.build(GROUP, name, {"beta": beta, **options})
    policy, reference = draw(seed=11, scale=4.0)
    batch = pairs_of(ours, policy, reference)
    if name == "wpo":
        sides = (batch.chosen, batch.rejected)
        stacked = [side.tokens["log_sum_squares"] for side in sides]
        settings = {**settings, "log_sum_squares": torch.stack(stacked)}
    if label == "f_dpo-alpha":  # TRL's has no float64
        policy, reference = policy.float(), reference.float()
    theirs = trl_loss(kind, policy, reference, LENGTHS, beta=beta, **settings)
    torch.testing.assert_close(ours(batch).loss.mean().to(theirs.dtype), theirs)


def test_simpo_and_cpo_are_trls_once_told_the_same():
    """TRL's ``CPOTrainer.cpo_loss`` takes γ itself, and log-probs that are already means."""
    from trl.experimental.cpo import CPOTrainer

    policy, reference = draw(seed=5, scale=4.0)
    batch = pairs_of(registry.build(GROUP, "simpo", {}), policy, reference)

    def theirs(kind, chosen, rejected, **settings):
        given = {"loss_type": kind, "label_smoothing": 0.0, "alpha": 0.0, **settings}
        here = SimpleNamespace(device=torch.device("cpu"))
        return CPOTrainer.cpo_loss(SimpleNamespace(**given, accelerator=here), chosen, rejected)[0]

    means = batch.chosen.mean, batch.rejected.mean
    simpo = registry.build(GROUP, "simpo", {"beta": 2.5, "gamma_beta_ratio": 0.3})
    found = theirs("simpo", *means, beta=2.5, simpo_gamma=0.75)
    torch.testing.assert_close(simpo(batch).loss, found)

    bent = registry.build(GROUP, "alphapo", {"beta": 2.5, "gamma_beta_ratio": 0.3, "alpha": 0.4})
    found = theirs("simpo", *means, beta=2.5, simpo_gamma=0.75, alpha=0.4)
    torch.testing.assert_close(bent(batch).loss, found)

    cpo = registry.build(GROUP, "cpo", {"beta": 0.3, "sft_weight": 0.0})
    found = theirs("sigmoid", batch.policy_chosen, batch.policy_rejected, beta=0.3)
    torch.testing.assert_close(cpo(batch).loss, found)

    slic = registry.build(GROUP, "slic_hf", {"regularisation": 0.0})
    found = theirs("hinge", batch.policy_chosen, batch.policy_rejected, beta=1.0)
    torch.testing.assert_close(slic(batch).loss, found)


def test_orpo_is_trls_but_for_the_part_that_fine_tunes():
    from trl.experimental.orpo import ORPOTrainer

    orpo = registry.build(GROUP, "orpo", {"beta": 0.4})
    batch = pairs_of(orpo, *draw(seed=5, scale=4.0))
    means = batch.chosen.mean, batch.rejected.mean
    here = SimpleNamespace(beta=0.4, accelerator=SimpleNamespace(device=torch.device("cpu")))
    odds = ORPOTrainer.odds_ratio_loss(here, *means)[0]
    expected = -batch.chosen.mean - odds
    torch.testing.assert_close(orpo(batch).loss, expected, rtol=1e-5, atol=1e-5)  # theirs: float32
