"""A policy that answers as the geometric mixture of itself and another model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from types import MethodType
from typing import Any

import torch

__all__ = ["mixed"]


@contextmanager
def mixed(model: Any, other: Any, share: float) -> Iterator[None]:
    """Meanwhile the next token of ``model`` has the law ``∝ π^(1 - share) · π_other^share``.

    Token by token, as Nash-MD does it, not over whole answers. Both have the same tokens.
    """
    own, held = model.forward, _Held(other)

    @wraps(type(model).forward)  # `generate` reads the signature
    def forward(self: Any, *args: Any, **given: Any) -> Any:
        out = own(*args, **given)
        logits = (1 - share) * torch.log_softmax(out.logits.float(), -1)
        out.logits = logits + share * torch.log_softmax(held(given).float(), -1)
        return out

    model.forward = MethodType(forward, model)
    try:
        yield
    finally:
        del model.forward
        if model.forward != own:
            model.forward = own


class _Held:
    """The other model with a cache of its own, which begins anew with every prompt."""

    def __init__(self, model: Any) -> None:
        self.model, self.cache = model, None

    def __call__(self, given: dict[str, Any]) -> torch.Tensor:
        past = given.get("past_key_values")
        if past is None or past.get_seq_length() <= given["input_ids"].shape[1]:
            self.cache = None  # a first call: all that was seen is what is given now
        out = self.model(**{**given, "past_key_values": self.cache, "use_cache": True})
        self.cache = out.past_key_values
        logits: torch.Tensor = out.logits
        return logits
