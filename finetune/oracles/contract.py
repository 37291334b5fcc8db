"""Contract checks of losses on pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from siftune.finetune.losses.types import PairLoss, PairObjective, needs_of
from siftune.finetune.oracles.check_results import (
    OK,
    Check,
    Verdict,
    declared,
    failed,
    finite,
    gradient_of,
    near,
    whole,
)
from siftune.finetune.oracles.random_batches import (
    COLUMNS,
    LENGTHS,
    PAIRS,
    TOKENS,
    exchanged,
    log_probs,
    pairs_of,
    part,
)

__all__ = ["CHECKS"]

_COUPLED: Final = Verdict("skipped", "couples_batch: pairs are compared with each other")


def declares(loss: PairObjective) -> Verdict:
    """The declared needs are ones that a trainer supports."""
    return declared(loss, TOKENS, tuple(COLUMNS))


def one_loss_a_pair(loss: PairObjective) -> Verdict:
    """One finite loss a pair, not reduced, with gradient; rewards without."""
    policy, reference = log_probs()
    found: Any = loss(pairs_of(loss, policy.requires_grad_(), reference))
    shapes = dict.fromkeys(("loss", "chosen_reward", "rejected_reward"), (PAIRS,))
    return whole(found, PairLoss, shapes, "a pair")


def gradient(loss: PairObjective) -> Verdict:
    """The gradient equals finite differences in float64."""
    policy, reference = log_probs(seed=3, scale=3.0)
    return gradient_of(loss, lambda given: loss(pairs_of(loss, given, reference)).loss, policy)


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
        return failed("other log-probs of a pair do not change its loss")
    moved = float((after[1:] - before[1:]).abs().max())
    return failed(f"a pair moves its neighbours by {moved:.3g}") if moved else OK


def mean_of_singles(loss: PairObjective) -> Verdict:
    """A batch of n is its pairs one by one."""
    if needs_of(loss).couples_batch:
        return _COUPLED
    batch = pairs_of(loss, *log_probs())
    singles = torch.cat([loss(part(batch, slice(at, at + 1))).loss for at in range(PAIRS)])
    return near(loss(batch).loss, singles, "alone a pair has another loss than in a batch")


def order(loss: PairObjective) -> Verdict:
    """The mean does not depend on the order of the pairs."""
    batch = pairs_of(loss, *log_probs())
    back = part(batch, torch.arange(PAIRS).flip(0))
    return near(loss(batch).loss.mean(), loss(back).loss.mean(), "the order of pairs matters")


def swap(loss: PairObjective) -> Verdict:
    """The loss changes where chosen and rejected are exchanged."""
    batch = pairs_of(loss, *log_probs(seed=2))
    if torch.equal(loss(batch).loss, loss(exchanged(batch)).loss):
        return failed("exchanging chosen and rejected does not change the loss")
    return OK


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
        return OK
    return failed(f"loss {better:.3g} for a gain on chosen, {worse:.3g} for one on rejected")


def extremes(loss: PairObjective) -> Verdict:
    """Finite, with a finite gradient, at log-ratios of ±10⁴ and for certain completions."""
    for name, policy, reference in _extremes():
        batch = pairs_of(loss, policy.requires_grad_(), reference)
        found = finite(name, policy, lambda batch=batch: loss(batch).loss)  # type: ignore[misc]
        if found.fate != "ok":
            return found
    return OK


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
