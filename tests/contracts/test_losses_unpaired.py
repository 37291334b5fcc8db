"""What is true of every loss on single completions: gradients, independence, TRL's KTO."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from curate.core import registry
from finetune.losses.answer_types import AnswerLogps, means_of
from finetune.losses.types import Answers, needs_of
from finetune.token_statistics import NEED_REFERENCE, STATISTICS

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
ROWS, WIDTH = 6, 4
LENGTHS = torch.tensor([1, 2, 3, 4, 4, 2])
LABELS = torch.tensor([True, False, True, True, False, False])
COLUMNS = {
    "reward": torch.linspace(-1, 1, ROWS).double(),
    "weight": torch.linspace(0, 2, ROWS).double(),
    "win_probability": torch.linspace(0.1, 0.9, ROWS).double(),
}


@pytest.fixture(params=CASES)
def loss(request):
    return registry.build(*request.param)


def draw(seed=0, scale=1.0, rows=ROWS):
    """Token log-probs ``(rows, WIDTH)`` below zero: the policy's, the reference's."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, rows, WIDTH)
    return -scale * torch.rand(shape, dtype=torch.float64, generator=generator) - 0.05


def answers(needs, policy, reference, length=LENGTHS):
    there = torch.arange(WIDTH) < length[:, None]
    policy, reference = policy * there, reference * there
    generator = torch.Generator().manual_seed(1)
    tokens = {
        name: torch.rand(policy.shape, dtype=torch.float64, generator=generator).to(policy) * there
        for name in needs.tokens
    }
    return Answers(
        policy=policy.sum(1),
        length=length.to(policy.dtype),
        reference=reference.sum(1) if needs.reference else None,
        tokens={**tokens, "policy": policy, "reference": reference} if needs.tokens else {},
    )


def batch_of(loss, policy, reference, value=None):
    """A batch from token log-probs; it gives a loss only what the loss declares."""
    needs = needs_of(loss)
    strange = draw(seed=9) - 0.3 * torch.tensor([0.0, 1.0]).reshape(2, 1, 1)  # a KL above zero
    return AnswerLogps(
        answers(needs, policy, reference),
        label=LABELS if getattr(loss, "needs_label", False) else None,
        columns={name: COLUMNS[name].to(policy.dtype) for name in needs.columns},
        value=torch.zeros(ROWS, dtype=policy.dtype) if value is None and needs.value else value,
        mismatched=answers(needs, *strange.to(policy.dtype)) if needs.mismatched else None,
    )


def with_means(loss, batch):
    """The batch with the means of its step, as the trainer gives them."""
    shares = hasattr(loss, "shared")
    return dataclasses.replace(batch, means=means_of(loss, batch)) if shares else batch


def part(batch, rows):
    whole = batch.answers
    side = Answers(
        policy=whole.policy[rows],
        length=whole.length[rows],
        reference=None if whole.reference is None else whole.reference[rows],
        tokens={name: value[rows] for name, value in whole.tokens.items()},
    )
    return dataclasses.replace(
        batch,
        answers=side,
        label=None if batch.label is None else batch.label[rows],
        columns={name: value[rows] for name, value in batch.columns.items()},
        value=None if batch.value is None else batch.value[rows],
    )


def test_declarations_are_things_a_trainer_can_give(loss):
    needs = needs_of(loss)
    assert set(needs.tokens) <= {*STATISTICS, "policy"}
    assert set(needs.columns) <= COLUMNS.keys()
    assert needs.couples_batch == hasattr(loss, "shared")
    if set(needs.tokens) & set(NEED_REFERENCE) or needs.mismatched:
        assert needs.reference


def test_what_a_loss_was_not_given_is_a_clear_error():
    bare = AnswerLogps.of(policy=-1)
    for ask in ("good", "worth", "strangers"):
        with pytest.raises(TypeError, match="given"):
            getattr(bare, ask)
    with pytest.raises(TypeError, match="needs_columns"):
        bare.column("reward")


def test_options_are_frozen_and_rebuild_the_same_loss(loss):
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.beta = 1.0
    assert type(loss)(**dataclasses.asdict(loss)) == loss


def test_one_finite_loss_a_completion_and_a_detached_reward(loss):
    policy, reference = draw()
    result = loss(batch_of(loss, policy.requires_grad_(), reference))
    for value in (result.loss, result.reward):
        assert value.shape == (ROWS,)
        assert value.isfinite().all()
    assert result.loss.requires_grad
    assert not result.reward.requires_grad


