"""Sampling completions from a policy, each with random numbers of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from siftune.curate.text.decoding import decode, of_contiguous_states

__all__ = ["Sampling", "generate", "sample"]


@dataclass(frozen=True)
class Sampling:
    """Temperature, maximum length, end tokens and padding token of sampled completions."""

    temperature: float
    max_new_tokens: int
    ends: frozenset[int]
    pad: int


class _InverseCDF(LogitsProcessor):
    """Masks all tokens but the one drawn by inverse CDF from a given uniform number.

    So a row's draw depends on its own numbers and logits only, not on the batch it is in, nor on
    the state of a global generator that a resumed run would have to restore.
    """

    def __init__(self, uniform: Tensor, prompt_width: int, temperature: float) -> None:
        self.uniform, self.start, self.temperature = uniform, prompt_width, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        at = inverse_cdf(scores, self.uniform[:, input_ids.shape[1] - self.start], self.temperature)
        return torch.full_like(scores, float("-inf")).scatter_(1, at.unsqueeze(1), 0.0)


def inverse_cdf(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Tokens (B,) of softmax(logits / temperature), where its CDF passes ``uniform`` (B,).

    Every pass over (B, V) numbers in float64 counts: it is done in place, without the division by
    the sum.

    >>> logits = torch.tensor([[0.25, 0.5, 0.25]] * 3).log()
    >>> inverse_cdf(logits, torch.tensor([0.2, 0.3, 0.8]), temperature=1)
    tensor([0, 1, 2])
    """
    mass = logits.to(torch.float64, copy=True)
    if temperature != 1:
        mass /= temperature
    mass -= mass.amax(-1, keepdim=True)
    mass = mass.exp_().cumsum(-1)
    at = torch.searchsorted(mass, (uniform * mass[:, -1]).unsqueeze(1), right=True)
    return at.clamp(max=logits.shape[1] - 1)[:, 0]


@torch.no_grad()
def sample(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[Sequence[int]],
) -> list[list[int]]:
    """One completion (token ids, with the end token that closes it, if one came) for each prompt.

    Draws from softmax(logits / temperature) and nothing else; a ``temperature`` of 0 takes the most
    probable token each time. What the model folder's
    ``generation_config.json`` says of top-k, penalties or lengths would make the ratios of PPO
    those of another distribution, and is not used. ``seeds`` holds a row's seed: same weights,
    same seed, same completion.
    """
    uniform = None
    if sampling.temperature:
        uniform = uniform_of(sampling, seeds).to(policy.device)

    def chosen(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        if uniform is None:
            return logits.argmax(-1)
        return inverse_cdf(logits, uniform[rows, step], sampling.temperature)

    limit, ends = sampling.max_new_tokens, sampling.ends
    written = decode(policy, prompts, limit, ends, sampling.pad, chosen)
    if written is None:
        return generate(policy, prompts, sampling, seeds, max(map(len, prompts)), {})
    return [_until_end(row, ends) for row in written]


def generate(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[Sequence[int]],
    width: int,
    cache: Mapping[str, Any],
) -> list[list[int]]:
    """As `sample`, with prompts padded on the left to ``width`` tokens.

    ``cache`` holds the keys and values of all but the last token by the name of their argument,
    where these are known.
    """
    ids = torch.tensor([[sampling.pad] * (width - len(p)) + [*p] for p in prompts])
    there = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with _only(policy, _config(sampling)), of_contiguous_states(policy):
        out = policy.generate(
            input_ids=ids.to(policy.device),
            attention_mask=there.to(policy.device),
            logits_processor=_draws(sampling, seeds, width, policy.device),
            **cache,
        )
    return [_until_end(row, sampling.ends) for row in out[:, width:].tolist()]


def _draws(
    sampling: Sampling, seeds: Sequence[Sequence[int]], width: int, device: torch.device
) -> LogitsProcessorList:
    if sampling.temperature == 0:
        return LogitsProcessorList()
    draw = _InverseCDF(uniform_of(sampling, seeds).to(device), width, sampling.temperature)
    return LogitsProcessorList([draw])


def uniform_of(sampling: Sampling, seeds: Sequence[Sequence[int]]) -> Tensor:
    """The random numbers (B, max_new_tokens) of rows with these seeds."""
    numbers = [np.random.default_rng(seed).random(sampling.max_new_tokens) for seed in seeds]
    return torch.from_numpy(np.stack(numbers))


def _config(sampling: Sampling) -> GenerationConfig:
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=sorted(sampling.ends),
        pad_token_id=sampling.pad,
        use_cache=True,
    )


@contextlib.contextmanager
def _only(policy: Any, config: GenerationConfig) -> Iterator[None]:
    """Generate with ``config`` alone in the block; the model's own is restored after it."""
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy  # of peft
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    for at, token in enumerate(tokens):
        if token in ends:
            return tokens[: at + 1]
    return tokens
