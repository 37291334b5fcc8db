"""What is true of every loss on lists: gradients, independence, the order of a list, padding."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from curate.core import registry
from finetune.losses.list_types import ListLogps
from finetune.losses.types import Answers, needs_of
from finetune.token_statistics import STATISTICS

GROUP = "finetune.losses.listwise"
VARIANTS = {
    "rrhf": [{}, {"rank_weight": 100.0, "length_penalty": 0.5}],
    "d2o": [{}, {"alpha": 0.3}],
}
CASES = [
    pytest.param((name, options), id="-".join([name, *map(str, options.values())]))
    for name in registry.names(GROUP)
    for options in VARIANTS.get(name, [{}])
]
LISTS, SIZE = 4, 5
LENGTHS = torch.tensor([[1.0, 2, 3, 4, 4]] * LISTS).double()
THERE = torch.arange(SIZE) < torch.tensor([5, 3, 4, 2])[:, None]
SCORES = torch.tensor([[3.0, 1, 2, 5, 4], [1, 1, 0, 9, 9], [2, 0, 2, 1, 9], [0, 1, 9, 9, 9]])
COLUMNS = {
    "score": SCORES.double(),
    "win_rate": (SCORES / 10).double(),
    "by_reference": torch.tensor([[0.0, 1, 0, 1, 0]] * LISTS).double(),
}


@pytest.fixture(params=CASES)
def loss(request):
    return registry.build(GROUP, *request.param)


def draw(seed=0, scale=4.0):
    """Summed log-probs ``(LISTS, SIZE)``: the policy's, the reference's."""
    generator = torch.Generator().manual_seed(seed)
    return -scale * torch.rand(2, LISTS, SIZE, dtype=torch.float64, generator=generator)


def batch_of(loss, policy, reference, there=THERE):
    """A batch laid out as the docstring of `ListLogps` says; only what the loss declares."""
    needs = needs_of(loss)
    length = torch.where(there, LENGTHS.to(policy.dtype), 1)
    answers = Answers(policy * there, length, reference * there if needs.reference else None)
    columns = {name: COLUMNS[name].to(policy.dtype) for name in needs.columns}
    return ListLogps(answers, there, columns)


def part(batch, lists=slice(None), items=slice(None)):
    def cut(value):
        return None if value is None else value[lists][:, items]

    whole = batch.answers
    answers = Answers(cut(whole.policy), cut(whole.length), cut(whole.reference))
    columns = {name: cut(value) for name, value in batch.columns.items()}
    return ListLogps(answers, cut(batch.there), columns)


def test_declarations_are_things_a_trainer_can_give(loss):
    needs = needs_of(loss)
    assert set(needs.tokens) <= {*STATISTICS, "policy"}
    assert set(needs.columns) <= COLUMNS.keys()
    assert not needs.couples_batch


def test_options_are_frozen_and_rebuild_the_same_loss(loss):
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.beta = 1.0
    assert type(loss)(**dataclasses.asdict(loss)) == loss


def test_one_finite_loss_a_list_and_detached_rewards(loss):
    policy, reference = draw()
    result = loss(batch_of(loss, policy.requires_grad_(), reference))
    assert result.loss.shape == (LISTS,)
    assert result.reward.shape == (LISTS, SIZE)
    assert result.loss.isfinite().all()
    assert result.reward.isfinite().all()
    assert result.loss.requires_grad
    assert not result.reward.requires_grad


def test_gradients_are_right_in_float64(loss):
    if getattr(loss, "weighs_by_policy", False):
        pytest.skip("its weights are detached on purpose; its own test holds the gradient")
    policy, reference = draw(seed=3)
    assert torch.autograd.gradcheck(
        lambda given: loss(batch_of(loss, given, reference)).loss, (policy.requires_grad_(),)
    )


def test_a_batch_is_its_lists_one_by_one(loss):
    batch = batch_of(loss, *draw())
    singles = [loss(part(batch, slice(row, row + 1))).loss for row in range(LISTS)]
    torch.testing.assert_close(loss(batch).loss, torch.cat(singles))


def test_the_order_of_a_list_does_not_matter(loss):
    """Ties too: rows 1 and 2 have some."""
    batch = batch_of(loss, *draw())
    shuffled = part(batch, items=torch.tensor([3, 1, 4, 0, 2]))
    torch.testing.assert_close(loss(batch).loss, loss(shuffled).loss)


def test_padding_of_a_list_changes_nothing(loss):
    batch = batch_of(loss, *draw())
    for row, size in enumerate(THERE.sum(1).tolist()):
        alone = part(batch, slice(row, row + 1), slice(None, size))
        torch.testing.assert_close(loss(alone).loss[0], loss(batch).loss[row])


def test_padding_gets_no_gradient(loss):
    policy, reference = draw()
    loss(batch_of(loss, policy.requires_grad_(), reference)).loss.sum().backward()
    assert (policy.grad[~THERE] == 0).all()
    assert (policy.grad[0] != 0).any()


def test_a_list_of_one_has_a_loss(loss):
    alone = part(batch_of(loss, *draw()), items=slice(None, 1))
    assert loss(alone).loss.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("item", [0, 1])
@pytest.mark.parametrize("whose", ["policy", "reference"])
def test_finite_where_a_completion_is_all_but_impossible(loss, item, whose, dtype):
    """At -10 000 nats: log-ratios and gaps of ±10⁴."""
    policy, reference = (value.to(dtype) for value in draw())
    {"policy": policy, "reference": reference}[whose][:, item] = -1e4
    leaf = policy.requires_grad_()
    result = loss(batch_of(loss, leaf, reference)).loss
    result.sum().backward()
    assert result.isfinite().all()
    assert leaf.grad.isfinite().all()
