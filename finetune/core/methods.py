"""Methods of training by the names that commands and recipes give them; nothing is imported."""

from __future__ import annotations

from typing import Final

from siftune.curate.core.registry import names

__all__ = [
    "FAMILIES",
    "OPTIONS_OF_ARGUMENTS",
    "PREFERENCE",
    "TOOLS",
    "TRAINERS",
    "TRAINER_GROUP",
    "family_of",
    "objectives",
]

OPTIONS_OF_ARGUMENTS: Final = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "save_steps": "save_every",
    "logging_steps": "log_every",
    "data_seed": "seed",
}
"""Our options in place of arguments of transformers' trainers."""

TRAINER_GROUP: Final = "finetune.trainers"

TRAINERS: Final = {"sft": "sft", "reward": "reward_model", "ppo": "ppo"}
"""Methods that are a trainer of their own, and its name in `TRAINER_GROUP`."""

TOOLS: Final = {
    **{name: ("finetune.tools", name) for name in ("init", "evaluate", "sample")},
    **{name: ("finetune.comparison", name) for name in ("compare", "conformance")},
}
"""Commands that train nothing: the package and the module that has each."""

FAMILIES: Final = (
    "finetune.losses.pair",
    "finetune.losses.unpaired",
    "finetune.losses.token",
    "finetune.losses.listwise",
)
"""Groups of objectives by what they are given."""

PREFERENCE: Final = "preference"
"""The trainer of `TRAINER_GROUP` that runs every objective."""


def objectives() -> tuple[str, ...]:
    """Every objective, family by family; a name that two families have stands once."""
    return tuple(dict.fromkeys(name for group in FAMILIES for name in names(group)))


def family_of(objective: str) -> str | None:
    """The group of `FAMILIES` that has an objective; None where none has."""
    return next((group for group in FAMILIES if objective in names(group)), None)
