"""Reward models on the policy's base: adapters with a head, beside those of policy and critic."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from siftune.curate.models.pretrained import pretrained_tokenizer
from siftune.finetune.models.adapters import check_base, is_adapter, load_adapter, only
from siftune.finetune.models.lora import inner_model
from siftune.finetune.rewards.reward_model import RewardModel
from siftune.finetune.rewards.several import WeightedRewards
from siftune.finetune.rewards.types import Reward, load

__all__ = ["check_adapters", "load_whole", "put_on_base", "reward_adapters"]


class SharedScorer:
    """A reward model whose trunk is that of ``policy`` under the adapter ``name``.

    It reads texts as a sequence classifier of transformers does: the score of a text is that of the
    last token that is not padding. The base is in memory once, whatever else is on it.
    """

    def __init__(self, policy: Any, name: str, head: Tensor) -> None:
        self.policy, self.name = policy, name
        self.config = copy.copy(inner_model(policy).config)  # its own padding token
        self.head = head

    @property
    def device(self) -> torch.device:
        """Where the policy is."""
        device: torch.device = self.policy.device
        return device

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> Any:
        """``logits`` (B, 1) of texts that are padded on the right."""
        trunk = inner_model(self.policy).base_model
        with only(self.policy, self.name):
            states = trunk(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            ).last_hidden_state
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * (input_ids != self.config.pad_token_id)).argmax(1)
        chosen = states[torch.arange(len(last), device=last.device), last]
        self.head = self.head.to(chosen.device)  # trainers move the policy, and it is no module
        return SimpleNamespace(logits=functional.linear(chosen.to(self.head.dtype), self.head))


def reward_adapters(reward: Reward) -> list[RewardModel]:
    """The reward models among the rewards whose folders hold adapters alone."""
    return [one for one in _models(reward) if is_adapter(one.model)]


def _models(reward: Reward) -> list[RewardModel]:
    parts = reward.parts if isinstance(reward, WeightedRewards) else ()
    listed = [part.reward for part in parts] if parts else [reward]
    return [one for one in listed if isinstance(one, RewardModel)]


def check_adapters(reward: Reward, base: str, rank: int) -> None:
    """Refuse reward adapters that cannot lie on the policy's base.

    Raises:
        UsageError: one is on another base.
        ValueError: the base is trained, so that what the adapter adds to would move.
    """
    for one in reward_adapters(reward):
        if not rank:
            raise ValueError(
                f"reward: {one.model} is an adapter, which lies on the policy's frozen base: set "
                "lora, or give a whole reward model (--adapter both or merge)"
            )
        check_base(one.model, base)


def load_whole(reward: Reward) -> None:
    """Load all that rewards need but for adapters, which come on the policy's base."""
    if not isinstance(reward, WeightedRewards):
        if not reward_adapters(reward):
            load(reward)
        return
    for part in reward.parts:
        if not reward_adapters(part.reward):
            load(part.reward)


def put_on_base(reward: Reward, policy: Any) -> None:
    """Load the adapters among the rewards on the base of ``policy``, a PEFT model."""
    for number, one in enumerate(reward_adapters(reward)):
        name = f"reward{number}"
        head = load_adapter(policy, name, one.model)
        config = inner_model(policy).config
        one.use(SharedScorer(policy, name, head), pretrained_tokenizer(Path(one.model), config))
