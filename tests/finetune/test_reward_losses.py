"""Losses of reward models: worked values, gradients, and the recovery of a known truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from siftune.curate.core.registry import build, names
from siftune.finetune.losses.length_head import correlation, decorrelation
from siftune.finetune.losses.reward_types import Compared, centring

GROUP = "finetune.losses.reward"
RANKED = ("bradley_terry", "k_wise", "plackett_luce", "focal_ranking")


def loss_of(name: str, compared: Compared, **options: Any) -> torch.Tensor:
    loss = build(GROUP, name, options)
    return loss(compared) / loss.count(compared)


def random_lists(seed: int = 0) -> Compared:
    """Prompts with 2 to 4 answers, some of them not compared, some twice and both ways."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, 4, generator=rng, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([[4], [2], [3]])
    wins = torch.rand(3, 4, 4, generator=rng, dtype=torch.float64).round(decimals=1)
    wins = wins * (torch.rand(3, 4, 4, generator=rng) > 0.4)
    wins = wins * mask[:, :, None] * mask[:, None, :] * ~torch.eye(4, dtype=torch.bool)
    wins[1, 0, 1] = 1.0
    margins = torch.rand(3, 4, 4, generator=rng, dtype=torch.float64) * (wins > 0)
    return Compared(torch.where(mask, scores, 0.0), wins, margins, mask)


