"""Advantages and policy losses of users: functions and classes, checked like ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from siftune.curate.core.custom import component
from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build, names
from siftune.finetune.advantages.types import Rewarded
from siftune.finetune.losses.list_types import ListLogps, ListLoss
from siftune.finetune.policy_losses.types import PolicyBatch

MASK = torch.tensor([[True, True, False], [True, True, True], [True, False, False]])
SCORES = torch.tensor([1.0, 3.0, 2.0])
REWARDED = Rewarded(
    SCORES,
    torch.tensor([[0.0, 1, 9], [0, 0, 3], [2, 9, 9]]),
    MASK,
    torch.tensor([5, 5, 9]),
    torch.zeros(3, 3),
)
LOGPS = torch.linspace(-2, -1, 9).reshape(3, 3).masked_fill(~MASK, 0)


def batch() -> PolicyBatch:
    old = (LOGPS + 0.1).masked_fill(~MASK, 0)
    advantages = torch.tensor([[1.0], [-1.0], [2.0]]).expand(3, 3).masked_fill(~MASK, 0)
    return PolicyBatch(LOGPS.clone().requires_grad_(), old, advantages, MASK)


@pytest.mark.parametrize("name", names("finetune.advantages"))
def test_an_advantage_is_zero_on_padding_and_knows_its_groups_by_number_alone(name: str) -> None:
    advantage: Any = build("finetune.advantages", name, {})
    found = advantage(REWARDED)
    assert found.shape == MASK.shape
    assert bool((found[~MASK] == 0).all())
    assert bool(found.isfinite().all())
    assert isinstance(advantage.needs_critic, bool)
    other = Rewarded(
        REWARDED.scores, REWARDED.rewards, MASK, torch.tensor([-1, -1, 0]), REWARDED.values
    )
    assert torch.equal(advantage(other), found)


@pytest.mark.parametrize("name", names("finetune.policy_losses"))
def test_a_policy_loss_has_a_gradient_on_chosen_tokens_alone(name: str) -> None:
    given = batch()
    loss = build("finetune.policy_losses", name, {})(given)
    assert loss.shape == MASK.shape
    loss[MASK].sum().backward()
    assert given.logps.grad is not None
    assert bool((given.logps.grad[~MASK] == 0).all())
    assert bool(given.logps.grad.isfinite().all())


def centred(rewarded: Rewarded, scale: float = 1.0) -> Tensor:
    return scale * (rewarded.scores - rewarded.scores.mean())


def test_a_function_of_a_rollout_is_an_advantage_with_options() -> None:
    own = component("finetune.advantages", centred, {"scale": 2})
    assert own(REWARDED).tolist() == [[-2, -2, 0], [2, 2, 2], [0, 0, 0]]
    assert (own.needs_critic, own.needs_groups) == (False, False)
    with_critic: Any = lambda rewarded: rewarded.values  # noqa: E731
    with_critic.needs_critic = True
    assert component("finetune.advantages", with_critic).needs_critic


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda rewarded: rewarded.scores[:1], "expected the shape"),
        (lambda rewarded: 1.0, "expected a tensor of floats, got float"),
        (lambda rewarded: rewarded.groups, "expected a tensor of floats"),
        (lambda rewarded: rewarded.scores / 0, "not finite"),
    ],
)
def test_what_is_no_advantage_is_refused_in_one_line(answer: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        component("finetune.advantages", answer)(REWARDED)


def squared(batch: PolicyBatch, weight: float = 1.0) -> Tensor:
    return weight * batch.log_ratios.square()


def test_a_function_of_log_probabilities_is_a_policy_loss() -> None:
    loss = component("finetune.policy_losses", squared, {"weight": 3})(batch())
    assert loss[MASK].tolist() == pytest.approx([0.03] * 6)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda batch: batch.logps.sum(), "do not reduce it"),
        (lambda batch: batch.logps.detach(), "has no gradient"),
        (lambda batch: batch.mask, "expected a tensor of losses"),
    ],
)
def test_what_is_no_policy_loss_is_refused_in_one_line(answer: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        component("finetune.policy_losses", answer)(batch())


def test_a_loss_on_lists_gives_losses_or_rewards_with_them() -> None:
    given = ListLogps.of(policy=(-4, -5), ref=(-4, -4))

    def own(logps: ListLogps, whole: bool = False) -> Any:
        loss = -logps.answers.policy.sum(-1)
        return ListLoss(loss, 3 * logps.answers.policy) if whole else loss

    for whole, rewards in ((False, [0, -1]), (True, [-12, -15])):
        found = component("finetune.losses.listwise", own, {"whole": whole})(given)
        assert isinstance(found, ListLoss)
        assert found.loss.flatten().tolist() == [9]
        assert found.reward.flatten().tolist() == rewards
