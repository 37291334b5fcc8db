"""Scores of texts by a reward model, with the hidden states that they were computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from siftune.curate.judge_stats.intervals import Floats
from siftune.finetune.models.lora import inner_model

__all__ = ["recorded_states", "scores_and_states"]


def scores_and_states(
    model: Any,
    tokenizer: Any,
    ids: Sequence[Sequence[int]],
    batch_size: int = 16,
    *,
    states: bool = True,
) -> tuple[Floats, Floats]:
    """The score (texts,) and the state (texts, H) of each text of token ids, in order.

    Texts of similar length share a batch, padded on the right. Without ``states`` H is 0.
    """
    import torch

    order = sorted(range(len(ids)), key=lambda at: (-len(ids[at]), at))
    scores = np.full(len(ids), np.nan)
    watching: AbstractContextManager[Any] = (
        recorded_states(model) if states and order else nullcontext({})
    )
    with torch.no_grad(), watching as found:
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            texts = {"input_ids": [list(ids[at]) for at in part]}
            batch = tokenizer.pad(texts, padding_side="right", return_tensors="pt")
            batch = {name: value.to(model.device) for name, value in batch.items()}
            scores[part] = model(**batch).logits[:, 0].double().cpu().numpy()
    hidden = [found[tuple(text)] for text in ids] if found else []
    return scores, np.array(hidden, float).reshape(len(ids), -1 if hidden else 0)


@contextmanager
def recorded_states(model: Any) -> Iterator[dict[tuple[int, ...], Floats]]:
    """The state of each text that ``model`` reads meanwhile, by its token ids.

    It is the mean of the middle layer's hidden states over the text's tokens (H), then for each
    layer the mean cosine of neighbouring tokens' states (layers + 1). The last layer of an encoder
    of sentences does not tell words in disorder, or of another language, from others.
    """
    trunk = inner_model(model).base_model
    found: dict[tuple[int, ...], Floats] = {}

    def ask(module: Any, given: Any, named: Any) -> Any:
        return given, {**named, "output_hidden_states": True}

    def keep(module: Any, given: Any, named: Any, output: Any) -> None:
        ids, there = named.get("input_ids", given[0] if given else None), named["attention_mask"]
        states = _means(output.hidden_states, there.float()).cpu().numpy()
        for text, mask, state in zip(ids.tolist(), there.bool().tolist(), states, strict=True):
            found[tuple(one for one, kept in zip(text, mask, strict=True) if kept)] = state

    hooks = (
        trunk.register_forward_pre_hook(ask, with_kwargs=True),
        trunk.register_forward_hook(keep, with_kwargs=True),
    )
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _means(layers: Sequence[Any], there: Any) -> Any:
    """Means over the tokens ``there`` (B, T) of each text: (B, H + layers)."""
    import torch
    import torch.nn.functional as F

    middle = layers[len(layers) // 2].float()
    mean = (middle * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp_min(1)
    both = there[:, 1:] * there[:, :-1]
    alike = [
        (F.cosine_similarity(one[:, 1:].float(), one[:, :-1].float(), dim=-1) * both).sum(1)
        / both.sum(1).clamp_min(1)
        for one in layers
    ]
    return torch.cat([mean, torch.stack(alike, 1)], 1)
