"""What is true of every loss on single completions: gradients, independence, TRL's KTO."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.oracles.answers import (
    CHECKS,
    LABELS,
    LENGTHS,
    ROWS,
    WIDTH,
    batch_of,
    log_probs,
)

GROUPS = ("finetune.losses.unpaired", "finetune.losses.token")
VARIANTS = {
    "bco": [{}, {"shift": "pooled"}],
    "kto": [{}, {"desirable_weight": 1.5, "undesirable_weight": 0.5}],
    "npo": [{}, {"retain_weight": 1.0}],
    "nll": [{}, {"mean": "row"}],
    "weighted_sft": [{}, {"mean": "row"}],
}
CASES = [
    pytest.param((group, name, options), id="-".join([name, *map(str, options.values())]))
    for group in GROUPS
    for name in registry.names(group)
    for options in VARIANTS.get(name, [{}])
]


@pytest.fixture(params=CASES)
def loss(request):
    return registry.build(*request.param)


@pytest.mark.parametrize("check", CHECKS)
def test_keeps_the_contract_of_losses_on_completions(loss, check):
    verdict = CHECKS[check](loss)
    if verdict.fate == "skipped":
        pytest.skip(verdict.detail)
    assert verdict.fate == "ok", verdict.detail


def test_what_a_loss_was_not_given_is_a_clear_error():
    bare = AnswerLogps.of(policy=-1)
    for ask in ("good", "prompt_value", "mismatched_answers"):
        with pytest.raises(TypeError, match="given"):
            getattr(bare, ask)
    with pytest.raises(TypeError, match="needs_columns"):
        bare.column("reward")


def test_options_are_frozen_and_rebuild_the_same_loss(loss):
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.beta = 1.0
    assert type(loss)(**dataclasses.asdict(loss)) == loss


# --- TRL 1.16 -------------------------------------------------------------------------------


def trl_kto(kind, tokens, mismatched, settings):
    """TRL's loss of a batch; ``tokens`` and ``mismatched`` are policy's and reference's."""
    from trl import KTOTrainer

    there = (torch.arange(WIDTH) < LENGTHS[:, None]).double()

    def model(which):
        class Said(torch.nn.Module):
            is_gradient_checkpointing = False

            def forward(self, input_ids, **_):
                said = mismatched if int(input_ids[0, 0]) else tokens
                nothing = 0 * there
                return SimpleNamespace(
                    log_probs=said[which] * there, entropy=nothing, mean_logits=nothing
                )

        return Said()

    prompt = torch.zeros(ROWS, 1)
    mask = torch.cat([prompt, there], 1)
    inputs = {
        "input_ids": torch.zeros(ROWS, WIDTH + 1, dtype=torch.long),
        "KL_input_ids": torch.ones(ROWS, WIDTH + 1, dtype=torch.long),
        "completion_mask": mask,
        "KL_completion_mask": mask,
        "attention_mask": torch.ones(ROWS, WIDTH + 1),
        "KL_attention_mask": torch.ones(ROWS, WIDTH + 1),
        "label": LABELS,
    }
    alone = SimpleNamespace(
        device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x
    )
    trainer = SimpleNamespace(
        model=model(0).eval(),
        ref_model=model(1),
        accelerator=alone,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        calculate_KL=kind == "kto",
        loss_type=kind,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
        **settings,
    )
    trainer._compute_kl_logps = lambda *given: KTOTrainer._compute_kl_logps(trainer, *given)
    return KTOTrainer._compute_loss(trainer, trainer.model, inputs, return_outputs=False)


@pytest.mark.parametrize("drift", [-0.5, 0.5])  # a z held at zero, and one above
@pytest.mark.parametrize(
    ("name", "kind"), [("kto", "kto"), ("apo_zero_unpaired", "apo_zero_unpaired")]
)
def test_equal_to_trl(name, kind, drift):
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.7} if name == "kto" else {}
    ours = registry.build(GROUPS[0], name, {"beta": 0.4, **weights})
    policy, reference = log_probs(seed=11, scale=4.0)
    said, noise = log_probs(seed=12)
    mismatched = said, said - drift - 0.1 * noise
    batch = batch_of(ours, policy, reference, mismatched=mismatched)
    settings = {"beta": 0.4, "desirable_weight": 1.0, "undesirable_weight": 1.0, **weights}
    theirs = trl_kto(kind, (policy, reference), mismatched, settings)
    torch.testing.assert_close(ours(batch).loss.mean(), theirs)
