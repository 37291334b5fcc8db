"""What is true of every loss on lists: gradients, independence, the order of a list, padding."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.oracles.lists import CHECKS, batch_of, log_probs

GROUP = "finetune.losses.listwise"
VARIANTS = {
    "rrhf": [{}, {"rank_weight": 100.0, "length_penalty": 0.5}],
    "d2o": [{}, {"alpha": 0.3}],
    "xpo": [{}, {"alpha": 0.1}],
}
CASES = [
    pytest.param((name, options), id="-".join([name, *map(str, options.values())]))
    for name in registry.names(GROUP)
    for options in VARIANTS.get(name, [{}])
]


@pytest.fixture(params=CASES)
def loss(request):
    return registry.build(GROUP, *request.param)


@pytest.mark.parametrize("check", CHECKS)
def test_keeps_the_contract_of_losses_on_lists(loss, check):
    verdict = CHECKS[check](loss)
    if verdict.fate == "skipped":
        pytest.skip(verdict.detail)
    assert verdict.fate == "ok", verdict.detail


def test_options_are_frozen_and_rebuild_the_same_loss(loss):
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.beta = 1.0
    assert type(loss)(**dataclasses.asdict(loss)) == loss


def test_a_list_moves_its_own_completions(loss):
    policy, reference = log_probs()
    loss(batch_of(loss, policy.requires_grad_(), reference)).loss.sum().backward()
    assert (policy.grad[0] != 0).any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_loss_has_the_type_of_its_log_probs(loss, dtype):
    policy, reference = (value.to(dtype) for value in log_probs())
    assert loss(batch_of(loss, policy, reference)).loss.dtype == dtype
