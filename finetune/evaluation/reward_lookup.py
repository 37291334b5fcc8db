"""A reward by its name, or by the folder of a reward model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.models.precision import Precision

if TYPE_CHECKING:
    from siftune.finetune.rewards.types import Reward

__all__ = ["load", "reward_of"]

_REWARDS: Final = "finetune.rewards"


def reward_of(reward: str, options: Mapping[str, Any], precision: Precision = "auto") -> Reward:
    """The component called ``reward``, else the reward model whose folder that is.

    ``precision`` is that of a reward model whose ``options`` give none.

    Raises:
        UsageError: it is neither, or an option does not fit.
    """
    names = registry.names(_REWARDS)
    if registry.has(_REWARDS, reward):
        _refuse_lacking(reward, options)
        found: Reward = registry.build(_REWARDS, reward, options)
        return found
    if not Path(reward).is_dir() and "/" not in reward:
        raise UsageError(
            f"reward {reward!r} is neither a model folder nor a reward; "
            f"{registry.closest(reward, names)}"
        )
    given = {"model": reward, "precision": precision, **options}
    model: Reward = registry.build(_REWARDS, "reward_model", given)
    return model


def load(reward: Reward) -> None:
    """Load what a reward needs, before answers are drawn that it might be unable to score.

    Raises:
        UsageError: its model cannot be used.
    """
    from siftune.finetune.rewards.reward_model import RewardModel

    if isinstance(reward, RewardModel):
        reward.load()


def _refuse_lacking(reward: str, options: Mapping[str, Any]) -> None:
    """Name the flag that sets an option without a default."""
    known = registry.options(registry.find(_REWARDS, reward))
    if not options.keys() <= known.keys():
        return  # that is told first, with what it may have been meant to be
    for key, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and key not in options:
            raise UsageError(
                f"{reward} needs the option {key!r}; "
                f"set it with --reward-options '{{{key}: VALUE}}'"
            )
