"""Token rewards, KL and the critic's loss are those of plain loops, on ragged rollouts."""

from __future__ import annotations

import pytest
import torch

from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.kl import kl_k1, kl_k2, kl_k3
from tests.finetune.rl import slow
from tests.finetune.rl.batches import ragged


@pytest.mark.parametrize("gaps", [False, True])
def test_the_rewards_of_tokens_are_those_of_the_plain_loop(gaps):
    batch = ragged(0, gaps)
    kl = [[a - b for a, b in zip(row.logps, row.old, strict=True)] for row in batch.rows]
    scores = torch.tensor([row.score for row in batch.rows], dtype=torch.float64)
    found = ppo_losses.token_rewards(scores, batch.spread(kl), batch.mask, 0.3)
    ours = zip(batch.gathered(found), batch.rows, kl, strict=True)
    for rewards, row, prices in ours:
        assert rewards == pytest.approx(slow.token_rewards(row.score, prices, 0.3))
    assert bool((found[~batch.mask] == 0).all())


@pytest.mark.parametrize(("ours", "theirs"), [(kl_k1, slow.k1), (kl_k2, slow.k2), (kl_k3, slow.k3)])
def test_an_estimate_of_kl_is_that_of_the_plain_loop(ours, theirs):
    batch = ragged(1)
    given = batch.policy([row.logps for row in batch.rows])
    with torch.no_grad():
        found = batch.gathered(ours(given.logps, given.old_logps))
    for values, row in zip(found, batch.rows, strict=True):
        wanted = [theirs(a, b) for a, b in zip(row.logps, row.old, strict=True)]
        assert values == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("clip", [None, 0.2, 0.9])
def test_the_critics_loss_is_that_of_the_plain_loop(clip):
    batch = ragged(2)
    values, old, targets = [row.values for row in batch.rows], batch.rows, batch.rows
    found = ppo_losses.value_loss(
        batch.spread(values),
        batch.spread([row.old for row in old]),
        batch.spread([row.logps for row in targets]),
        clip,
    )
    for ours, row in zip(batch.gathered(found), batch.rows, strict=True):
        each = zip(row.values, row.old, row.logps, strict=True)
        assert ours == pytest.approx([slow.value_loss(*three, clip) for three in each])
