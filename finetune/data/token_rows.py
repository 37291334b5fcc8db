"""Rows as token ids: those that fit, and the order they are trained on in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import polars as pl

from siftune.finetune.data import preflight, training_rows

__all__ = ["TokenRow", "TokenRows", "fitting", "order_of"]


class TokenRow(Protocol):
    """What a pair, an answer and a list of answers have in common."""

    @property
    def id(self) -> str:
        """The id of the row it is of."""

    @property
    def prompt(self) -> list[int]:
        """Token ids of the prompt."""

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""

    @property
    def sequences(self) -> list[list[int]]:
        """Token ids of the answers after the prompt, as a batch lays them out."""

    @property
    def scored(self) -> list[list[int]]:
        """For each token of `sequences` 1 where it is scored, else 0."""


Row = TypeVar("Row", bound=TokenRow)


@dataclass(frozen=True)
class TokenRows(Generic[Row]):
    """Rows that can be trained on, the same as token ids, and the rows that were left out."""

    table: pl.DataFrame
    ids: list[Row]
    dropped: training_rows.Dropped

    def part(self, table: pl.DataFrame) -> list[Row]:
        """The token ids of some of the rows."""
        wanted = set(table["id"])
        return [row for row in self.ids if row.id in wanted]


def fitting(
    table: pl.DataFrame,
    bad: pl.DataFrame,
    rows: Sequence[Row],
    *,
    max_length: int | None,
    on_bad: training_rows.OnBad,
    source: Path | str,
) -> TokenRows[Row]:
    """Those of ``rows`` that have at most ``max_length`` tokens; ``bad`` has left others out.

    What is longer cannot be trained on: to cut an answer would cut its end of turn. Nor can an
    answer of which no token is scored.

    Raises:
        DataError: some are left out and ``on_bad`` is ``refuse``.
    """
    long = [(row.id, "too_long") for row in rows if max_length and row.length > max_length]
    long += [(row.id, "no_trained_tokens") for row in rows if not all(map(any, row.scored))]
    over = pl.DataFrame(long, schema=training_rows.BAD_ROWS, orient="row").unique(
        "id", keep="first", maintain_order=True
    )
    used = training_rows.drop_bad(table, pl.concat([bad, over]), on_bad, source)
    left = set(used["id"])
    return TokenRows(
        used, [row for row in rows if row.id in left], training_rows.dropped_of(bad, over)
    )


def order_of(rows: Sequence[TokenRow], max_tokens: int, seed: int) -> list[int]:
    """Fresh permutations of the rows' places until the next would go over ``max_tokens``.

    What counts are the tokens of answers that are scored, which are those that are learned.
    """
    generator = np.random.default_rng(seed)
    scored = [sum(map(sum, row.scored)) for row in rows]
    order: list[int] = []
    left = max_tokens
    while True:
        for at in generator.permutation(len(rows)).tolist():
            left -= scored[at]
            if left < 0:
                preflight.refuse(preflight.check_budget(max_tokens, order))
                return order
            order.append(at)
