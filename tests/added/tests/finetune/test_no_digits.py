"""Digits cost the reward."""

from siftune.curate.core.registry import build


def test_digits_cost_the_reward():
    rewards = build("finetune.rewards", "no_digits", {})(["", ""], ["one", "1"], [{}, {}])
    assert rewards == [1.0, 0.0]
