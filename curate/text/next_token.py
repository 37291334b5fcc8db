"""Logits of the token after a prompt, from a causal language model, in batches of prompts."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.text.language_model import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NextToken", "PromptIds"]

_TOKENS: Final = {"cpu": 4096, "cuda": 2**16}
"""Most tokens per batch; one prompt may have more."""
_KEPT: Final = 4
"""Beginnings whose keys and values are kept."""
_WORTH: Final = 32
"""Fewest tokens of a beginning that is computed apart."""


@dataclass(frozen=True)
class PromptIds:
    """Token ids of a prompt, of which the first ``shared`` are those of other prompts, too."""

    ids: Sequence[int]
    shared: int = 0

    @property
    def start(self) -> tuple[int, ...]:
        """The shared ids that are computed apart: none where they are few."""
        shared = min(self.shared, len(self.ids) - 1)
        return tuple(self.ids[:shared]) if shared >= _WORTH else ()


@dataclass(frozen=True)
class NextToken:
    """Reads the logits after prompts from ``lm``; keys and values of shared beginnings are kept.

    Prompts of a judge begin with the same rubric: it runs through the model once. Where a prompt
    is divided depends on the prompt alone, and so does, in bf16, each result: there prompts run one
    by one, as in `CausalLM`. In fp32 they run in batches, and others in a batch change a
    log-probability by rounding only, below 1e-5.
    """

    lm: CausalLM

    def log_probabilities(
        self, prompts: Sequence[PromptIds], wanted: Sequence[Sequence[int]]
    ) -> list[Any]:
        """For each prompt a float64 tensor of log-probabilities of its ``wanted`` token ids."""
        found: list[Any] = [None] * len(prompts)
        for batch in self._batches(prompts):
            for at, row in zip(batch, self._after([prompts[at] for at in batch]), strict=True):
                found[at] = row.double().log_softmax(-1)[list(wanted[at])].cpu()
        return found

    def _batches(self, prompts: Sequence[PromptIds]) -> Iterator[list[int]]:
        """Indices of prompts with the same beginning and similar lengths, the longest first."""
        device = self.lm.loaded.device.type
        most = 0 if self.lm.number_format == "bf16" else _TOKENS[device]
        order = sorted(
            range(len(prompts)), key=lambda at: (prompts[at].start, -len(prompts[at].ids), at)
        )
        batch: list[int] = []
        for at in order:
            first = prompts[batch[0]] if batch else prompts[at]
            full = (len(batch) + 1) * len(first.ids) > most
            if batch and (full or prompts[at].start != first.start):
                yield batch
                batch = []
            batch.append(at)
        if batch:
            yield batch

    def _after(self, prompts: Sequence[PromptIds]) -> Tensor:
        """Logits (prompts, vocabulary) after prompts of one beginning; padding is on the right."""
        import torch

        start = prompts[0].start
        past = self._past(start)
        rows = [list(prompt.ids[len(start) if past is not None else 0 :]) for prompt in prompts]
        last = [len(row) - 1 for row in rows]
        ids = torch.zeros((len(rows), max(last) + 1), dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
        if past is not None and len(rows) > 1:
            past.batch_repeat_interleave(len(rows))
        keep = sorted(set(last))
        device = self.lm.loaded.device
        with torch.inference_mode():
            logits = self.lm.loaded(
                input_ids=ids.to(device),
                use_cache=past is not None,
                logits_to_keep=torch.tensor(keep, device=device),
                **({} if past is None else {str(self._cache_name): past}),
            ).logits
        if logits.shape[1] != len(keep):  # some models return all logits
            logits = logits[:, keep]
        found: Tensor = logits[range(len(rows)), [keep.index(at) for at in last]].float()
        return found

    @cached_property
    def _cache_name(self) -> str | None:
        """What the model calls keys and values of earlier tokens; None where it takes none."""
        from siftune.curate.text.decoding import cache_name

        return cache_name(self.lm.loaded)

    @cached_property
    def _starts(self) -> OrderedDict[tuple[int, ...], Any]:
        """Keys and values by beginning, the one used last at the end."""
        return OrderedDict()

    def _past(self, start: tuple[int, ...]) -> Any:
        """A copy of the keys and values of a beginning; None where there is none to share."""
        import torch

        if not start or self._cache_name is None:
            return None
        if start not in self._starts:
            ids = torch.tensor([start], device=self.lm.loaded.device)
            with torch.inference_mode():
                made = self.lm.loaded(input_ids=ids, use_cache=True, logits_to_keep=1)
            past = getattr(made, str(self._cache_name), None)
            self._starts[start] = past if _can_be_shared(past) else None
        self._starts.move_to_end(start)
        while len(self._starts) > _KEPT:
            self._starts.popitem(last=False)
        return copy.deepcopy(self._starts[start])


def _can_be_shared(past: Any) -> bool:
    """Whether a cache holds plain keys and values in all layers, without windows or states."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    return type(past) is DynamicCache and all(type(layer) is DynamicLayer for layer in past.layers)
