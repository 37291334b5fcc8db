"""Completions in batches of a fixed shape: each depends on its own prompt alone, in bf16 too.

A matrix product of another shape sums in another order, and in bf16 that changes tokens. So a
prompt is read alone, its keys and values are padded to a width that follows from its own length,
and every step of a batch has the same number of rows, some of which may be there to fill it. Row by
row each product is then the same whatever stands in the other rows. A step for eight rows takes
about a third longer than one for a single row: most of the time goes into reading the weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from siftune.curate.text.decoding import cache_name
from siftune.curate.text.sampling import Sampling, generate, sample

__all__ = ["sample_each"]

_WIDTH: Final = 256  # prompts are padded to a multiple of this
_MOST: Final = 8  # rows of a batch: a single question costs a third more, eight a sixth each


@torch.inference_mode()
def sample_each(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[Sequence[int]],
    tokens: int,
) -> list[list[int]]:
    """As `sampling.sample`; a completion is the same whatever else is asked.

    ``tokens`` bounds those of a batch, rows times width with what may be written. A model whose
    cache is not one of plain keys and values of all positions (sliding windows, state spaces)
    writes one completion after another.
    """
    by_width: dict[int, list[int]] = defaultdict(list)
    for at, prompt in enumerate(prompts):
        by_width[-(-len(prompt) // _WIDTH) * _WIDTH].append(at)
    found: dict[int, list[int]] = {}
    for width, members in by_width.items():
        rows = max(1, min(_MOST, tokens // (width + sampling.max_new_tokens)))
        for start in range(0, len(members), rows):
            batch = members[start : start + rows]
            texts, numbers = [prompts[at] for at in batch], [seeds[at] for at in batch]
            written = _batch(policy, texts, sampling, numbers, (rows, width))
            found.update(zip(batch, written, strict=True))
    return [found[at] for at in range(len(prompts))]


def _batch(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[Sequence[int]],
    shape: tuple[int, int],
) -> list[list[int]]:
    rows, width = shape
    caches = [_read(policy, prompt) for prompt in prompts] if rows > 1 else []
    if not caches or None in caches:
        pairs = zip(prompts, seeds, strict=True)
        return [sample(policy, [prompt], sampling, [seed])[0] for prompt, seed in pairs]
    filled = [*range(len(prompts)), *[0] * (rows - len(prompts))]  # the first one again
    together = _stacked([caches[at] for at in filled], width - 1)
    asked, numbers = [prompts[at] for at in filled], [seeds[at] for at in filled]
    out = generate(policy, asked, sampling, numbers, width, {str(cache_name(policy)): together})
    return out[: len(prompts)]


def _read(policy: Any, prompt: Sequence[int]) -> Any:
    """Keys and values of all tokens of a prompt but the last; None where they cannot be padded."""
    from transformers.cache_utils import DynamicLayer

    if len(prompt) < 2:
        return None
    ids = torch.tensor([prompt[:-1]], device=policy.device)
    out = policy(input_ids=ids, use_cache=True, logits_to_keep=1)
    layers = getattr(out.get(cache_name(policy)), "layers", ())
    return out[cache_name(policy)] if {type(layer) for layer in layers} == {DynamicLayer} else None


def _stacked(caches: Sequence[Any], width: int) -> Any:
    """One cache of all rows, zeros in front of shorter ones."""
    from transformers import DynamicCache

    together = DynamicCache()
    for at, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        keys = torch.cat([_padded(layer.keys, width) for layer in layers])
        values = torch.cat([_padded(layer.values, width) for layer in layers])
        together.update(keys, values, at)
    return together


def _padded(states: Tensor, width: int) -> Tensor:
    return pad(states, (0, 0, width - states.shape[-2], 0))
