"""Contract checks of losses on single completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of
from siftune.finetune.losses.types import Answers, Needs, needs_of
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
from siftune.finetune.scoring.lm_head import STATISTICS

__all__ = [
    "CHECKS",
    "COLUMNS",
    "LABELS",
    "LENGTHS",
    "ROWS",
    "WIDTH",
    "batch_of",
    "log_probs",
    "part",
]

ROWS, WIDTH = 6, 4
LENGTHS: Final = torch.tensor([1, 2, 3, 4, 4, 2])
LABELS: Final = torch.tensor([True, False, True, True, False, False])
COLUMNS: Final = {
    "reward": torch.linspace(-1, 1, ROWS).double(),
    "weight": torch.linspace(0, 2, ROWS).double(),
    "win_probability": torch.linspace(0.1, 0.9, ROWS).double(),
}
"""The columns that rows of answers may have."""

TOKENS: Final = ("policy", "reference", *STATISTICS)


def log_probs(seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Token log-probs ``(ROWS, WIDTH)``, all below zero: the policy's, the reference's."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand((2, ROWS, WIDTH), dtype=torch.float64, generator=generator)
    return -scale * drawn[0] - 0.05, -scale * drawn[1] - 0.05


def batch_of(
    loss: Any,
    policy: torch.Tensor,
    reference: torch.Tensor,
    mismatched: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> AnswerLogps:
    """A batch from ``(ROWS, WIDTH)`` token log-probs; only what the loss declares.

    ``mismatched`` are such log-probs of completions to other prompts.
    """
    needs = needs_of(loss)
    if mismatched is None:
        said, under = log_probs(seed=9)
        mismatched = said, under - 0.3  # a KL above zero
    return AnswerLogps(
        _answers(needs, policy, reference),
        label=LABELS if needs.label else None,
        columns={name: COLUMNS[name].to(policy.dtype) for name in needs.columns},
        value=torch.zeros(ROWS, dtype=policy.dtype) if needs.value else None,
        mismatched=_answers(needs, *(one.to(policy.dtype) for one in mismatched))
        if needs.mismatched
        else None,
    )


def _answers(needs: Needs, policy: torch.Tensor, reference: torch.Tensor) -> Answers:
    there = torch.arange(WIDTH) < LENGTHS[:, None]
    policy, reference = policy * there, reference * there
    generator = torch.Generator().manual_seed(1)
    tokens = {
        name: torch.rand(policy.shape, dtype=torch.float64, generator=generator).to(policy) * there
        for name in needs.tokens
    }
    if needs.teacher:  # its divergences depend on the policy
        tokens = {name: (policy - reference).square() / 2 for name in needs.tokens}
    return Answers(
        policy=policy.sum(1),
        lengths=LENGTHS.to(policy.dtype),
        reference=reference.sum(1) if needs.reference else None,
        tokens={**tokens, "policy": policy, "reference": reference} if needs.tokens else {},
    )


def with_means(loss: Any, batch: AnswerLogps) -> AnswerLogps:
    """The batch with the means of its step, as the trainer gives them."""
    return replace(batch, means=means_of(loss, batch)) if hasattr(loss, "shared") else batch


def part(batch: AnswerLogps, rows: slice | torch.Tensor) -> AnswerLogps:
    """Some of a batch's rows, in the order given, with the batch's mismatched answers and means."""
    whole_ = batch.answers
    side = Answers(
        policy=whole_.policy[rows],
        lengths=whole_.length[rows],
        reference=None if whole_.reference is None else whole_.reference[rows],
        tokens={name: value[rows] for name, value in whole_.tokens.items()},
    )
    return replace(
        batch,
        answers=side,
        label=None if batch.label is None else batch.label[rows],
        columns={name: value[rows] for name, value in batch.columns.items()},
        value=None if batch.value is None else batch.value[rows],
    )


def declares(loss: Any) -> Verdict:
    """The declared needs are ones that a trainer supports."""
    if needs_of(loss).couples_batch != hasattr(loss, "shared"):
        return failed("couples_batch needs a method `shared`: the values averaged over the step")
    return declared(loss, TOKENS, tuple(COLUMNS))


def one_loss_an_answer(loss: Any) -> Verdict:
    """One finite loss a completion, not reduced, with gradient; a reward without."""
    policy, reference = log_probs()
    found = loss(batch_of(loss, policy.requires_grad_(), reference))
    return whole(found, AnswerLoss, dict.fromkeys(("loss", "reward"), (ROWS,)), "a completion")


def gradient(loss: Any) -> Verdict:
    """The gradient equals finite differences in float64, the step's means being constants."""
    policy, reference = log_probs(seed=3, scale=3.0)
    means = with_means(loss, batch_of(loss, policy, reference)).means

    def value(given: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = loss(replace(batch_of(loss, given, reference), means=means)).loss
        return found

    return gradient_of(loss, value, policy)


def detached_means(loss: Any) -> Verdict:
    """The means that a completion is compared with have no gradient; a batch computes its own."""
    if not needs_of(loss).couples_batch:
        return Verdict("skipped", "it compares nothing with the batch")
    policy, reference = log_probs(seed=3)
    slopes, values = [], []
    for step in (False, True):
        leaf = policy.clone().requires_grad_()
        batch = batch_of(loss, leaf, reference)
        found = loss(with_means(loss, batch) if step else batch).loss
        found.sum().backward()
        values.append(found.detach())
        slopes.append(leaf.grad)
    if not torch.equal(*slopes):  # type: ignore[arg-type]
        return failed("the batch's means have a gradient")
    return near(values[0], values[1], "without the step's means it does not take the batch's own")


def mean_of_singles(loss: Any) -> Verdict:
    """Given the means of its step, a batch of n is its rows one by one."""
    batch = with_means(loss, batch_of(loss, *log_probs()))
    singles = torch.cat([loss(part(batch, slice(at, at + 1))).loss for at in range(ROWS)])
    return near(loss(batch).loss, singles, "alone a completion has another loss than in a batch")


def order(loss: Any) -> Verdict:
    """The order of rows does not matter."""
    batch = batch_of(loss, *log_probs())
    back = loss(part(batch, torch.arange(ROWS).flip(0))).loss.flip(0)
    return near(loss(batch).loss, back, "the order of rows matters")


def labels(loss: Any) -> Verdict:
    """The loss depends on the label, and is finite for a batch of one class."""
    batch = batch_of(loss, *log_probs(seed=2))
    if batch.label is None:
        return Verdict("skipped", "it reads no labels")
    if torch.equal(loss(batch).loss, loss(replace(batch, label=~batch.label)).loss):
        return failed("exchanging the labels does not change the loss")
    for good in (True, False):
        alone = part(batch, (LABELS if good else ~LABELS).nonzero().flatten())
        if not loss(alone).loss.isfinite().all():
            return failed(f"the loss of a batch in which all are {good} is not finite")
    return OK


def direction(loss: Any) -> Verdict:
    """A policy that gained on what is better is better than one that gained on what is worse."""
    if needs_of(loss).teacher:
        return Verdict("skipped", "it learns a teacher's distribution, not the answers")
    if getattr(loss, "weighs_by_policy", False):
        return Verdict("skipped", "weighs_by_policy: the value of the loss means nothing")
    reference = torch.full((ROWS, WIDTH), -2.0, dtype=torch.float64)
    better = [LABELS] if needs_of(loss).label else [COLUMNS["reward"] > 0, LABELS | True]
    for rows in better:  # what is not labelled is rated, or to be imitated
        gain = torch.where(rows, 1.0, -1.0).double()[:, None]
        up, down = (
            float(loss(batch_of(loss, reference + sign * gain, reference)).loss.mean())
            for sign in (1, -1)
        )
        if up < down:
            return OK
    return failed(f"loss {up:.3g} for a gain on the better completions, {down:.3g} for a loss")


def extremes(loss: Any) -> Verdict:
    """Finite, with a finite gradient, at log-ratios of ±10⁴."""
    for dtype in (torch.float64, torch.float32):
        for whose in (0, 1):
            both = [value.to(dtype) for value in log_probs()]
            both[whose] = both[whose] * 1e4
            policy = both[0].requires_grad_()
            batch = batch_of(loss, policy, both[1])
            name = f"-10⁴ nats under the {('policy', 'reference')[whose]}, {dtype}"
            found = finite(name, policy, lambda batch=batch: loss(batch).loss)  # type: ignore[misc]
            if found.fate != "ok":
                return found
    return OK


CHECKS: Final[Mapping[str, Check]] = {
    "one_loss_an_answer": one_loss_an_answer,
    "declares": declares,
    "gradient": gradient,
    "detached_means": detached_means,
    "mean_of_singles": mean_of_singles,
    "order": order,
    "labels": labels,
    "direction": direction,
    "extremes": extremes,
}
"""By name; the first two hold or the others mean nothing."""
