"""Heads of reward models with several outputs: the layer that has them, folded to one output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from siftune.curate.core.errors import UsageError

__all__ = ["folded", "head_of"]


def head_of(model: Any, outputs: int) -> Any:
    """The linear layer with the ``outputs`` of a sequence classifier, under an adapter too.

    Raises:
        UsageError: the last layer of the model is another one.
    """
    return model.get_submodule(_name_of(model, outputs))


def _name_of(model: Any, outputs: int) -> str:
    linear = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    found = [name for name, one in linear if one.out_features == outputs]
    trained = [name for name in found if "modules_to_save" in name]  # PEFT keeps the original too
    if not found:
        raise UsageError(f"the model has no linear layer with {outputs} outputs as its head")
    name: str = (trained or found)[-1]
    return name


def folded(model: Any, weights: Sequence[float]) -> Any:
    """``model`` with one output in place of several: their sum by ``weights``.

    The total is linear in the outputs, so that one layer gives it, and plain transformers loads it.
    """
    name = _name_of(model, len(weights))
    parent, _, own = name.rpartition(".")
    old = model.get_submodule(name)
    new = nn.Linear(old.in_features, 1, bias=old.bias is not None)
    by = torch.tensor(weights, dtype=torch.float64)
    with torch.no_grad():
        new.weight.copy_(by[None] @ old.weight.double())
        if old.bias is not None:
            new.bias.copy_(by @ old.bias.double()[:, None])
    setattr(model.get_submodule(parent), own, new.to(old.weight))
    model.config.num_labels = model.num_labels = 1
    return model