def test_gradients_are_right_in_float64(loss):
    policy, reference = draw(seed=3, scale=3.0)
    means = with_means(loss, batch_of(loss, policy, reference)).means  # a constant to gradients

    def value(given):
        return loss(dataclasses.replace(batch_of(loss, given, reference), means=means)).loss

    if getattr(loss, "weighs_by_policy", False):
        pytest.skip("its weights are detached on purpose; its own test holds the gradient")
    assert torch.autograd.gradcheck(value, (policy.clone().requires_grad_(),))


def test_no_gradient_goes_through_the_means_of_the_batch(loss):
    if not needs_of(loss).couples_batch:
        pytest.skip("it compares nothing with the batch")
    policy, reference = draw(seed=3)
    grads = []
    for given in (lambda batch: batch, lambda batch: with_means(loss, batch)):
        leaf = policy.clone().requires_grad_()
        loss(given(batch_of(loss, leaf, reference))).loss.sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_with_the_means_of_its_step_a_batch_is_its_rows_one_by_one(loss):
    batch = with_means(loss, batch_of(loss, *draw()))
    singles = [loss(part(batch, slice(row, row + 1))).loss for row in range(ROWS)]
    torch.testing.assert_close(loss(batch).loss, torch.cat(singles))


def test_a_batch_without_means_takes_its_own(loss):
    batch = batch_of(loss, *draw())
    torch.testing.assert_close(loss(batch).loss, loss(with_means(loss, batch)).loss)


def test_the_order_of_rows_does_not_matter(loss):
    batch = batch_of(loss, *draw())
    back = torch.arange(ROWS).flip(0)
    torch.testing.assert_close(loss(batch).loss.flip(0), loss(part(batch, back)).loss)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("whose", ["policy", "reference"])
def test_finite_where_a_completion_is_all_but_impossible(loss, whose, dtype):
    """At -10 000 nats: log-ratios of ±10⁴."""
    policy, reference = (value.to(dtype) for value in draw())
    {"policy": policy, "reference": reference}[whose].mul_(1e4)
    leaf = policy.requires_grad_()
    result = loss(batch_of(loss, leaf, reference)).loss
    result.sum().backward()
    assert result.isfinite().all()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("good", [True, False])
def test_a_batch_of_one_class_has_a_loss(loss, good):
    batch = batch_of(loss, *draw())
    if batch.label is None:
        pytest.skip("it reads no labels")
    rows = torch.nonzero(good == LABELS).flatten()
    assert loss(part(batch, rows)).loss.isfinite().all()


# --- TRL 1.16 -------------------------------------------------------------------------------


def trl_kto(kind, tokens, strangers, settings):
    """TRL's loss of a batch; ``tokens`` and ``strangers`` are policy's and reference's."""
    from trl import KTOTrainer

    there = (torch.arange(WIDTH) < LENGTHS[:, None]).double()

    def model(which):
        class Said(torch.nn.Module):
            is_gradient_checkpointing = False

            def forward(self, input_ids, **_):
                said = strangers if int(input_ids[0, 0]) else tokens
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


@pytest.mark.parametrize("drift", [-0.5, 0.5])  # of the strangers: a z held at zero, and one above
@pytest.mark.parametrize(
    ("name", "kind"), [("kto", "kto"), ("apo_zero_unpaired", "apo_zero_unpaired")]
)
def test_equal_to_trl(name, kind, drift):
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.7} if name == "kto" else {}
    ours = registry.build(GROUPS[0], name, {"beta": 0.4, **weights})
    policy, reference = draw(seed=11, scale=4.0)
    strangers = draw(seed=12)
    strangers[1] = strangers[0] - drift - 0.1 * strangers[1]
    needs = needs_of(ours)
    batch = dataclasses.replace(
        batch_of(ours, policy, reference),
        mismatched=answers(needs, *strangers) if needs.mismatched else None,
    )
    settings = {"beta": 0.4, "desirable_weight": 1.0, "undesirable_weight": 1.0, **weights}
    theirs = trl_kto(kind, (policy, reference), strangers, settings)
    torch.testing.assert_close(ours(batch).loss.mean(), theirs)
