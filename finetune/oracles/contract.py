"""What is true of every loss on pairs, as checks that any loss can be put to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import torch

from finetune.losses.types import PairLoss, PairObjective, needs_of
from finetune.oracles.draws import (
    COLUMNS,
    LENGTHS,
    PAIRS,
    TOKENS,
    exchanged,
    log_probs,
    pairs_of,
    part,
)
from finetune.token_statistics import NEED_REFERENCE

__all__ = ["CHECKS", "Check", "Verdict"]

Fate: TypeAlias = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """How a check ended, and what there is to say of it."""

    fate: Fate
    detail: str = ""


Check: TypeAlias = Callable[[PairObjective], Verdict]

_OK: Final = Verdict("ok")
_COUPLED: Final = Verdict("skipped", "couples_batch: pairs are compared with each other")


def _failed(detail: str) -> Verdict:
    return Verdict("failed", detail)


def declares(loss: PairObjective) -> Verdict:
    """What it says it needs is what a trainer can give."""
    needs = needs_of(loss)
    for known, asked, kind in (
        (TOKENS, needs.tokens, "needs_tokens"),
        (tuple(COLUMNS), needs.columns, "needs_columns"),
    ):
        wrong = sorted(set(asked) - set(known))
        if wrong:
            return _failed(f"{kind}: {wrong[0]!r} is not one of {', '.join(known)}")
    if set(needs.tokens) & set(NEED_REFERENCE) and not needs.reference:
        return _failed("needs_tokens holds a KL to the reference, needs_reference is not set")
    return _OK


def one_loss_a_pair(loss: PairObjective) -> Verdict:
    """One finite loss a pair, not reduced, with gradient; rewards without."""
    policy, reference = log_probs()
    batch = pairs_of(loss, policy.requires_grad_(), reference)
    found: Any = loss(batch)
    if not isinstance(found, PairLoss):
        return _failed(f"expected a PairLoss, got {type(found).__name__}")
    parts = {name: getattr(found, name) for name in ("loss", "chosen_reward", "rejected_reward")}
    for name, value in parts.items():
        if value.shape != (PAIRS,):
            return _failed(f"{name}: expected one a pair, ({PAIRS},), got {tuple(value.shape)}")
        if not value.isfinite().all():
            return _failed(f"{name} is not finite on plain log-probs")
        if value.requires_grad != (name == "loss"):
            return _failed(f"{name} {'carries a' if value.requires_grad else 'has no'} gradient")
    return _OK


def gradient(loss: PairObjective) -> Verdict:
    """The gradient equals finite differences in float64."""
    if getattr(loss, "weighs_by_policy", False):
        return Verdict("skipped", "weighs_by_policy: its weights are detached on purpose")
    policy, reference = log_probs(seed=3, scale=3.0)
    policy.requires_grad_()
    try:
        torch.autograd.gradcheck(
            lambda given: loss(pairs_of(loss, given, reference)).loss, (policy,)
        )
    except torch.autograd.gradcheck.GradcheckError as error:  # type: ignore[attr-defined]
        return _failed(str(error).strip().partition("\n")[0])
    return _OK


def neighbours(loss: PairObjective) -> Verdict:
    """A pair changes its own loss and not that of the others."""
    if needs_of(loss).couples_batch:
        return _COUPLED
    policy, reference = log_probs()
    other = policy.clone()
    other[:, 0] *= 3
    before = loss(pairs_of(loss, policy, reference)).loss
    after = loss(pairs_of(loss, other, reference)).loss
    if after[0] == before[0]:
        return _failed("other log-probs of a pair do not change its loss")
    moved = float((after[1:] - before[1:]).abs().max())
    return _failed(f"a pair moves its neighbours by {moved:.3g}") if moved else _OK


def mean_of_singles(loss: PairObjective) -> Verdict:
    """A batch of n is its pairs one by one."""
    if needs_of(loss).couples_batch:
        return _COUPLED
    batch = pairs_of(loss, *log_probs())
    singles = torch.cat([loss(part(batch, slice(at, at + 1))).loss for at in range(PAIRS)])
    return _near(loss(batch).loss, singles, "alone a pair has another loss than in a batch")


def order(loss: PairObjective) -> Verdict:
    """The mean does not depend on the order of the pairs."""
    batch = pairs_of(loss, *log_probs())
    back = part(batch, torch.arange(PAIRS).flip(0))
    return _near(loss(batch).loss.mean(), loss(back).loss.mean(), "the order of pairs matters")


def _near(found: torch.Tensor, expected: torch.Tensor, problem: str) -> Verdict:
    if torch.allclose(found, expected, rtol=1e-7, atol=1e-9):
        return _OK
    return _failed(f"{problem}, by {float((found - expected).abs().max()):.3g}")


def swap(loss: PairObjective) -> Verdict:
    """It can tell the chosen completion from the rejected one."""
    batch = pairs_of(loss, *log_probs(seed=2))
    if torch.equal(loss(batch).loss, loss(exchanged(batch)).loss):
        return _failed("exchanging chosen and rejected does not change the loss")
    return _OK


def direction(loss: PairObjective) -> Verdict:
    """A policy that gained on the chosen completion is better than one that gained on the other."""
    reference = torch.full((2, PAIRS, 4), -2.0, dtype=torch.float64)
    right = reference + torch.tensor([1.0, -1.0]).double()[:, None, None]
    lengths = torch.full_like(LENGTHS, 3)
    better, worse = (
        loss(pairs_of(loss, policy, reference, lengths)).loss.mean()
        for policy in (right, right.flip(0))
    )
    if better < worse:
        return _OK
    return _failed(f"loss {better:.3g} for a gain on chosen, {worse:.3g} for one on rejected")


def extremes(loss: PairObjective) -> Verdict:
    """Finite, with a finite gradient, at log-ratios of ±10⁴ and for certain completions."""
    for name, policy, reference in _extremes():
        given = policy.requires_grad_()
        found = loss(pairs_of(loss, given, reference)).loss
        found.sum().backward()
        if not found.isfinite().all():
            return _failed(f"the loss is not finite: {name}")
        if given.grad is None or not given.grad.isfinite().all():
            return _failed(f"the gradient is not finite: {name}")
    return _OK


def _extremes() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    for dtype in (torch.float64, torch.float32):
        for whose in ("policy", "reference"):
            for side in (0, 1):
                policy, reference = (value.to(dtype) for value in log_probs())
                {"policy": policy, "reference": reference}[whose][side] *= 1e4
                which = ("chosen", "rejected")[side]
                yield f"{which} at -10⁴ nats under the {whose}, {dtype}", policy, reference
    policy, reference = log_probs()
    yield "completions are certain", torch.zeros_like(policy), reference


CHECKS: Final[Mapping[str, Check]] = {
    "one_loss_a_pair": one_loss_a_pair,
    "declares": declares,
    "gradient": gradient,
    "neighbours": neighbours,
    "mean_of_singles": mean_of_singles,
    "order": order,
    "swap": swap,
    "direction": direction,
    "extremes": extremes,
}
"""By name; the first two hold or the others mean nothing."""
