"""Reward tokens of Quark: each prompt begins with that of its answer's reward bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.models.token_ids import allow_ids_below
from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.losses.token.quark import quantised

__all__ = ["add_reward_tokens", "reward_tokens_of", "with_embeddings", "with_reward_tokens"]


def add_reward_tokens(tokenizer: Any, bins: int) -> list[int]:
    """Ids of ``bins`` new special tokens, the best first.

    The tokenizer's template begins with the best one from here on: a prompt that is encoded with it
    asks the trained model for the best answers.
    """
    tokens = _names(bins)
    tokenizer.add_special_tokens(
        {"extra_special_tokens": tokens}, replace_extra_special_tokens=False
    )
    tokenizer.chat_template = tokens[0] + tokenizer.chat_template
    ids = reward_tokens_of(tokenizer, bins)
    allow_ids_below(tokenizer, max(ids) + 1)  # `with_embeddings` adds their embeddings
    return ids


def reward_tokens_of(tokenizer: Any, bins: int) -> list[int]:
    """Ids of the reward tokens of a tokenizer, the best first."""
    ids: list[int] = tokenizer.convert_tokens_to_ids(_names(bins))
    return ids


def _names(bins: int) -> list[str]:
    return [f"<|reward_{at}|>" for at in range(bins)]


def with_reward_tokens(rows: Sequence[AnswerRow], tokens: Sequence[int]) -> list[AnswerRow]:
    """Rows with the token of the bin of their ``reward`` before the prompt.

    Raises:
        UsageError: there are fewer rows than bins.
    """
    if len(rows) < len(tokens):
        raise UsageError(f"bins: expected at most one a row, got {len(tokens)} for {len(rows)}")
    rewards = torch.tensor([row.columns["reward"][0] for row in rows], dtype=torch.float64)
    bins = quantised(rewards, len(tokens)).tolist()
    return [
        replace(row, prompt=[tokens[bin_], *row.prompt])
        for row, bin_ in zip(rows, bins, strict=True)
    ]


def with_embeddings(model: Any, tokens: Sequence[int]) -> None:
    """Give ``model`` embeddings of ``tokens``: each the mean of those that it had.

    No random number is drawn, so a policy and its reference get the same ones.
    """
    present, needed = model.get_input_embeddings().weight.shape[0], max(tokens) + 1
    if needed > present:
        with torch.random.fork_rng(devices=[]):
            model.resize_token_embeddings(needed, mean_resizing=False)
    with torch.no_grad():
        for part in (model.get_input_embeddings(), model.get_output_embeddings()):
            part.weight[tokens] = part.weight[: min(tokens)].mean(0)
            if getattr(part, "bias", None) is not None:
                part.bias[tokens] = part.bias[: min(tokens)].mean()
