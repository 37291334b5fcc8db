"""A reward by its name, or by the folder of a reward model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from curate.core import registry
from curate.core.errors import UsageError

if TYPE_CHECKING:
    from finetune.rewards.types import Reward

__all__ = ["reward_of"]

_REWARDS: Final = "finetune.rewards"


def reward_of(reward: str, options: Mapping[str, Any]) -> Reward:
    """The component called ``reward``, else the reward model whose folder that is.

    Raises:
        UsageError: it is neither, or an option does not fit.
    """
    names = registry.names(_REWARDS)
    if reward in names:
        found: Reward = registry.build(_REWARDS, reward, options)
        return found
    if not Path(reward).is_dir() and "/" not in reward:
        raise UsageError(
            f"reward {reward!r} is neither a model folder nor a reward; "
            f"{registry.closest(reward, names)}"
        )
    model: Reward = registry.build(_REWARDS, "reward_model", {"model": reward, **options})
    return model