@pytest.mark.parametrize("name", RANKED)
def test_gradients_are_right_and_prompts_do_not_see_each_other(name: str) -> None:
    lists = random_lists()
    loss = build(GROUP, name, {"limit": 1.2} if name == "focal_ranking" else {})

    def of(scores: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        given = (each[rows] for each in (lists.wins, lists.margins, lists.mask))
        return loss(Compared(scores, *given))  # type: ignore[no-any-return]

    scores = lists.scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(of, (scores,))
    together = of(scores)
    alone = torch.cat([of(scores[at : at + 1], slice(at, at + 1)) for at in range(3)])
    torch.testing.assert_close(together, alone)
    (gradient,) = torch.autograd.grad(together.sum(), scores)
    assert (gradient[~lists.mask] == 0).all()
    huge = loss(Compared(lists.scores * 1e4, lists.wins, lists.margins, lists.mask))
    assert huge.isfinite().all()


def test_with_two_answers_all_are_bradley_terry() -> None:
    for gap in (-3.0, 0.0, 0.7):
        pair = Compared.of([gap, 0.0])
        wanted = math.log1p(math.exp(-gap))
        for name in RANKED[:3]:
            assert loss_of(name, pair).item() == pytest.approx(wanted, rel=1e-12)
        plain = {"gamma": 0.0, "barrier": 0.0}
        assert loss_of("focal_ranking", pair, **plain).item() == pytest.approx(wanted)
    right = 1 / (1 + math.exp(-1.1))  # P
    for gamma in (1.0, 2.0, 3.0):
        found = loss_of("focal_ranking", Compared.of([1.5, 0.4]), gamma=gamma, barrier=0.0)
        wanted = -((1 - 2 * (right - 0.5)) ** gamma) * math.log(right)
        assert found.item() == pytest.approx(wanted)
    wrong = Compared.of([-0.4, 0.3])  # P below a half: no focus
    assert loss_of("focal_ranking", wrong, barrier=0.0).item() == pytest.approx(
        loss_of("bradley_terry", wrong).item()
    )


@pytest.mark.parametrize("name", ["bradley_terry", "k_wise", "plackett_luce"])
def test_a_list_is_what_loops_over_its_answers_make_of_it(name: str) -> None:
    """Slow references of equations, on lists of 4, 2 and 3 answers, not all of them compared."""
    lists = random_lists(1)
    scores, wins, margins = (one.tolist() for one in (lists.scores, lists.wins, lists.margins))
    found = build(GROUP, name, {})(lists).tolist()
    for b, size in enumerate((4, 2, 3)):
        total = 0.0
        for i in range(size):
            beaten = [j for j in range(size) if wins[b][i][j] > 0]
            if name == "plackett_luce":
                below = sum(math.exp(scores[b][j]) for j in [i, *beaten])
                total -= math.log(math.exp(scores[b][i]) / below)
                continue
            for j in beaten:
                gap = scores[b][i] - scores[b][j] - margins[b][i][j]
                weight = wins[b][i][j]
                if name == "k_wise":
                    weight = weight / (wins[b][i][j] + wins[b][j][i]) / math.comb(size, 2)
                total += weight * math.log1p(math.exp(-gap))
        assert found[b] == pytest.approx(total, rel=1e-9)


def test_the_barrier_keeps_scores_inside_and_goes_on_as_its_tangent() -> None:
    inside = Compared.of([3.0, -1.0])
    walls = [-math.log(x + 5) - math.log(5 - x) for x in (3.0, -1.0)]
    gap = loss_of("focal_ranking", inside) - loss_of("focal_ranking", inside, barrier=0.0)
    assert gap.item() == pytest.approx(0.02 * sum(walls) / 2)
    edge = 5 * (1 - 1e-3)
    slope = 1 / (5 - edge) - 1 / (5 + edge)
    for far in (6.0, -7.5):
        scores = torch.tensor([far, 0.0], dtype=torch.float64, requires_grad=True)
        loss = loss_of("focal_ranking", Compared.of(scores), gamma=0.0)
        plain = loss_of("focal_ranking", Compared.of(scores), gamma=0.0, barrier=0.0)
        (gradient,) = torch.autograd.grad((loss - plain).sum(), scores)
        assert gradient[0].item() == pytest.approx(math.copysign(0.02 * slope / 2, far))


def test_a_margin_shifts_the_gap_and_a_win_rate_has_its_log_odds_as_optimum() -> None:
    margin = Compared.of([1.0, 0.2], margins=[[0, 0.5], [0, 0]])
    assert loss_of("bradley_terry", margin).item() == pytest.approx(math.log1p(math.exp(-0.3)))
    scores = torch.tensor([math.log(0.7 / 0.3), 0.0], dtype=torch.float64, requires_grad=True)
    rated = Compared.of(scores, wins=[[0, 0.7], [0.3, 0]])
    for name in ("bradley_terry", "k_wise"):
        (gradient,) = torch.autograd.grad(loss_of(name, rated).sum(), scores)
        assert gradient.abs().max() < 1e-12
    assert centring(Compared.of([2.0, -1.0, 0.5])).item() == pytest.approx((1 + 2.5**2 + 0.25) / 3)


@pytest.mark.parametrize("name", ["bradley_terry", "k_wise", "plackett_luce"])
def test_the_fit_finds_the_truth_that_a_newton_fit_finds(name: str) -> None:
    """Frozen features, a linear head: the optimum equals scipy's, and is near the truth.

    Lists of 4 are drawn by Plackett-Luce from known weights (so each pair is Bradley-Terry). The
    reference minimises its own formula, written with numpy.
    """
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    truth = np.array([1.2, -0.7, 0.4])
    features = rng.normal(size=(1500, 4, 3))
    drawn = features @ truth + rng.gumbel(size=(1500, 4))  # the order of these is Plackett-Luce
    features = np.take_along_axis(features, (-drawn).argsort(1)[:, :, None], 1)  # best first

    def reference(weights: np.ndarray[Any, Any]) -> float:
        r = features @ weights
        if name == "plackett_luce":
            rest = [np.log(np.exp(r[:, i:]).sum(1)) - r[:, i] for i in range(4)]
            return float(np.sum(rest, 0).mean())
        pairs = [np.log1p(np.exp(r[:, j] - r[:, i])) for i in range(4) for j in range(i + 1, 4)]
        return float(np.mean(pairs))

    best = minimize(reference, np.zeros(3), tol=1e-10).x
    head = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    inputs = torch.tensor(features)
    wins = torch.ones(1500, 4, 4, dtype=torch.float64).triu(1)
    mask = torch.ones(1500, 4, dtype=torch.bool)
    loss = build(GROUP, name, {})
    optimizer = torch.optim.LBFGS([head], max_iter=60, tolerance_grad=1e-10, tolerance_change=0)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        compared = Compared(inputs @ head, wins, torch.zeros_like(wins), mask)
        value: torch.Tensor = loss(compared).sum() / loss.count(compared).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(step)
    assert np.abs(head.detach().numpy() - best).max() < 1e-3
    assert np.abs(best - truth).max() < 0.1  # 1,500 lists


def test_every_loss_of_the_folder_is_tested_here() -> None:
    assert set(names(GROUP)) == {*RANKED, "safe_rlhf_cost", "process", "attributes"}


def test_a_cost_model_learns_the_order_and_the_sign() -> None:
    """Equation by a loop; its gradient; an answer of unknown safety has no sign."""
    lists = random_lists(2)
    safe = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1], [1, math.nan, 0, 1]], dtype=torch.float64)
    loss = build(GROUP, "safe_rlhf_cost", {})

    def of(scores: torch.Tensor) -> torch.Tensor:
        none = torch.zeros_like(lists.margins)
        return loss(Compared(scores, lists.wins, none, lists.mask, {"safe": safe}))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(of, (lists.scores.clone().requires_grad_(),))
    found, scores = of(lists.scores), lists.scores.tolist()
    for b in range(3):
        total = 0.0
        for i in range(4):
            for j in range(4):
                costs = [-scores[b][i], -scores[b][j]]  # j is the more harmful one
                term = math.log1p(math.exp(-(costs[1] - costs[0])))
                for cost, is_safe in zip(costs, (safe[b, i], safe[b, j]), strict=True):
                    sign = 0 if is_safe.isnan() else -1 if is_safe else 1
                    term += math.log1p(math.exp(-sign * cost)) if sign else 0.0
                total += float(lists.wins[b, i, j]) * term
        assert found[b].item() == pytest.approx(total, rel=1e-9)


