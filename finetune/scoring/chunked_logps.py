"""Log-probs of labels under a linear head in tiles, with a hand-written backward pass.

With ``p = softmax(factor · h Wᵀ)`` and ``g`` the gradient of a label's log-prob, that of its logits
is ``g (onehot - p)``. So the backward pass needs ``p`` alone: kept from the forward pass as far as
`KEPT` goes, computed again beyond it; and for a head that is not trained not even that, for
``(onehot - p) W`` is known in the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import torch

__all__ = ["KEPT", "Seen", "label_logps", "normalised"]

KEPT: Final = 64 * 2**20
"""Bytes of probabilities that are kept for the backward pass, so as not to compute them twice."""

Seen: TypeAlias = Callable[[slice, torch.Tensor], None]
"""Called with a tile's slice and the log-probs ``(n, V)`` of its tokens; without gradient."""


def label_logps(
    states: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    factor: float,
    tile: int,
    seen: Seen | None = None,
    kept: int = KEPT,
) -> torch.Tensor:
    """``log softmax(factor · states weightᵀ)[labels]`` ``(N,)``, in float32 or wider.

    ``states`` ``(N, H)``, ``weight`` ``(V, H)``, ``labels`` ``(N,)``; ``tile`` tokens at a time.
    """
    kept = kept if torch.is_grad_enabled() else 0  # there will be no backward pass
    apply: Callable[..., torch.Tensor] = _LabelLogps.apply
    return apply(states, weight, labels, factor, tile, seen, kept)


def normalised(logits: torch.Tensor) -> torch.Tensor:
    """Log-probs of logits ``(N, V)``, to the bit those of `label_logps`.

    A policy that is its own reference then has no drift at all, not one of rounding.
    """
    return logits - torch.logsumexp(logits, -1, keepdim=True)


class _LabelLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        factor: float,
        tile: int,
        seen: Seen | None,
        kept: int,
    ) -> torch.Tensor:
        trains_head = ctx.needs_input_grad[1]
        pulls = None  # (onehot - p) W, where no other gradient is needed
        if ctx.needs_input_grad[0] and not trains_head:
            pulls = torch.empty_like(states)
        found, sums, known = [], [], []
        for part in _tiles(len(labels), tile):
            logs = _logits(states[part], weight, factor)
            total = torch.logsumexp(logs, -1, keepdim=True)
            logs -= total
            found.append(logs.gather(1, labels[part, None])[:, 0])
            sums.append(total)
            if seen is not None:
                seen(part, logs)
            if pulls is not None:
                torch.sub(
                    weight[labels[part]], _into(logs.exp_(), weight) @ weight, out=pulls[part]
                )
            elif trains_head:
                kept -= logs.nbytes  # once below zero, always: the first are kept
                if kept >= 0:
                    known.append(logs.exp_())
        saved = (states, weight, labels, *known) if pulls is None else (pulls,)
        ctx.save_for_backward(*saved)
        ctx.sums, ctx.factor, ctx.tile, ctx.pulled = sums, factor, tile, pulls is not None
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient = given[0][:, None] * ctx.factor
        if ctx.pulled:
            (pulls,) = ctx.saved_tensors
            return ((gradient * pulls).to(pulls.dtype), *[None] * 6)
        states, weight, labels, *known = ctx.saved_tensors
        to_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight, dtype=gradient.dtype)
        for at, part in enumerate(_tiles(len(labels), ctx.tile)):
            if at < len(known):
                probs = known[at]
            else:
                probs = _logits(states[part], weight, ctx.factor).sub_(ctx.sums[at]).exp_()
            pull = probs * -gradient[part]
            pull.scatter_add_(1, labels[part, None], gradient[part].to(pull.dtype))
            pull = _into(pull, weight)
            if to_states is not None:
                torch.mm(pull, weight, out=to_states[part])
            to_weight = _added(to_weight, pull, states[part])
        return (to_states, to_weight.to(weight.dtype), *[None] * 5)


def _tiles(count: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, count)) for start in range(0, count, tile)]


def _logits(states: torch.Tensor, weight: torch.Tensor, factor: float) -> torch.Tensor:
    logits = states @ weight.T
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits if factor == 1.0 else logits.mul_(factor)


def _into(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.to(like.dtype)


def _added(total: torch.Tensor, pull: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """``total + pullᵀ states``, summed in the dtype of ``total``."""
    if pull.dtype == total.dtype:
        return total.addmm_(pull.T, states)
    return total.add_(pull.T @ states)
