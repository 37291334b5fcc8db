"""Comparisons of answers as token ids: each answer once, with who won against whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import kind_of, schema_of
from siftune.curate.heads.labelled import pairs_of
from siftune.finetune.data import training_rows
from siftune.finetune.data.collator import Batch, slices_of
from siftune.finetune.losses.reward_types import Compared, RewardObjective

__all__ = [
    "ComparisonCollator",
    "as_pairs",
    "compared_of",
    "comparisons",
    "length_balance",
    "parts_of",
]

_SIDES: Final = ("chosen", "rejected")
_SQUARE: Final = ("wins", "margins")


def as_pairs(table: pl.DataFrame) -> pl.DataFrame:
    """Preference rows as they are; of ranked lists all pairs of answers whose scores differ.

    A pair of the list ``ID`` is ``ID#BETTER-WORSE``, its answers counted from 1.
    """
    if kind_of(table) == "preference":
        return table
    return pl.DataFrame(list(_pairs(table)), schema_of("preference"))


def _pairs(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.iter_rows(named=True):
        answers = row["completions"] or []
        base = {name: row.get(name) for name in ("source", "row", "extra", "prompt")}
        for better, worse in pairs_of((row.get("scores") or [])[: len(answers)]):
            yield {
                **dict.fromkeys(schema_of("preference")),
                **base,
                "id": f"{row['id']}#{better + 1}-{worse + 1}",
                "kind": "preference",
                "chosen": answers[better],
                "rejected": answers[worse],
            }


def length_balance(table: pl.DataFrame, shares: Sequence[float]) -> tuple[float, float]:
    """Weights of comparisons that the longer and the shorter answer won: each gets half of all.

    ``shares`` are how often the chosen answer of each pair won. Pairs of equal length weigh 1.

    Raises:
        UsageError: the longer answer won all comparisons, or none.
    """
    longer = shorter = 0.0
    for row, share in zip(training_rows.to_pairs(table), shares, strict=True):
        gap = _length(row["chosen"]) - _length(row["rejected"])
        longer += (share if gap > 0 else 1 - share) * (gap != 0)
        shorter += (share if gap < 0 else 1 - share) * (gap != 0)
    if not (longer and shorter):
        won = "all" if longer else "no"
        raise UsageError(
            f"length_matched: the longer answer won {won} comparisons, so no weight makes it half "
            "of them; leave length_matched out, or add pairs"
        )
    half = (longer + shorter) / 2
    return half / longer, half / shorter


def _length(turns: Sequence[Mapping[str, Any]]) -> int:
    return training_rows.length_of(turns)


@dataclass
class _Element:
    """The answers to one prompt that are in comparisons, and these by their places."""

    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    chars: list[int] = field(default_factory=list)
    won: list[tuple[int, int, float, float]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def place(self, ids: Sequence[int], chars: int) -> int:
        found = self.places.setdefault(tuple(ids), len(self.places))
        if found == len(self.chars):
            self.chars.append(chars)
        return found

    def columns(self, own: str) -> dict[str, Any]:
        size = len(self.places)
        wins = [[0.0] * size for _ in range(size)]
        margins = [[0.0] * size for _ in range(size)]
        for first, second, weight, margin in self.won:
            wins[first][second] += weight
            margins[first][second] += weight * margin
        for one, by in zip(margins, wins, strict=True):
            one[:] = [margin / (weight or 1) for margin, weight in zip(one, by, strict=True)]
        texts = [list(ids) for ids in self.places]
        rows: Any = self.rows if len(self.rows) > 1 else self.rows[0]
        made = {"texts": texts, "wins": wins, "margins": margins, "chars": self.chars}
        return made | {own: rows if isinstance(rows, list) else [rows]}


def comparisons(
    table: pl.DataFrame,
    sides: Sequence[tuple[Sequence[int], Sequence[int]]],
    own: str,
    *,
    by_prompt: bool = False,
    shares: Sequence[float] | None = None,
    margins: Sequence[float] | None = None,
    balance: tuple[float, float] = (1.0, 1.0),
) -> list[dict[str, Any]]:
    """One element a pair, or with ``by_prompt`` one for all pairs of a prompt.

    ``sides`` are the ids of both texts of each pair of ``table``, ``shares`` how often the chosen
    one won, ``margins`` by how much it has to. ``balance`` are the weights of comparisons that the
    longer and the shorter answer won. In each element: ``texts``, the ids of each different answer;
    ``wins`` and ``margins`` as in `reward_types.Compared`; ``chars``, the lengths of the answers;
    under ``own`` the numbers of its rows.
    """
    keys = training_rows.prompt_keys(table) if by_prompt else range(table.height)
    made: dict[Any, _Element] = {}
    for at, (key, row) in enumerate(zip(keys, training_rows.to_pairs(table), strict=True)):
        element = made.setdefault(key, _Element())
        chars = [_length(row[side]) for side in _SIDES]
        first, second = (element.place(*each) for each in zip(sides[at], chars, strict=True))
        share = 1.0 if shares is None else shares[at]
        margin = 0.0 if margins is None else margins[at]
        up, down = _balanced(chars[0] - chars[1], balance)
        element.won.append((first, second, share * up, margin))
        if share < 1:
            element.won.append((second, first, (1 - share) * down, -margin))
        element.rows.append(at)
    return [element.columns(own) for element in made.values()]


def _balanced(gap: int, balance: tuple[float, float]) -> tuple[float, float]:
    """Weights of a win of the first and of the second of two answers, the first longer by gap."""
    if not gap:
        return 1.0, 1.0
    longer, shorter = balance
    return (longer, shorter) if gap > 0 else (shorter, longer)


@dataclass(frozen=True)
class ComparisonCollator:
    """B prompts with up to K answers each, padded on the right.

    Rows of ``input_ids`` and ``attention_mask`` are the first answers of all prompts, then the
    second ones, and so on; ``row_of`` ``(B, K)`` is the row of an answer, -1 where a prompt has
    fewer. ``wins``, ``margins`` ``(B, K, K)`` and ``chars`` ``(B, K)`` are 0 there. ``count``
    ``(B,)`` is what each prompt's loss counts for.
    """

    pad: int
    loss: RewardObjective
    multiple: int | None = None

    def __call__(self, elements: Sequence[Mapping[str, Any]]) -> Batch:
        """The batch of these elements."""
        sizes = [len(one["texts"]) for one in elements]
        most = max(sizes)
        order = [(b, k) for k in range(most) for b, size in enumerate(sizes) if k < size]
        texts = [elements[b]["texts"][k] for b, k in order]
        width = max(map(len, texts))
        width = -(-width // (self.multiple or 1)) * (self.multiple or 1)
        batch = {
            "input_ids": torch.full((len(texts), width), self.pad),
            "attention_mask": torch.zeros((len(texts), width), dtype=torch.long),
            "row_of": torch.full((len(elements), most), -1),
            "chars": torch.zeros((len(elements), most)),
        }
        for row, (text, (b, k)) in enumerate(zip(texts, order, strict=True)):
            batch["input_ids"][row, : len(text)] = torch.tensor(text)
            batch["attention_mask"][row, : len(text)] = 1
            batch["row_of"][b, k] = row
            batch["chars"][b, k] = elements[b]["chars"][k]
        for name in _SQUARE:
            batch[name] = torch.zeros((len(elements), most, most))
            for b, size in enumerate(sizes):
                batch[name][b, :size, :size] = torch.tensor(elements[b][name])
        batch["count"] = self.loss.count(compared_of(torch.zeros_like(batch["chars"]), batch))
        return batch


def compared_of(scores: torch.Tensor, batch: Batch) -> Compared:
    """The scores ``(B, K)`` of a batch with its comparisons."""
    return Compared(
        scores, batch["wins"].to(scores), batch["margins"].to(scores), batch["row_of"] >= 0
    )


def parts_of(batch: Batch, most: int) -> list[Batch]:
    """A batch as several of at most ``most`` tokens (one prompt at the least), in order.

    Each is only as wide as its own longest text.
    """
    row_of, tokens = batch["row_of"], batch["attention_mask"].sum(1)
    lengths = (tokens[row_of.clamp(min=0)] * (row_of >= 0)).sum(1)
    slices = slices_of(lengths.tolist(), most)
    return [batch] if len(slices) == 1 else [_part(batch, prompts) for prompts in slices]


def _part(batch: Batch, prompts: slice) -> Batch:
    present = batch["row_of"][prompts] >= 0
    most = int(present.sum(1).max())
    rows = batch["row_of"][prompts].T[present.T]
    width = int(batch["attention_mask"][rows].sum(1).max())
    part = {name: batch[name][rows, :width] for name in ("input_ids", "attention_mask")}
    numbers = torch.full_like(present, -1, dtype=torch.long).T
    numbers[present.T] = torch.arange(len(rows), device=rows.device)
    part["row_of"] = numbers.T[:, :most].contiguous()
    part["chars"] = batch["chars"][prompts, :most]
    part |= {name: batch[name][prompts, :most, :most] for name in _SQUARE}
    return part | {"count": batch["count"][prompts]}
