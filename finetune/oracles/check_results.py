"""How a check of a loss ends, and the checks that are the same for every family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import torch
from torch.autograd.gradcheck import GradcheckError

from siftune.finetune.losses.types import needs_of
from siftune.finetune.scoring.lm_head import of_both

__all__ = ["OK", "Check", "Verdict", "declared", "failed", "finite", "gradient_of", "near", "whole"]

Fate: TypeAlias = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """The result of a check, and its reason."""

    fate: Fate
    detail: str = ""


Check: TypeAlias = Callable[[Any], Verdict]

OK: Final = Verdict("ok")


def failed(detail: str) -> Verdict:
    """A failed check with its reason."""
    return Verdict("failed", detail)


def near(found: torch.Tensor, expected: torch.Tensor, problem: str) -> Verdict:
    """Whether two values are equal but for rounding."""
    if torch.allclose(found, expected, rtol=1e-7, atol=1e-9):
        return OK
    return failed(f"{problem}, by {float((found - expected).abs().max()):.3g}")


def declared(loss: Any, tokens: tuple[str, ...], columns: tuple[str, ...]) -> Verdict:
    """The declared needs are ones that a trainer supports."""
    needs = needs_of(loss)
    for known, asked, kind in (
        (tokens, needs.tokens, "needs_tokens"),
        (columns, needs.columns, "needs_columns"),
    ):
        wrong = sorted(name for name in asked if name.partition(":")[0] not in known)
        if wrong:
            return failed(f"{kind}: {wrong[0]!r} is not one of {', '.join(known)}")
    if of_both(needs.tokens) and not needs.reference:
        return failed("needs_tokens holds a KL to the reference, needs_reference is not set")
    if needs.mismatched and not needs.reference:
        return failed("needs_mismatched is for a KL to the reference, needs_reference is not set")
    if needs.reward_tokens and not {"reward"} <= set(needs.columns):
        return failed("needs_reward_tokens: bins are made of the column 'reward', list it")
    return OK


def whole(found: Any, kind: type[Any], shapes: Mapping[str, tuple[int, ...]], each: str) -> Verdict:
    """``found`` is of its ``kind``, not reduced and finite, with gradient; rewards without."""
    if not isinstance(found, kind):
        return failed(f"expected a {kind.__name__}, got {type(found).__name__}")
    for name, shape in shapes.items():
        value = getattr(found, name)
        if tuple(value.shape) != shape:
            return failed(f"{name}: expected one {each}, {shape}, got {tuple(value.shape)}")
        if not value.isfinite().all():
            return failed(f"{name} is not finite on plain log-probs")
        if value.requires_grad != (name == "loss"):
            return failed(f"{name} {'carries a' if value.requires_grad else 'has no'} gradient")
    return OK


def gradient_of(
    loss: Any, value: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor
) -> Verdict:
    """The gradient of ``value`` equals finite differences in float64."""
    if getattr(loss, "weighs_by_policy", False):
        return Verdict("skipped", "weighs_by_policy: its weights are detached on purpose")
    try:
        torch.autograd.gradcheck(value, (at.requires_grad_(),))
    except GradcheckError as error:
        return failed(str(error).strip().partition("\n")[0].rstrip(","))
    return OK


def finite(name: str, given: torch.Tensor, value: Callable[[], torch.Tensor]) -> Verdict:
    """A finite loss with a finite gradient to ``given``, which ``value`` reads."""
    found = value()
    found.sum().backward()
    if not found.isfinite().all():
        return failed(f"the loss is not finite: {name}")
    if given.grad is None or not given.grad.isfinite().all():
        return failed(f"the gradient is not finite: {name}")
    return OK