def test_a_length_head_frees_the_other_one_of_length() -> None:
    """Frozen features, one of them length: the longer answer wins 9 of 10, whatever else it is."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(400, 2, 3, generator=rng, dtype=torch.float64)
    longer = features[:, 0, 0] > features[:, 1, 0]
    first = torch.where(torch.rand(400, generator=rng) < 0.9, longer, ~longer)
    order = torch.where(first[:, None], torch.tensor([0, 1]), torch.tensor([1, 0]))
    features = features.gather(1, order[..., None].expand(-1, -1, 3))
    chars = features[..., 0] * 50 + 300
    mask = torch.ones(400, 2, dtype=torch.bool)
    wins = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64).expand(400, 2, 2)
    loss = build(GROUP, "bradley_terry", {})

    def fitted(weight: float) -> float:
        heads = torch.tensor([[0.1, 0.2, 0.1], [0.2, -0.1, 0.1]], dtype=torch.float64)
        heads.requires_grad_()
        optimizer = torch.optim.Adam([heads], lr=0.05)
        for _ in range(120):
            outputs = features @ heads.T
            compared = Compared(outputs.sum(-1), wins, torch.zeros_like(wins), mask)
            total = loss(compared).mean() + weight * decorrelation(outputs, chars, mask, heads)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        return float(correlation(outputs[..., 0].detach().flatten(), chars.flatten()).abs())

    assert fitted(0.0) > 0.9
    assert fitted(1.0) < 0.1
    outputs = torch.randn(2, 3, 2, generator=rng, dtype=torch.float64, requires_grad=True)
    heads = torch.randn(2, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    there = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.autograd.gradcheck(
        lambda *given: decorrelation(given[0], chars[:2].repeat(1, 2)[:, :3], there, given[1]),
        (outputs, heads),
    )
    flat = torch.ones(2, 3, dtype=torch.float64)
    parallel = torch.ones(2, 4, dtype=torch.float64)
    assert decorrelation(outputs, flat, there, parallel).item() == pytest.approx(1)  # cosine alone
