"""What the head of a reward model of several outputs gives for texts, and what it reads there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["head_inputs", "prompt_ids"]


def head_inputs(
    model: Any,
    tokenizer: Any,
    ids: Sequence[Sequence[int]],
    outputs: int,
    batch_size: int = 16,
) -> tuple[Any, Any]:
    """What a head of ``outputs`` gives for each text (texts, outputs), and what it reads there.

    That is the last token's state of a causal model, and the pooled one of an encoder, (texts, H).
    """
    import torch

    from siftune.finetune.models.reward_heads import head_of

    head = head_of(model, outputs)
    read: list[Any] = []
    hook = head.register_forward_pre_hook(lambda _, given: read.append(given[0].detach()))
    order = sorted(range(len(ids)), key=lambda at: (-len(ids[at]), at))
    given, states = torch.empty(len(ids), outputs), torch.empty(len(ids), head.in_features)
    try:
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                part = order[start : start + batch_size]
                texts = {"input_ids": [list(ids[at]) for at in part]}
                batch = tokenizer.pad(texts, padding_side="right", return_tensors="pt")
                batch = {name: value.to(model.device) for name, value in batch.items()}
                given[part] = model(**batch).logits.float().cpu()
                state, last = read.pop(), batch["attention_mask"].sum(1) - 1
                if state.ndim == 3:
                    state = state[torch.arange(len(part), device=state.device), last]
                states[part] = state.float().cpu()
    finally:
        hook.remove()
    return given, states


def prompt_ids(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], max_length: int
) -> list[list[int]]:
    """Ids of the prompt of each row without an answer; a long one loses its start."""
    from siftune.curate.chat.encoding import encode_unmasked
    from siftune.finetune.data.prompt_truncation import shortened

    tools = [row.get("tools") for row in rows]
    ids = [str(row.get("id", at)) for at, row in enumerate(rows)]
    first = {tokenizer.bos_token_id, tokenizer.cls_token_id}
    whole = encode_unmasked(tokenizer, [row["prompt"] for row in rows], tools, ids)
    return [
        one if len(one) <= max_length else shortened(one, len(one), max_length, first).ids
        for one in whole
    ]
