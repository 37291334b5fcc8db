"""Pair accuracy of a reward model, beside that of a rule that prefers the longer answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.models.model_config import longest_input
from siftune.finetune.core.intervals import with_correlation, with_interval
from siftune.finetune.data import training_rows
from siftune.finetune.data.prompt_truncation import SAME, TOO_LONG, Scored, encode_scored

__all__ = [
    "accuracy",
    "by_category",
    "encode_sides",
    "outputs",
    "scored_pairs",
    "uncomparable",
    "wins",
]

NEAR: Final = 0.1
"""Pairs whose lengths differ by at most this share of the longer are of nearly equal length."""
_MOST_CATEGORIES: Final = 100


def encode_sides(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], max_length: int | None
) -> list[tuple[Scored, Scored]]:
    """Token ids of prompt with chosen and with rejected answer; long prompts lose their start."""
    chosen, rejected = (
        encode_scored(tokenizer, rows, [row[side] for row in rows], max_length) for side in _SIDES
    )
    return list(zip(chosen, rejected, strict=True))


def uncomparable(
    rows: Sequence[Mapping[str, Any]], sides: Sequence[tuple[Scored, Scored]]
) -> pl.DataFrame:
    """Pairs of which an answer does not fit, or whose sides have equal ids: ``id, reason``."""
    found = []
    for row, (chosen, rejected) in zip(rows, sides, strict=True):
        if not (chosen.ids and rejected.ids):
            found.append((row["id"], TOO_LONG))
        elif chosen.ids == rejected.ids:
            found.append((row["id"], SAME))
    return pl.DataFrame(found, schema=training_rows.BAD_ROWS, orient="row")


def scored_pairs(
    model: Any,
    tokenizer: Any,
    table: pl.DataFrame,
    batch_size: int = 16,
    max_length: int | None = None,
    on_bad: training_rows.OnBad = "drop",
    source: Path | str = "rows",
) -> list[dict[str, Any]]:
    """Both rewards of each pair, and the lengths (characters) of its answers; one object a row.

    ``correct`` is 1 where the chosen side has the higher reward, 0.5 where they tie, else 0;
    ``longer`` is the same for the length of the answers. ``cut`` tells whether a prompt lost its
    start. With ``on_bad`` ``drop`` a pair that cannot be compared has no ``correct``, and a
    ``reason``.

    Raises:
        DataError: with ``refuse`` there is such a pair, or there are no others.
    """
    empty = training_rows.bad_rows(table)
    rows = training_rows.to_pairs(table.join(empty, on="id", how="anti", maintain_order="left"))
    sides = encode_sides(tokenizer, rows, max_length or longest_input(model.config, tokenizer))
    bad = pl.concat([empty, uncomparable(rows, sides)])
    training_rows.drop_bad(table, bad, on_bad, source, "compared")
    reasons = dict(bad.rows())
    kept = [(row, two) for row, two in zip(rows, sides, strict=True) if row["id"] not in reasons]
    ids = [one.ids for _, two in kept for one in two]
    rewards = [values[0] for values in outputs(model, tokenizer, ids, batch_size)]
    scored = {
        row["id"]: {**_compared(row, *rewards[2 * at : 2 * at + 2]), "cut": any(x.cut for x in two)}
        for at, (row, two) in enumerate(kept)
    }
    return [
        {"id": key, "prompt_key": prompt}
        | (scored.get(key) or {"correct": None, "reason": reasons[key]})
        for key, prompt in zip(table["id"], training_rows.prompt_keys(table), strict=True)
    ]


def _compared(row: Mapping[str, Any], chosen: float, rejected: float) -> dict[str, Any]:
    lengths = [training_rows.length_of(row[side]) for side in _SIDES]
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "correct": wins(chosen, rejected),
        "chars_chosen": lengths[0],
        "chars_rejected": lengths[1],
        "longer": wins(*lengths),
    }


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


def accuracy(
    rows: Sequence[Mapping[str, Any]], ties: Literal["apart", "half"] = "apart"
) -> dict[str, float]:
    """Share of pairs ranked right, by the model and by length, on all pairs and on the near ones.

    ``near_…`` are those of the pairs whose answers are of nearly equal length. Shares are of the
    pairs that a rule decides: ``ties`` counts those whose rewards are equal, ``longer_ties`` those
    of equal length; a share of no pairs is left out. (With ``ties`` ``half`` each is half right:
    policies that start at their reference tie everywhere.) ``right`` is the share of all pairs,
    where a tie is not right. ``unscored`` counts pairs without rewards, ``cut`` those whose prompt
    lost its start. ``length_pearson`` and ``length_spearman`` are correlations of the rewards and
    the lengths of all answers.
    ``…_low`` and ``…_high`` are the 95 % interval of a bootstrap over prompts: pairs of one prompt
    are not independent.
    """
    scored = [row for row in rows if row["correct"] is not None]
    near = [row for row in scored if _near(row["chars_chosen"], row["chars_rejected"])]
    found: dict[str, float] = {"pairs": len(scored), "near_pairs": len(near)}
    for name, part in (("", scored), ("near_", near)):
        found |= _share(f"{name}accuracy", part, "correct", ties)
        found |= _share(f"{name}longer_wins", part, "longer", ties)
        found[f"{name}ties"] = sum(row["correct"] == 0.5 for row in part)
        found[f"{name}longer_ties"] = sum(row["longer"] == 0.5 for row in part)
    right = [float(row["correct"] == 1) for row in scored]
    if scored and ties == "apart":
        found |= with_interval("right", right, [row["prompt_key"] for row in scored])
        found |= _with_length(scored)
    unscored = len(rows) - len(scored)
    cut = {"cut": sum(row["cut"] for row in scored)} if scored and "cut" in scored[0] else {}
    return found | cut | ({"unscored": unscored} if unscored or cut else {})


def by_category(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Pairs and `accuracy` of each ``category`` of the rows, under ``accuracy/CATEGORY``.

    Raises:
        UsageError: there are more than 100 categories.
    """
    categories = sorted({row["category"] for row in rows if row.get("category") is not None})
    if len(categories) > _MOST_CATEGORIES:
        raise UsageError(
            f"by: {len(categories):,} different values are no categories; name a field with at "
            f"most {_MOST_CATEGORIES}"
        )
    found: dict[str, float] = {}
    for category in categories:
        own = [
            row for row in rows if row.get("category") == category and row["correct"] is not None
        ]
        found[f"pairs/{category}"] = len(own)
        found[f"ties/{category}"] = sum(row["correct"] == 0.5 for row in own)
        found |= _share(f"accuracy/{category}", own, "correct", "apart")
        found |= _share(f"longer_wins/{category}", own, "longer", "apart")
    return found


def _with_length(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Correlations of rewards and lengths over all answers, by value and by rank."""
    rewards = [row[f"reward_{side}"] for row in rows for side in _SIDES]
    chars = [row[f"chars_{side}"] for row in rows for side in _SIDES]
    keys = [row["prompt_key"] for row in rows for _ in _SIDES]
    pearson = with_correlation("length_pearson", rewards, chars, keys)
    return pearson | with_correlation("length_spearman", rewards, chars, keys, ranks=True)


def _share(
    name: str, rows: Sequence[Mapping[str, Any]], column: str, ties: str
) -> dict[str, float]:
    decided = [row for row in rows if ties == "half" or row[column] != 0.5]
    if not decided:
        return {}
    keys = [row["prompt_key"] for row in decided]
    return with_interval(name, [row[column] for row in decided], keys)


def _near(first: int, second: int) -> bool:
    return abs(first - second) <= NEAR * max(first, second)
