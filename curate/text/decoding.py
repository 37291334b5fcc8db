"""Decoding with a cache of reserved memory: each distinct prompt is read once, ended rows leave."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

__all__ = ["CACHE_NAMES", "cache_name", "decode", "of_contiguous_states"]

CACHE_NAMES: Final = ("cache", "past_key_values")
"""What models call keys and values of earlier tokens: from transformers 5.24 on, and before."""

_LEFT: Final = 0.75  # share of a batch's rows below which the ended ones are taken out


@torch.no_grad()
def decode(
    policy: Any,
    prompts: Sequence[Sequence[int]],
    limit: int,
    ends: Collection[int],
    pad: int,
    choose: Callable[[Tensor, Tensor, int], Tensor],
) -> list[list[int]] | None:
    """``limit`` tokens after each prompt, those after an end being ``pad``.

    ``choose(logits, rows, step)`` gives the tokens (b,) of the prompts numbered ``rows`` (b,) from
    float32 logits (b, V). None: the keys and values of the model are not plain ones of all
    positions (sliding windows, state spaces), or it takes no positions.
    """
    name = cache_name(policy)
    if getattr(_model(policy).forward, "keeps_state", False):
        return None  # it counts on the same rows in every step
    if name is None or "position_ids" not in _parameters(policy):
        return None
    distinct = {tuple(prompt): None for prompt in prompts}
    batch = _Batch.read(policy, name, list(distinct), pad)
    if batch is None:
        return None
    number = {prompt: at for at, prompt in enumerate(distinct)}
    batch.repeat([number[tuple(prompt)] for prompt in prompts], limit)
    device = policy.device
    rows = torch.arange(len(prompts), device=device)
    last = torch.tensor(sorted(ends), dtype=torch.long, device=device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    written = torch.full((len(prompts), limit), pad, device=device)
    for step in range(limit):
        tokens = choose(batch.logits, rows, step).masked_fill(ended, pad)
        written[rows, step] = tokens
        ended |= torch.isin(tokens, last)
        left = int((~ended).sum())
        if not left or step + 1 == limit:
            break
        if left <= _LEFT * len(rows):
            kept = (~ended).nonzero()[:, 0]
            rows, ended, tokens = rows[kept], ended[kept], tokens[kept]
            batch.keep(kept)
        batch.read_on(tokens)
    found: list[list[int]] = written.tolist()
    return found


class _Batch:
    """Rows that are decoded together: keys and values, the next logits, places that are padding."""

    def __init__(self, policy: Any, name: str, there: Tensor) -> None:
        self.policy, self.name, self.there = policy, name, there
        self.layers: list[Any] = []
        self.logits = torch.empty(0)
        self.lengths = there.sum(1)
        self.whole = bool(there.all())

    @classmethod
    def read(
        cls, policy: Any, name: str, prompts: Sequence[Sequence[int]], pad: int
    ) -> _Batch | None:
        """The prompts, padded on the left to one width; None where their cache is no plain one."""
        if {type(layer) for layer in DynamicCache(config=policy.config).layers} != {DynamicLayer}:
            return None
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + [*p] for p in prompts])
        there = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        batch = cls(policy, name, there.to(policy.device))
        positions = (batch.there.cumsum(1) - 1).clamp(min=0)
        layers = getattr(batch._run(ids.to(policy.device), positions).get(name), "layers", ())
        if {type(layer) for layer in layers} != {DynamicLayer}:
            return None
        batch.layers = list(layers)
        return batch

    def repeat(self, numbers: Sequence[int], room: int) -> None:
        """Row by row the prompts with these numbers, with room for as many tokens after each."""
        rows = torch.tensor(numbers, device=self.there.device)
        width = self.there.shape[1] + room - 1  # nothing reads on after the last token
        self.layers = [_Reserved(layer.keys, layer.values, rows, width) for layer in self.layers]
        self._take(rows)

    def keep(self, rows: Tensor) -> None:
        """Take out all rows but these."""
        for layer in self.layers:
            layer.keep(rows)
        self._take(rows)

    def _take(self, rows: Tensor) -> None:
        self.logits, self.there, self.lengths = (
            part[rows] for part in (self.logits, self.there, self.lengths)
        )
        self.whole = bool(self.there.all())

    def read_on(self, tokens: Tensor) -> None:
        """Read one more token (b,) of each row."""
        self.there = torch.nn.functional.pad(self.there, (0, 1), value=1)
        self._run(tokens.unsqueeze(1), self.lengths.unsqueeze(1))
        self.lengths = self.lengths + 1

    def _run(self, ids: Tensor, positions: Tensor) -> Any:
        cache = None
        if self.layers:
            cache = DynamicCache()
            cache.layers = list(self.layers)
        with of_contiguous_states(self.policy):
            out = self._read(ids, positions, cache)
        self.logits = out.logits[:, -1].float()
        return out

    def _read(self, ids: Tensor, positions: Tensor, cache: Any) -> Any:
        return self.policy(
            input_ids=ids,
            attention_mask=None if self.whole else self.there,  # attention is faster without
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **({} if cache is None else {self.name: cache}),
        )


class _Reserved(DynamicLayer):
    """Keys and values of a layer in memory that is reserved for all tokens that may come.

    `DynamicLayer` copies all of them for each new token.
    """

    _layer_type = None  # subclasses with one replace the layers of every cache

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, width: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.is_initialized = keys.device, True
        self.width = width
        self._reserve(keys, values, rows)

    def _reserve(self, keys: Tensor, values: Tensor, rows: Tensor) -> None:
        """Room for ``rows`` of the keys and values that there are."""
        length = keys.shape[-2]
        self._whole = [
            part.new_empty(len(rows), part.shape[1], self.width, part.shape[-1])
            for part in (keys, values)
        ]
        for room, part in zip(self._whole, (keys, values), strict=True):
            room[:, :, :length] = part[rows]
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (part[:, :, :length] for part in self._whole)

    def keep(self, rows: Tensor) -> None:
        """Take out all rows but these."""
        self._reserve(self.keys, self.values, rows)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Put those of new tokens after the others; return them all."""
        start = self.keys.shape[-2]
        self._show(start + key_states.shape[-2])
        self.keys[:, :, start:], self.values[:, :, start:] = key_states, value_states
        return self.keys, self.values


@contextlib.contextmanager
def of_contiguous_states(model: Any) -> Iterator[None]:
    """In the block the LM head of ``model`` reads states that lie in memory one after the other.

    The states of each prompt's last token are a view with gaps, for which torch multiplies a batch
    of matrices instead of one, and in bf16 copies the head's weights for each prompt.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(_contiguous)
    try:
        yield
    finally:
        hook.remove()


def _contiguous(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return given[0].contiguous(), *given[1:]


def cache_name(policy: Any) -> str | None:
    """What a model calls keys and values of earlier tokens; None where it takes none."""
    return next((name for name in CACHE_NAMES if name in _parameters(policy)), None)


def _parameters(policy: Any) -> Collection[str]:
    return inspect.signature(_model(policy).forward).parameters


def _model(policy: Any) -> Any:
    return policy.get_base_model() if hasattr(policy, "get_base_model") else policy  # of peft
