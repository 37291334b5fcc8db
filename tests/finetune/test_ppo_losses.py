"""The arithmetic of PPO, against numbers worked by hand, slow loops and full enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from siftune.finetune.advantages.gae import GAE
from siftune.finetune.advantages.types import Rewarded
from siftune.finetune.core.masked import masked_mean, masked_sum, whiten
from siftune.finetune.policy_losses.ppo_clip import PPOClip
from siftune.finetune.policy_losses.types import PolicyBatch
from siftune.finetune.rl import ppo_losses
from siftune.finetune.rl.kl import AdaptiveKL, FixedKL, kl_k1, kl_k2, kl_k3


def gae(gamma: float, lam: float, rewards: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    one = torch.arange(len(rewards))
    return GAE(gamma, lam)(Rewarded(rewards.sum(1), rewards, mask, one, values))


def ppo_clip(
    logps: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2, dual: float | None = None
) -> Tensor:
    return PPOClip(clip, dual)(PolicyBatch(logps, old, advantages, torch.ones_like(old).bool()))


def slow_gae(
    rewards: list[float], values: list[float], mask: list[bool], gamma: float, lam: float
) -> list[float]:
    """The double sum of the paper over the steps that are there, one completion at a time."""
    at = [t for t, chosen in enumerate(mask) if chosen]
    out = [0.0] * len(mask)
    for i in range(len(at)):
        for k, t in enumerate(at[i:]):
            after = values[at[i + k + 1]] if i + k + 1 < len(at) else 0.0
            delta = rewards[t] + gamma * after - values[t]
            out[at[i]] += (gamma * lam) ** k * delta
    return out


@st.composite
def trajectories(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    numbers = torch.randn(2, rows, width, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, width, generator=generator) < draw(st.sampled_from([0.3, 0.7, 1.1]))
    return numbers[0], numbers[1], mask


@settings(max_examples=60, deadline=None)
@given(trajectories(), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([0.0, 0.9, 1.0]))
def test_gae_is_the_double_sum_of_the_paper_with_gaps_skipped(
    trajectory: tuple[Tensor, Tensor, Tensor], gamma: float, lam: float
) -> None:
    rewards, values, mask = trajectory
    slow = [
        slow_gae(r.tolist(), v.tolist(), m.tolist(), gamma, lam)
        for r, v, m in zip(rewards, values, mask, strict=True)
    ]
    fast = gae(gamma, lam, rewards, values, mask)
    assert torch.allclose(fast, torch.tensor(slow, dtype=torch.float64), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(trajectories())
def test_with_lambda_one_the_advantage_is_reward_to_go_less_value(
    trajectory: tuple[Tensor, Tensor, Tensor],
) -> None:
    rewards, values, mask = trajectory
    to_go = rewards.masked_fill(~mask, 0).flip(1).cumsum(1).flip(1)
    expected = (to_go - values).masked_fill(~mask, 0)
    assert torch.allclose(gae(1, 1, rewards, values, mask), expected, atol=1e-12)


def test_with_lambda_zero_the_advantage_is_the_td_error() -> None:
    rewards, values = torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([[2.0, 3.0, 4.0]])
    advantages = gae(0.5, 0, rewards, values, torch.ones(1, 3, dtype=torch.bool))
    assert advantages.tolist() == [[0 + 0.5 * 3 - 2, 1 + 0.5 * 4 - 3, 5 - 4]]


def test_a_tool_token_between_two_steps_changes_nothing() -> None:
    plain = gae(
        0.9, 0.8, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.ones(1, 2).bool()
    )
    gapped = gae(
        0.9,
        0.8,
        torch.tensor([[1.0, 77.0, 2.0]]),
        torch.tensor([[3.0, -99.0, 4.0]]),
        torch.tensor([[True, False, True]]),
    )
    assert gapped[0, [0, 2]].tolist() == plain[0].tolist()
    assert gapped[0, 1] == 0


def exact_kl(p: Tensor, q: Tensor) -> float:
    return float((p * (p / q).log()).sum())


def test_k1_and_k3_are_the_kl_in_expectation_and_k2_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 6, generator=generator, dtype=torch.float64).softmax(-1)
    kl = exact_kl(p, q)
    assert float((p * kl_k1(p.log(), q.log())).sum()) == pytest.approx(kl, abs=1e-14)
    assert float((p * kl_k3(p.log(), q.log())).sum()) == pytest.approx(kl, abs=1e-14)
    assert abs(float((p * kl_k2(p.log(), q.log())).sum()) - kl) > 1e-2


def test_k3_and_k2_are_never_negative_and_k1_can_be() -> None:
    logps = torch.linspace(-9, 0, 50)
    ref = torch.full_like(logps, -3)
    assert kl_k1(logps, ref).min() < 0
    assert kl_k2(logps, ref).min() >= 0
    assert kl_k3(logps, ref).min() >= 0


def test_k3_keeps_its_digits_where_the_policies_are_close() -> None:
    tiny = torch.tensor([1e-6], dtype=torch.float64)
    assert float(kl_k3(tiny, torch.zeros_like(tiny))) == pytest.approx(5e-13, rel=1e-3)


def test_the_gradient_of_an_expected_k1_reward_is_that_of_the_kl() -> None:
    logits = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    p = logits.softmax(-1)
    (exact,) = torch.autograd.grad((p * (p / ref).log()).sum(), logits, retain_graph=True)
    reward = kl_k1(p.log(), ref.log()).detach()
    (reinforce,) = torch.autograd.grad((p.detach() * reward * p.log()).sum(), logits)
    assert torch.allclose(exact, reinforce, atol=1e-14)


def test_the_adaptive_controller_clips_the_error_at_a_fifth() -> None:
    control = AdaptiveKL(target=6, horizon=1000)
    assert control(0.1, kl=6, samples=50) == pytest.approx(0.1)
    assert control(0.1, kl=6.6, samples=50) == pytest.approx(0.1 * (1 + 0.1 * 50 / 1000))
    assert control(0.1, kl=600, samples=50) == pytest.approx(0.1 * (1 + 0.2 * 50 / 1000))
    assert control(0.1, kl=0, samples=50) == pytest.approx(0.1 * (1 - 0.2 * 50 / 1000))
    assert FixedKL()(0.1, kl=600, samples=50) == 0.1
    short = AdaptiveKL(target=3, horizon=10)  # fewer answers than a rollout has
    assert short(0.05, kl=0.1, samples=64) == pytest.approx(0.05 * 0.8)
    assert short(0.05, kl=30, samples=64) == pytest.approx(0.05 * 1.2)


def test_whitening_uses_the_unbiased_variance_of_valid_tokens_only() -> None:
    values = torch.tensor([[1.0, 3.0, 1e9], [5.0, float("nan"), 1e9]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    white = whiten(values, mask)  # 1, 3, 5: mean 3, variance 8 / 2 = 4
    assert white[mask].tolist() == pytest.approx([-1, 0, 1])
    assert white[~mask].tolist() == [0, 0, 0]
    assert whiten(values, mask, shift=False)[mask].tolist() == pytest.approx([0.5, 1.5, 2.5])


def test_whitening_equal_or_single_values_gives_zero_not_nan() -> None:
    assert whiten(torch.full((2, 2), 7.0), torch.ones(2, 2).bool()).tolist() == [[0, 0]] * 2
    assert whiten(torch.tensor([[7.0]]), torch.ones(1, 1).bool()).tolist() == [[0]]


def test_the_score_goes_to_the_last_chosen_token_and_kl_to_all() -> None:
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    kl = torch.tensor([[1.0, 2.0, 99.0, 99.0], [1.0, 1.0, 1.0, 1.0]])
    rewards = ppo_losses.token_rewards(torch.tensor([10.0, 20.0]), kl, mask, kl_coef=0.5)
    assert rewards.tolist() == [[-0.5, 9.0, 0, 0], [-0.5, -0.5, -0.5, 19.5]]


def test_the_policy_loss_is_the_published_table() -> None:
    ratio = torch.tensor([1.1, 1.3, 0.9, 0.7, 1.1, 1.3, 0.9, 0.7], dtype=torch.float64)
    advantage = torch.tensor([1.0] * 4 + [-1.0] * 4, dtype=torch.float64)
    loss = ppo_clip(ratio.log(), torch.zeros(8, dtype=torch.float64), advantage, 0.2)
    assert loss.tolist() == pytest.approx([-1.1, -1.2, -0.9, -0.7, 1.1, 1.3, 0.9, 0.8])


def test_a_clipped_token_has_no_gradient_and_the_first_pass_has_the_plain_one() -> None:
    logps = torch.tensor([math.log(1.3), 0.0], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([2.0, 2.0], dtype=torch.float64)
    ppo_clip(logps, torch.zeros_like(logps), advantage, 0.2).sum().backward()
    assert logps.grad is not None
    assert logps.grad.tolist() == [0, -2]


def test_dual_clip_bounds_only_bad_tokens() -> None:
    ratio = torch.tensor([10.0, 10.0, 2.0])
    advantage = torch.tensor([-2.0, 2.0, -2.0])
    loss = ppo_clip(ratio.log(), torch.zeros(3), advantage, 0.2, dual=3)
    assert loss.tolist() == pytest.approx([6, -2.4, 4])


def test_the_value_loss_takes_the_worse_of_clipped_and_not() -> None:
    values, old = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0])
    returns = torch.tensor([1.0, 3.0])
    clipped = ppo_losses.value_loss(values, old, returns, cliprange=0.2)
    assert clipped.tolist() == pytest.approx([0.8**2 / 2, 2.8**2 / 2])
    assert ppo_losses.value_loss(values, old, returns, cliprange=None).tolist() == pytest.approx(
        [0, 2]
    )


def test_means_do_not_see_padding() -> None:
    values = torch.tensor([[1.0, 3.0], [float("nan"), float("inf")]])
    mask = torch.tensor([[True, True], [False, False]])
    assert float(masked_mean(values, mask)) == 2
    assert float(masked_sum(values, mask)) == 4


def test_explained_variance_of_a_perfect_a_constant_and_no_critic() -> None:
    returns, mask = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[True, True, False]])
    assert ppo_losses.explained_variance(returns, returns, mask) == 1
    assert ppo_losses.explained_variance(torch.zeros(1, 3), returns, mask) == 0
    assert ppo_losses.explained_variance(returns, torch.ones(1, 3), mask) is None


@pytest.mark.parametrize("clip", [None, 0.2])
def test_the_losses_have_true_gradients(clip: float | None) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b, c = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ppo_clip(x, b, c, 0.2, 3.0), (a,))
    assert torch.autograd.gradcheck(lambda x: ppo_losses.value_loss(x, b, c, clip), (a,))
