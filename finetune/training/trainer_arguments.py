"""The configuration of a TRL or transformers trainer, from our options and from any of its own.

The learning-rate schedule is transformers' own, linear to 0: `lr_scheduler_type`, `warmup_steps`.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import closest
from siftune.finetune.core.methods import OPTIONS_OF_ARGUMENTS, SET_BY_US
from siftune.finetune.models.precision import Precision, machine_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["freeze", "training_arguments"]

_OURS: Final = {"output_dir": "--out names the folder", **SET_BY_US}


def training_arguments(
    config: type[Any],
    own: Mapping[str, Any],
    passed_on: Mapping[str, Any],
    work: Path,
    precision: Precision = "auto",
) -> Any:
    """A ``config`` (SFTConfig, RewardConfig, TrainingArguments) for a run in the folder ``work``.

    ``own`` are arguments that our options set, ``passed_on`` the user's, taken as they are. Without
    a GPU it is set to float32 on the CPU: TRL's default of bf16 fails there.

    Raises:
        UsageError: an argument is unknown, is one that we set, or has a value it cannot take.
    """
    known = {field.name: field for field in dataclasses.fields(config) if field.init}
    for name in passed_on:
        _check_name(name, config, known, own)
    hints = get_type_hints(config)
    numbers = {name: _number(name, value, hints[name]) for name, value in passed_on.items()}
    machine = machine_arguments(precision)
    given: dict[str, Any] = {
        "output_dir": str(work),
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": not machine.get("use_cpu", False),
        "ddp_find_unused_parameters": False,  # every trained weight is in every step
        **machine,
        **own,
        **numbers,
    }
    if "gradient_checkpointing" in known and "activation_checkpointing" not in passed_on:
        given.setdefault("gradient_checkpointing", False)
    given = {name: value for name, value in given.items() if name in known}
    with warnings.catch_warnings():
        # TRL sets the old name of this argument whatever the user does.
        warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated")
        try:
            return config(**given)
        except Exception as error:  # an integration that is not installed raises its own kind
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(f"{config.__name__} refuses these arguments: {reason}") from None


def _number(name: str, value: Any, hint: Any) -> Any:
    """A text, such as YAML's ``inf``, as the number that the argument takes."""
    kinds = get_args(hint) or (hint,)
    if not isinstance(value, str) or str in kinds or not {int, float} & set(kinds):
        return value
    try:
        number = float(value) if float in kinds else int(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise UsageError(f"{name}: expected a number, got {value!r}")
    return number


def _check_name(
    name: str, config: type[Any], known: Mapping[str, Any], own: Mapping[str, Any]
) -> None:
    if name not in known:
        near = closest(name, known)
        hint = near if near.startswith("did you") else "see its documentation"  # it has over 100
        raise UsageError(f"{config.__name__} has no argument {name!r}; {hint}")
    if name in _OURS:
        raise UsageError(f"{name} cannot be passed on: {_OURS[name]}")
    if name in own:
        option = OPTIONS_OF_ARGUMENTS.get(name, name)
        flag = f"--{option.replace('_', '-')}"
        raise UsageError(
            f"{name} cannot be passed on: the option {option} sets it ({flag} on the command line)"
        )


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Exclude the embeddings and the lowest ``layers`` layers from training; 0 excludes nothing.

    Raises:
        UsageError: the model has fewer layers, or is not built as a stack of them.
    """
    import torch

    if layers == 0:
        return
    stacks = [part for part in model.base_model.modules() if isinstance(part, torch.nn.ModuleList)]
    count = len(stacks[0]) if stacks else 0
    if not 0 < layers <= count:
        raise UsageError(f"freeze: expected 0 to {count}, the layers of the model, got {layers}")
    embeddings = getattr(model.base_model, "embeddings", model.get_input_embeddings())
    for part in (embeddings, *stacks[0][:layers]):
        part.requires_grad_(False)
