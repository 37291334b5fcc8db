"""Low-rank adapters merged into the float32 weights of their model's folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["merge_adapter"]


def merge_adapter(trained: Any, load: Callable[[], Any]) -> Any:
    """The plain model with ``W + (alpha / rank) B A`` for the weights W under the adapter.

    A base in float32 takes the adapter as it is. Where ``trained`` holds its base in bf16 or in 4
    bits the sum is made in ``load()``, the model in float32: W is that of the folder, not rounded,
    and small updates are not lost.
    """
    quantized = getattr(trained.get_base_model(), "is_loaded_in_4bit", False)
    if trained.get_base_model().dtype == torch.float32 and not quantized:
        return trained.merge_and_unload()
    whole = load()
    with torch.no_grad():
        _add(trained.get_base_model(), whole)
    return whole


def _add(trained: Any, whole: Any) -> None:
    """Add the low-rank updates of ``trained`` to ``whole``, and copy what is trained in full."""
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    for name, layer in trained.named_modules():
        adapted: Any = layer
        if isinstance(layer, LoraLayer):
            weight = whole.get_submodule(name).weight
            weight += adapted.get_delta_weight("default").to(weight)
        elif isinstance(layer, ModulesToSaveWrapper):
            saved = adapted.modules_to_save["default"].state_dict()
            whole.get_submodule(name).load_state_dict(saved)
