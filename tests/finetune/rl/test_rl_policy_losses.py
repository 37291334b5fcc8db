"""Each policy loss equals the slow one in value and slope; reductions, KL, the value loss too."""

from __future__ import annotations

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.policy_losses.types import PolicyBatch
from tests.finetune.rl import slow
from tests.finetune.rl.batches import ragged

OPTIONS = [
    ("ppo_clip", {}, {}),
    ("ppo_clip", {"cliprange": 0.5}, {"clip": 0.5}),
    ("ppo_clip", {"cliprange": 0.1, "dual_clip": 1.3}, {"clip": 0.1, "dual": 1.3}),
    ("clip_higher", {}, {}),
    ("clip_higher", {"clip_low": 0.1, "clip_high": 0.7}, {"low": 0.1, "high": 0.7}),
    ("clip_higher", {"dual_clip": 1.3}, {"dual": 1.3}),
    ("gspo", {}, {}),
    ("gspo", {"clip_low": 0.3, "clip_high": 0.1}, {"low": 0.3, "high": 0.1}),
    ("cispo", {}, {}),
    ("cispo", {"clip_low": 0.2, "clip_high": 0.4}, {"low": 0.2, "high": 0.4}),
    ("reinforce", {}, {}),
]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("name", "options", "plain"), OPTIONS)
def test_a_policy_loss_is_that_of_the_plain_loop(name, options, plain, gaps):
    loss = registry.build("finetune.policy_losses", name, options)
    for seed in range(3):
        batch = ragged(seed, gaps)
        each = slow.dr_grpo(batch.rows)
        given = batch.policy(each)
        found = loss(given)
        (slope,) = torch.autograd.grad(found[batch.mask].sum(), given.logps)
        assert bool((slope[~batch.mask] == 0).all())
        ours = zip(batch.gathered(found), batch.gathered(slope), batch.rows, each, strict=True)
        for values, slopes, row, advantages in ours:
            assert values == pytest.approx(slow.LOSSES[name](row, advantages, **plain), abs=1e-9)
            assert slopes == pytest.approx(slow.PULLS[name](row, advantages, **plain), abs=1e-9)


def test_every_policy_loss_has_its_slow_one():
    assert {name for name, *_ in OPTIONS} == set(registry.names("finetune.policy_losses"))
    assert set(slow.LOSSES) == set(slow.PULLS) == {name for name, *_ in OPTIONS}


@pytest.mark.parametrize(
    ("name", "options", "ratio", "advantage", "loss", "slope"),
    [
        ("ppo_clip", {}, 1.25, 2.0, -2.4, 0.0),
        ("ppo_clip", {}, 0.75, 2.0, -1.5, -1.5),  # worse than it was: the gradient stays
        ("ppo_clip", {}, 0.75, -2.0, 1.6, 0.0),
        ("ppo_clip", {}, 1.25, -2.0, 2.5, 2.5),
        ("ppo_clip", {"dual_clip": 3.0}, 4.0, -2.0, 6.0, 0.0),
        ("ppo_clip", {"dual_clip": 3.0}, 4.0, 2.0, -2.4, 0.0),
        ("clip_higher", {}, 1.25, 2.0, -2.5, -2.5),
        ("clip_higher", {}, 1.5, 2.0, -2.56, 0.0),
        ("clip_higher", {}, 0.75, -2.0, 1.6, 0.0),
        ("gspo", {}, 1.25, 2.0, -2.0008, 0.0),
        ("gspo", {}, 0.75, 2.0, -1.5, -1.5),
        ("gspo", {}, 0.75, -2.0, 1.9994, 0.0),
    ],
)
def test_worked_by_hand(name, options, ratio, advantage, loss, slope):
    old = torch.tensor([[-1.0]], dtype=torch.float64)
    logps = (old + torch.tensor(ratio).double().log()).requires_grad_()
    given = PolicyBatch(logps, old, torch.full_like(old, advantage), torch.ones(1, 1).bool())
    found = registry.build("finetune.policy_losses", name, options)(given)
    (pull,) = torch.autograd.grad(found.sum(), logps)
    assert float(found.detach()) == pytest.approx(loss)
    assert float(pull) == pytest.approx(slope)


def test_an_answers_ratio_is_the_geometric_mean_of_its_tokens_ratios():
    """A token thrice as likely and three as before: 3^(1/4), not 3 and not 6/4."""
    ratio = torch.tensor([[3.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    mask = torch.ones(1, 4).bool()
    given = PolicyBatch(ratio.log(), torch.zeros_like(ratio), -torch.ones_like(ratio), mask)
    found = registry.build("finetune.policy_losses", "gspo", {})(given)
    assert found.tolist() == [pytest.approx([3**0.25] * 4)]


@pytest.mark.parametrize("name", ["ppo_clip", "clip_higher", "gspo", "cispo", "reinforce"])
def test_where_nothing_has_moved_all_have_the_gradient_of_reinforce(name):
    batch = ragged(4)
    given = batch.policy(slow.dr_grpo(batch.rows))
    still = PolicyBatch(
        given.old_logps.clone().requires_grad_(), given.old_logps, given.advantages, given.mask
    )
    loss = registry.build("finetune.policy_losses", name, {})(still)
    (slope,) = torch.autograd.grad(loss[batch.mask].sum(), still.logps)
    torch.testing.assert_close(slope, -given.advantages * given.mask, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "outside"),
    [
        ("ppo_clip", {"cliprange": 0.25}, [1, 0, 0, 0, 0, 1]),
        ("clip_higher", {"clip_low": 0.25, "clip_high": 0.5}, [1, 0, 0, 0, 0, 0]),
        ("gspo", {"clip_low": 0.5, "clip_high": 0.25}, [0, 0, 0, 0, 0, 1]),
        ("cispo", {"clip_low": 0.5, "clip_high": 0.125}, [0, 0, 0, 0, 1, 1]),
    ],
)
def test_the_tokens_outside_of_the_range_are_those_counted_as_clipped(name, options, outside):
    ratio = torch.tensor([[0.5], [0.75], [1.0], [1.0625], [1.25], [1.5]], dtype=torch.float64)
    mask = torch.ones_like(ratio).bool()
    given = PolicyBatch(ratio.log(), torch.zeros_like(ratio), ratio, mask)
    found = registry.build("finetune.policy_losses", name, options).clipped(given)
    assert found.int().flatten().tolist() == outside  # a ratio on the bound is inside
