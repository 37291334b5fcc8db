"""Scores of texts by a reward model, with the hidden states of their answers' tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import Floats
from siftune.finetune.models.lora import inner_model

__all__ = ["half_states", "recorded_states", "scores_and_states"]

Read = Callable[[Sequence[int], npt.NDArray[Any]], Any]
"""Takes the ids of an answer and its tokens' states (tokens, H)."""


def half_states(ids: Sequence[int], states: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    """The states as they are, in 16 bits."""
    found: npt.NDArray[np.float16] = np.clip(states, -6e4, 6e4).astype(np.float16)
    return found


def scores_and_states(
    model: Any,
    tokenizer: Any,
    ids: Sequence[Sequence[int]],
    batch_size: int = 16,
    *,
    starts: Sequence[int] | None = None,
    read: Read = half_states,
) -> tuple[Floats, list[Any]]:
    """The score (texts,) of each text of token ids, and what ``read`` makes of its answer.

    ``starts`` are where the answers begin; without them nothing is read. Texts of similar length
    share a batch, padded on the right.
    """
    import torch

    order = sorted(range(len(ids)), key=lambda at: (-len(ids[at]), at))
    scores = np.full(len(ids), np.nan)
    watching: AbstractContextManager[Any] = nullcontext({})
    if starts is not None and order:
        at = {tuple(text): start for text, start in zip(ids, starts, strict=True)}
        watching = recorded_states(model, at, read)
    with torch.no_grad(), watching as found:
        for first in range(0, len(order), batch_size):
            part = order[first : first + batch_size]
            texts = {"input_ids": [list(ids[at]) for at in part]}
            batch = tokenizer.pad(texts, padding_side="right", return_tensors="pt")
            batch = {name: value.to(model.device) for name, value in batch.items()}
            scores[part] = model(**batch).logits[:, 0].double().cpu().numpy()
    return scores, [found[tuple(text)] for text in ids] if starts is not None else []


@contextmanager
def recorded_states(
    model: Any, starts: Mapping[tuple[int, ...], int], read: Read
) -> Iterator[dict[tuple[int, ...], Any]]:
    """What ``read`` makes of the answer in each text of ``starts`` that ``model`` reads meanwhile.

    ``starts`` maps the token ids of a text to where its answer begins. The states are those of the
    middle layer: the last one of an encoder of sentences does not tell words in disorder, or of
    another language, from others, and a decoder's is turned to the next token.
    """
    trunk = inner_model(model).base_model
    found: dict[tuple[int, ...], Any] = {}

    def ask(module: Any, given: Any, named: Any) -> Any:
        return given, {**named, "output_hidden_states": True}

    def keep(module: Any, given: Any, named: Any, output: Any) -> None:
        ids, there = named.get("input_ids", given[0] if given else None), named["attention_mask"]
        middle = output.hidden_states[len(output.hidden_states) // 2]
        for row, mask, states in zip(ids, there.bool(), middle, strict=True):
            text = tuple(row[mask].tolist())
            if text in starts and text not in found:
                answer = states[mask][starts[text] :].float().cpu().numpy()
                found[text] = read(text[starts[text] :], answer)

    hooks = (
        trunk.register_forward_pre_hook(ask, with_kwargs=True),
        trunk.register_forward_hook(keep, with_kwargs=True),
    )
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
