"""Contract checks of losses on lists of completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from siftune.finetune.losses.list_types import ListLogps, ListLoss
from siftune.finetune.losses.types import Answers, needs_of
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

__all__ = ["CHECKS", "COLUMNS", "LISTS", "SIZE", "THERE", "batch_of", "log_probs", "part"]

LISTS, SIZE = 4, 5
LENGTHS: Final = torch.tensor([[1.0, 2, 3, 4, 4]] * LISTS).double()
THERE: Final = torch.arange(SIZE) < torch.tensor([5, 3, 4, 2])[:, None]
SCORES: Final = torch.tensor([[3.0, 1, 2, 5, 4], [1, 1, 0, 9, 9], [2, 0, 2, 1, 9], [0, 1, 9, 9, 9]])
COLUMNS: Final = {
    "score": SCORES.double(),
    "win_rate": (SCORES / 10).double(),
    "by_reference": torch.tensor([[0.0, 1, 0, 1, 0]] * LISTS).double(),
}
"""The columns that the answers of a list may have."""


def log_probs(seed: int = 0, scale: float = 4.0) -> tuple[torch.Tensor, ...]:
    """Summed log-probs ``(LISTS, SIZE)``, all below zero: the policy's, the reference's."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, LISTS, SIZE, dtype=torch.float64, generator=generator)
    return tuple(-scale * drawn)


def batch_of(
    loss: Any, policy: torch.Tensor, reference: torch.Tensor, there: torch.Tensor = THERE
) -> ListLogps:
    """A `ListLogps` batch with the inputs alone that the loss declares."""
    needs = needs_of(loss)
    length = torch.where(there, LENGTHS.to(policy.dtype), 1)
    answers = Answers(policy * there, length, reference * there if needs.reference else None)
    columns = {name: COLUMNS[name].to(policy.dtype) for name in needs.columns}
    return ListLogps(answers, there, columns)


def part(
    batch: ListLogps, lists: slice = slice(None), items: slice | torch.Tensor = slice(None)
) -> ListLogps:
    """Some of a batch's lists, and of each some of its completions, in the order given."""
    answers = batch.answers
    reference = None if answers.reference is None else answers.reference[lists][:, items]
    taken = Answers(answers.policy[lists][:, items], answers.length[lists][:, items], reference)
    columns = {name: value[lists][:, items] for name, value in batch.columns.items()}
    return ListLogps(taken, batch.mask[lists][:, items], columns)


def declares(loss: Any) -> Verdict:
    """The declared needs are ones that a trainer supports."""
    if needs_of(loss).couples_batch:
        return failed("couples_batch: a loss on lists compares the answers of a list alone")
    return declared(loss, (), tuple(COLUMNS))


def one_loss_a_list(loss: Any) -> Verdict:
    """One finite loss a list, not reduced, with gradient; rewards of its answers without."""
    policy, reference = log_probs()
    found = loss(batch_of(loss, policy.requires_grad_(), reference))
    return whole(found, ListLoss, {"loss": (LISTS,), "reward": (LISTS, SIZE)}, "a list")


def gradient(loss: Any) -> Verdict:
    """The gradient equals finite differences in float64."""
    policy, reference = log_probs(seed=3)
    return gradient_of(loss, lambda given: loss(batch_of(loss, given, reference)).loss, policy)


def mean_of_singles(loss: Any) -> Verdict:
    """A batch of n is its lists one by one."""
    batch = batch_of(loss, *log_probs())
    singles = torch.cat([loss(part(batch, slice(at, at + 1))).loss for at in range(LISTS)])
    return near(loss(batch).loss, singles, "alone a list has another loss than in a batch")


def order(loss: Any) -> Verdict:
    """The order of a list does not matter, among equal scores too."""
    batch = batch_of(loss, *log_probs())
    shuffled = part(batch, items=torch.tensor([3, 1, 4, 0, 2]))
    return near(loss(batch).loss, loss(shuffled).loss, "the order of a list's answers matters")


def padding(loss: Any) -> Verdict:
    """Positions without a completion change no value and get no gradient."""
    policy, reference = log_probs()
    batch = batch_of(loss, policy.requires_grad_(), reference)
    found = loss(batch).loss
    for row, size in enumerate(THERE.sum(1).tolist()):
        alone = loss(part(batch, slice(row, row + 1), slice(None, size))).loss[0]
        if near(alone, found[row], "").fate != "ok":
            return failed("what is absent from a list changes its loss")
    found.sum().backward()
    if policy.grad is None or not (policy.grad[~THERE] == 0).all():
        return failed("positions without a completion have a gradient")
    return OK


def direction(loss: Any) -> Verdict:
    """A policy that gained on the best is better than one that gained on the worst."""
    if getattr(loss, "weighs_by_policy", False):
        return Verdict("skipped", "weighs_by_policy: the value of the loss means nothing")
    reference = torch.full((LISTS, SIZE), -6.0, dtype=torch.float64)
    middle = (SCORES * THERE).sum(1, keepdim=True) / THERE.sum(1, keepdim=True)
    gain = torch.sign(SCORES - middle).double()
    up, down = (
        float(loss(batch_of(loss, reference + sign * gain, reference)).loss.mean())
        for sign in (1, -1)
    )
    if up < down:
        return OK
    return failed(f"loss {up:.3g} for a gain on what scores high, {down:.3g} for one on the rest")


def extremes(loss: Any) -> Verdict:
    """Finite, with a finite gradient, at log-ratios of ±10⁴, and for a list of one."""
    for dtype in (torch.float64, torch.float32):
        for whose in (0, 1):
            for item in (0, 1):
                both = [value.to(dtype) for value in log_probs()]
                both[whose][:, item] = -1e4
                policy = both[0].requires_grad_()
                batch = batch_of(loss, policy, both[1])
                name = f"-10⁴ nats under the {('policy', 'reference')[whose]}, {dtype}"
                found = finite(name, policy, lambda batch=batch: loss(batch).loss)  # type: ignore[misc]
                if found.fate != "ok":
                    return found
    alone = part(batch_of(loss, *log_probs()), items=slice(None, 1))
    return OK if loss(alone).loss.isfinite().all() else failed("a list of one has no finite loss")


CHECKS: Final[Mapping[str, Check]] = {
    "one_loss_a_list": one_loss_a_list,
    "declares": declares,
    "gradient": gradient,
    "mean_of_singles": mean_of_singles,
    "order": order,
    "padding": padding,
    "direction": direction,
    "extremes": extremes,
}
"""By name; the first two hold or the others mean nothing."""
