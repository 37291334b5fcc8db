"""What is true of every loss on pairs: gradients, independence, finiteness, equality with TRL."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.oracles.contract import CHECKS
from siftune.finetune.oracles.random_batches import LENGTHS, log_probs, pairs_of
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


@pytest.fixture(params=CASES and [case.values for case in CASES], ids=[case.id for case in CASES])
def loss(request):
    name, options = request.param
    return registry.build(GROUP, name, options)


@pytest.mark.parametrize("check", CHECKS)
def test_keeps_the_contract_of_losses_on_pairs(loss, check):
    verdict = CHECKS[check](loss)
    if verdict.fate == "skipped":
        pytest.skip(verdict.detail)
    assert verdict.fate == "ok", verdict.detail


def test_options_are_frozen_and_rebuild_the_same_loss(loss):
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.beta = 1.0
    assert type(loss)(**dataclasses.asdict(loss)) == loss


OF_ITS_OWN = {"dpo_llama3", "f_dpo", "sft", "slic_hf", "alphapo"}  # no multiple of a log-ratio
REWARD = {  # of an answer, over β; its log-ratio in the others
    "cpo": lambda answers: answers.policy,
    "orpo": lambda answers: answers.mean,
    "simpo": lambda answers: answers.mean,
    "dpo_norm": lambda answers: answers.ratio / answers.length,
}


@pytest.mark.parametrize("name", sorted({*registry.names(GROUP)} - OF_ITS_OWN))
def test_the_reward_of_an_answer_is_beta_times_its_log_ratio(name):
    loss = registry.build(GROUP, name, {"beta": 0.7, **({"alpha": 1} if name == "ld_dpo" else {})})
    batch = pairs_of(loss, *log_probs(seed=11, scale=4.0))
    found, rule = loss(batch), REWARD.get(name, lambda answers: answers.ratio)
    torch.testing.assert_close(found.chosen_reward, 0.7 * rule(batch.chosen))
    torch.testing.assert_close(found.rejected_reward, 0.7 * rule(batch.rejected))


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
    policy, reference = log_probs(seed=11, scale=4.0)
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

    policy, reference = log_probs(seed=5, scale=4.0)
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
    batch = pairs_of(orpo, *log_probs(seed=5, scale=4.0))
    means = batch.chosen.mean, batch.rejected.mean
    here = SimpleNamespace(beta=0.4, accelerator=SimpleNamespace(device=torch.device("cpu")))
    odds = ORPOTrainer.odds_ratio_loss(here, *means)[0]
    expected = -batch.chosen.mean - odds
    torch.testing.assert_close(orpo(batch).loss, expected, rtol=1e-5, atol=1e-5)  # theirs: float32
