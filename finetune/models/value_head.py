"""A value head: one number for each prompt, learned beside the policy and kept in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from siftune.finetune.models.lora import inner_model

__all__ = [
    "FILE",
    "add_value_head",
    "load_value_head",
    "save_value_head",
    "take_value_head",
    "value_head_of",
]

FILE: Final = "value_head.safetensors"
"""``weight`` (1, H) and ``bias`` (1,) of a linear layer on the trunk's last hidden state."""


def add_value_head(policy: Any) -> None:
    """Put a linear layer on ``policy``, under an adapter too; it starts at zero.

    Its output is V of a prompt: it reads the last hidden state at the prompt's last token, and
    gives that state no gradient, so the trunk is the policy's alone.
    """
    base = inner_model(policy)
    weight = base.get_output_embeddings().weight
    head = torch.nn.Linear(base.config.get_text_config().hidden_size, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    base.value_head = head.to(weight.device, torch.promote_types(weight.dtype, torch.float32))


def value_head_of(model: Any) -> torch.nn.Linear:
    """The head that `add_value_head` added."""
    head: torch.nn.Linear = inner_model(model).value_head
    return head


def save_value_head(model: Any, folder: Path) -> None:
    """Write the head beside the weights of a model or a checkpoint."""
    weights = value_head_of(model).state_dict()
    save_file({name: value.cpu().contiguous() for name, value in weights.items()}, folder / FILE)


def load_value_head(model: Any, folder: Path) -> None:
    """Load the head that `save_value_head` wrote."""
    value_head_of(model).load_state_dict(load_file(folder / FILE))


def take_value_head(model: Any, folder: Path) -> None:
    """Remove the head from a trained model and write it to ``folder``."""
    save_value_head(model, folder)
    del inner_model(model).value_head
