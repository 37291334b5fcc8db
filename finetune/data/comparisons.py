"""Comparisons of answers as token ids: each answer once, with who won against whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl
import torch

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import kind_of, schema_of
from siftune.curate.heads.labelled import pairs_of
from siftune.finetune.data import training_rows
from siftune.finetune.data.collator import COLUMN, Batch, slices_of
from siftune.finetune.losses.reward_types import Compared, RewardObjective

__all__ = [
    "ComparisonCollator",
    "as_pairs",
    "columns_of",
    "compared_of",
    "comparisons",
    "length_balance",
    "pairs_in",
    "parts_of",
    "rows_without",
    "safety_of",
]

_SIDES: Final = ("chosen", "rejected")
_SQUARE: Final = ("wins", "margins")


def pairs_in(source: Path | str) -> pl.DataFrame:
    """The pairs of preference rows or ranked lists, from any file that `training_rows.load` reads.

    Raises:
        DataError: no two answers of a list have different scores.
        UsageError: the rows are of another kind.
    """
    table = as_pairs(training_rows.load(source, ("preference", "ranked")))
    if table.is_empty():
        raise DataError(f"{source}: no list has two answers whose scores differ")
    return table


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


def columns_of(table: pl.DataFrame, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Numbers of both answers of each pair that an objective needs, by their names."""
    known = {"safe": safety_of}
    for name in names:
        if name not in known:
            raise UsageError(f"the objective needs {name!r}; pairs have {', '.join(known)}")
    return {name: known[name](table) for name in names}


def rows_without(
    table: pl.DataFrame, numbers: Sequence[str], columns: Sequence[str]
) -> pl.DataFrame:
    """Pairs that lack one of ``numbers``, or one of ``columns_of`` an answer: ``id, reason``."""
    parts = [pl.DataFrame(schema=training_rows.BAD_ROWS)]
    for name in numbers:
        value = pl.col(name) if name in table.columns else pl.lit(None, pl.Float64)
        lacking = table.filter(value.is_null() | value.is_nan())
        parts.append(lacking.select("id", reason=pl.lit(f"no_{name}")))
    for name, values in columns_of(table, columns).items():
        unknown = pl.Series([any(map(math.isnan, both)) for both in values], dtype=pl.Boolean)
        parts.append(table.filter(unknown).select("id", reason=pl.lit(f"no_{name}")))
    return pl.concat(parts)


def safety_of(table: pl.DataFrame) -> list[tuple[float, float]]:
    """Whether both answers of each pair are safe, 1 or 0, NaN where it is not known.

    Read from ``safe_chosen`` and ``safe_rejected``, columns or fields of the raw rows, else from
    PKU-SafeRLHF's ``is_response_0_safe`` and ``is_response_1_safe``.
    """
    known = [training_rows.values_of(table, f"safe_{side}") for side in _SIDES]
    raw = [training_rows.values_of(table, f"is_response_{at}_safe") for at in (0, 1)]
    places = training_rows.values_of(table, "chosen_response")  # counted from 1
    found = []
    for at in range(table.height):
        own = [one[at] for one in known]
        if None in own and places[at] in (1, 2):
            better = places[at] - 1
            own = [raw[better][at], raw[1 - better][at]]
        found.append((_as_number(own[0]), _as_number(own[1])))
    return found


def _as_number(value: Any) -> float:
    return float(value) if isinstance(value, bool | int | float) else math.nan


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
    numbers: dict[str, dict[int, float]] = field(default_factory=dict)

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
        made = {"texts": texts, "wins": wins, "margins": margins, "chars": self.chars}
        numbers = {
            COLUMN + name: [known.get(at, math.nan) for at in range(size)]
            for name, known in self.numbers.items()
        }
        return made | numbers | {own: self.rows}


def comparisons(
    table: pl.DataFrame,
    sides: Sequence[tuple[Sequence[int], Sequence[int]]],
    own: str,
    *,
    by_prompt: bool = False,
    shares: Sequence[float] | None = None,
    margins: Sequence[float] | None = None,
    balance: tuple[float, float] = (1.0, 1.0),
    columns: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> list[dict[str, Any]]:
    """One element a pair, or with ``by_prompt`` one for all pairs of a prompt.

    ``sides`` are the ids of both texts of each pair of ``table``, ``shares`` how often the chosen
    one won, ``margins`` by how much it has to. ``balance`` are the weights of comparisons that the
    longer and the shorter answer won, ``columns`` numbers of both answers of each pair.

    In each element: ``texts``, the ids of each different answer; ``wins`` and ``margins`` as in
    `reward_types.Compared`; ``chars``, the lengths of the answers; ``column/NAME``, their numbers;
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
        for name, values in (columns or {}).items():
            known = element.numbers.setdefault(name, {})
            known |= dict(zip((first, second), values[at], strict=True))
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
        for name in (name for name in elements[0] if name.startswith(COLUMN)):
            batch[name] = torch.full((len(elements), most), torch.nan)
            for b, size in enumerate(sizes):
                batch[name][b, :size] = torch.tensor(elements[b][name])
        batch["count"] = self.loss.count(compared_of(torch.zeros_like(batch["chars"]), batch))
        return batch


def compared_of(scores: torch.Tensor, batch: Batch) -> Compared:
    """The scores ``(B, K)`` of a batch with its comparisons."""
    columns = {
        name.removeprefix(COLUMN): value.to(scores)
        for name, value in batch.items()
        if name.startswith(COLUMN)
    }
    wins, margins = (batch[name].to(scores) for name in _SQUARE)
    return Compared(scores, wins, margins, batch["row_of"] >= 0, columns)


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
    for name in batch:
        if name == "chars" or name.startswith(COLUMN):
            part[name] = batch[name][prompts, :most]
    part |= {name: batch[name][prompts, :most, :most] for name in _SQUARE}
    return part | {"count": batch["count"][prompts]}
