"""Each advantage equals the slow one, on ragged rollouts with padding, gaps and lone answers."""

from __future__ import annotations

import math

import pytest
import torch

from siftune.curate.core import registry
from siftune.finetune.advantages.types import Rewarded
from tests.finetune.rl import slow
from tests.finetune.rl.batches import LONGEST, Batch, ragged

OPTIONS = [
    ("gae", {}),
    ("gae", {"gamma": 0.9, "lam": 0.6}),
    ("gae", {"gamma": 1.0, "lam": 1.0}),
    ("grpo", {}),
    ("grpo", {"eps": 0.5}),
    ("rloo", {}),
    ("reinforce_pp", {}),
    ("reinforce_pp", {"gamma": 0.8}),
    ("dr_grpo", {}),
    ("opo", {}),
]


def found_of(name, batch, **options):
    return registry.build("finetune.advantages", name, options)(batch.rewarded())


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_an_advantage_is_that_of_the_plain_loop(name, options, gaps):
    for seed in range(3):
        batch = ragged(seed, gaps)
        found = found_of(name, batch, **options)
        wanted = slow.ADVANTAGES[name](batch.rows, **options)
        for ours, theirs in zip(batch.gathered(found), wanted, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)
        assert bool((found[~batch.mask] == 0).all())


def test_every_advantage_has_its_slow_one():
    assert {name for name, _ in OPTIONS} == set(registry.names("finetune.advantages"))
    assert set(slow.ADVANTAGES) == {name for name, _ in OPTIONS}


@pytest.mark.parametrize("name", ["grpo", "rloo", "dr_grpo", "opo"])
def test_equal_scores_and_lone_answers_have_no_advantage(name):
    batch = ragged(0)
    found = found_of(name, batch)
    for at, row in enumerate(batch.rows):
        silent = row.group in (7, 9)  # all of one score; alone
        assert bool((found[at] == 0).all()) == silent


@pytest.mark.parametrize("name", ["grpo", "rloo", "dr_grpo", "opo"])
def test_a_constant_on_all_of_a_group_and_the_order_of_rows_change_nothing(name):
    batch = ragged(1)
    found, moved = found_of(name, batch), batch.rewarded()
    shift = torch.zeros(len(batch.rows), dtype=torch.float64)
    shift[[row.group == 2 for row in batch.rows]] = 11.0
    rewards = slow_shift(moved, shift)
    order = torch.randperm(len(batch.rows), generator=torch.Generator().manual_seed(1))
    shuffled = Rewarded(
        moved.scores[order] + shift[order],
        rewards[order],
        moved.mask[order],
        1000 - 3 * moved.groups[order],  # other numbers, in another order
        None,
    )
    again = registry.build("finetune.advantages", name, {})(shuffled)
    torch.testing.assert_close(again, found[order], rtol=0, atol=1e-9)


def slow_shift(rewarded, shift):
    """The rewards with a number more at each row's last token."""
    rewards = rewarded.rewards.clone()
    for row, mask in enumerate(rewarded.mask.tolist()):
        rewards[row, max(t for t in range(LONGEST) if mask[t])] += shift[row]
    return rewards


def test_worked_by_hand():
    """Two prompts: scores 1, 3, 8 with 1, 2, 1 tokens, and 5 alone; KL takes 1 off the second."""
    rows = [
        slow.Row(1.0, [1.0], 0, [0.0]),
        slow.Row(3.0, [-1.0, 3.0], 0, [0.0, 0.0]),
        slow.Row(8.0, [8.0], 0, [0.0]),
        slow.Row(5.0, [5.0], 1, [0.0]),
    ]
    batch = Batch(rows, [[0], [0, 1], [0], [0]])  # earned: 1, 2, 8 and 5
    deviation = math.sqrt(((8 / 3) ** 2 + (5 / 3) ** 2 + (13 / 3) ** 2) / 2)
    table = {
        "dr_grpo": [-8 / 3, -5 / 3, 13 / 3, 0],
        "rloo": [-4.0, -2.5, 6.5, 0],
        "opo": [1 - 13 / 4, 2 - 13 / 4, 8 - 13 / 4, 0],  # (1·1 + 2·2 + 1·8) / 4
        "grpo": [-8 / 3 / deviation, -5 / 3 / deviation, 13 / 3 / deviation, 0],
    }
    for name, wanted in table.items():
        options = {"eps": 0.0} if name == "grpo" else {}
        found = found_of(name, batch, **options)
        assert found[:, 0].tolist() == pytest.approx(wanted), name
        assert found[1, 1] == found[1, 0]
    to_go = found_of("reinforce_pp", batch)  # 1; 2, 3; 8; 5: mean 3.8, squares 30.8
    sd = math.sqrt(30.8 / 4)
    assert to_go[[0, 1, 1, 2, 3], [0, 0, 1, 0, 0]].tolist() == pytest.approx(
        [(x - 3.8) / sd for x in (1, 2, 3, 8, 5)]
    )


def test_the_deviation_keeps_rounding_errors_small():
    """Scores of .1 + .2 and .3 are not told apart: no advantage of ±.7 out of a last bit."""
    rows = [slow.Row(score, [score], 0, [0.0]) for score in (0.1 + 0.2, 0.3)]
    assert found_of("grpo", Batch(rows, [[0], [0]])).abs().max() < 1e-9
