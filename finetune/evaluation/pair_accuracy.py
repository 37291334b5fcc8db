"""Pair accuracy of a reward model, beside that of a rule that prefers the longer answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from siftune.curate.models.model_config import positions_of
from siftune.finetune.core.intervals import with_interval
from siftune.finetune.data import training_rows

__all__ = ["accuracy", "encode_sides", "outputs", "scored_pairs", "wins"]

NEAR: Final = 0.1
"""Pairs whose lengths differ by at most this share of the longer are of nearly equal length."""


def encode_sides(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], max_length: int | None
) -> list[tuple[list[int], list[int]]]:
    """Token ids of prompt with chosen and with rejected answer, cut off at ``max_length``."""
    from siftune.curate.chat.encoding import encode_unmasked

    tools, ids = [row.get("tools") for row in rows], [row["id"] for row in rows]
    chats = {side: [[*row["prompt"], *row[side]] for row in rows] for side in _SIDES}
    sides = [encode_unmasked(tokenizer, each, tools, ids) for each in chats.values()]
    return [
        (chosen[:max_length], rejected[:max_length])
        for chosen, rejected in zip(*sides, strict=True)
    ]


def scored_pairs(
    model: Any,
    tokenizer: Any,
    table: pl.DataFrame,
    batch_size: int = 16,
    max_length: int | None = None,
) -> list[dict[str, Any]]:
    """Both rewards of each pair, and the lengths (characters) of its answers; one object a row.

    ``correct`` is 1 where the chosen side has the higher reward, 0.5 where they are equal, else 0;
    ``longer`` is the same for the length of the answers.
    """
    limit = positions_of(model.config) or tokenizer.model_max_length
    rows = training_rows.to_pairs(table)
    ids = encode_sides(tokenizer, rows, max_length or min(limit, tokenizer.model_max_length))
    sides = [side for pair in ids for side in pair]
    rewards = [values[0] for values in outputs(model, tokenizer, sides, batch_size)]
    keys = training_rows.prompt_keys(table)
    found = []
    for at, (row, key) in enumerate(zip(rows, keys, strict=True)):
        chosen, rejected = rewards[2 * at : 2 * at + 2]
        lengths = [training_rows.length_of(row[side]) for side in _SIDES]
        found.append(
            {
                "id": row["id"],
                "prompt_key": key,
                "reward_chosen": chosen,
                "reward_rejected": rejected,
                "correct": wins(chosen, rejected),
                "chars_chosen": lengths[0],
                "chars_rejected": lengths[1],
                "longer": wins(*lengths),
            }
        )
    return found


_SIDES: Final = ("chosen", "rejected")


def wins(first: float, second: float) -> float:
    """1 where the first is greater, 0.5 where they are equal, else 0."""
    return 0.5 if first == second else float(first > second)


def outputs(
    model: Any, tokenizer: Any, ids: Sequence[Sequence[int]], batch_size: int = 16
) -> list[list[float]]:
    """What the head gives for each text, in order; texts of similar length share a batch.

    Pairs often share an answer: what is there several times is read once.
    """
    import torch

    from siftune.finetune.data.collator import pad_of

    pad = pad_of(tokenizer)
    first = {tuple(text): at for at, text in reversed(list(enumerate(ids)))}
    order = sorted(first.values(), key=lambda at: (-len(ids[at]), at))
    found: list[list[float]] = [[]] * len(ids)
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            longest = len(ids[part[0]])
            batch = torch.full((len(part), longest), pad)
            there = torch.zeros_like(batch)
            for row, at in enumerate(part):
                batch[row, : len(ids[at])] = torch.tensor(ids[at])
                there[row, : len(ids[at])] = 1
            out = model(
                input_ids=batch.to(model.device), attention_mask=there.to(model.device)
            ).logits
            for at, values in zip(part, out.double().tolist(), strict=True):
                found[at] = values
    return [found[first[tuple(text)]] for text in ids]


def accuracy(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of pairs ranked right, by the model and by length, on all pairs and on the near ones.

    ``near_…`` are those of the pairs whose answers are of nearly equal length. ``…_low`` and
    ``…_high`` are the 95 % interval of a bootstrap over prompts: pairs of one prompt are not
    independent.
    """
    near = [row for row in rows if _near(row["chars_chosen"], row["chars_rejected"])]
    found: dict[str, float] = {"pairs": len(rows), "near_pairs": len(near)}
    for name, part in (("", rows), ("near_", near)):
        if part:
            found |= _share(f"{name}accuracy", part, "correct")
            found |= _share(f"{name}longer_wins", part, "longer")
    return found


def _share(name: str, rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, float]:
    return with_interval(name, [row[column] for row in rows], [row["prompt_key"] for row in rows])


def _near(first: int, second: int) -> bool:
    return abs(first - second) <= NEAR * max(first, second)
