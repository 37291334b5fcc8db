"""Geometric mixture of two policies, to generate from (Nash-MD)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import MethodType
from typing import Any

import torch

from siftune.curate.text.decoding import CACHE_NAMES

__all__ = ["mixed"]


@contextmanager
def mixed(model: Any, other: Any, share: float) -> Iterator[None]:
    """Inside the block the next token of ``model`` has the law ``∝ π^(1 - share) · π_other^share``.

    Token by token, as Nash-MD does it, not over whole answers. Both have the same tokens.
    """
    own, other_logits = model.forward, _CachedLogits(other)

    @wraps(type(model).forward)  # `generate` reads the signature
    def forward(self: Any, *args: Any, **inputs: Any) -> Any:
        out = own(*args, **inputs)
        logits = (1 - share) * torch.log_softmax(out.logits.float(), -1)
        out.logits = logits + share * torch.log_softmax(other_logits(inputs).float(), -1)
        return out

    vars(forward)["keeps_state"] = True  # the other model's cache, of these rows
    model.forward = MethodType(forward, model)
    try:
        yield
    finally:
        del model.forward
        if model.forward != own:
            model.forward = own


class _CachedLogits:
    """Logits of a second model for the inputs of the first, with a key-value cache of its own."""

    def __init__(self, model: Any) -> None:
        self.model, self.cache = model, None

    def __call__(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """Logits at each position of ``input_ids``; a new prompt starts a new cache.

        The first model has read ``inputs`` already, so its cache is longer than ``input_ids``
        unless this is the first step of a prompt. Without a cache every step gets all tokens.
        """
        name = next((name for name in CACHE_NAMES if inputs.get(name) is not None), None)
        if name and inputs[name].get_seq_length() <= inputs["input_ids"].shape[1]:
            self.cache = None
        step = {name: self.cache, "use_cache": True} if name else {"use_cache": False}
        out = self.model(**{**inputs, **step})
        self.cache = out[name] if name else None
        logits: torch.Tensor = out.logits
        return logits
