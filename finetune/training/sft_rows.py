"""Rows of supervised fine-tuning as tokens: those to learn, held-out ones, and TRL's data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from siftune.curate.chat.encoding import Encoded, encode_chats, encode_texts, encode_unmasked
from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import kind_of
from siftune.curate.rows.chat import contents
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.tool_checks import check_calls, check_unweighed

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Learned", "SFTRows", "dataset_of"]

_IGNORED: Final = -100


@dataclass(frozen=True)
class Learned:
    """The rows that are trained on, as a table and as tokens, and those that are not."""

    table: pl.DataFrame
    encoded: list[Encoded]
    dropped: training_rows.Dropped


@dataclass(frozen=True)
class SFTRows:
    """Reads rows as tokens of one tokenizer, at most ``length`` of them."""

    tokenizer: Any
    length: int
    assistant_only_loss: bool

    def learned(self, table: pl.DataFrame, on_bad: training_rows.OnBad, rows: Path) -> Learned:
        """The rows that can be trained on, as tokens; the others are refused or listed."""
        preflight.refuse(preflight.check_tokenizer(self.tokenizer))
        if kind_of(table) != "text":
            preflight.refuse(preflight.check_template(self.tokenizer, self.assistant_only_loss))
        bad = training_rows.bad_rows(table)
        read = table.join(bad, on="id", how="anti", maintain_order="left")
        encoded = self.encoded(read)
        unlearned = preflight.untrainable(read["id"].to_list(), encoded, self.length)
        used = training_rows.drop_bad(table, pl.concat([bad, unlearned]), on_bad, rows)
        left = set(used["id"])
        kept = [row for key, row in zip(read["id"], encoded, strict=True) if key in left]
        preflight.refuse(preflight.check_truncation(used["id"].to_list(), kept, self.length))
        return Learned(
            used, [_cut(row, self.length) for row in kept], training_rows.dropped_of(bad, unlearned)
        )

    def held_out(self, table: pl.DataFrame, source: str) -> list[Encoded]:
        """The answers of ``table``, rows of the file ``source``, to measure the loss on."""
        answered = table.join(
            training_rows.bad_rows(table), on="id", how="anti", maintain_order="left"
        )
        encoded = [] if answered.is_empty() else self.encoded(answered)
        rows = [_cut(row, self.length) for row in encoded]
        if not any(1 in row.mask[1:] for row in rows):
            raise UsageError(f"eval_rows: {source} has no answers to measure a loss on")
        return rows

    def encoded(self, table: pl.DataFrame) -> list[Encoded]:
        """Whole rows, not cut."""
        tokenizer = self.tokenizer
        if kind_of(table) == "text":
            return encode_texts(tokenizer, contents(table["messages"]).to_list())
        rows = training_rows.to_conversations(table)
        preflight.refuse(preflight.check_texts(tokenizer, rows))
        chats, tools = [row["messages"] for row in rows], [row["tools"] for row in rows]
        preflight.refuse(check_calls(tokenizer, rows, learned=self.assistant_only_loss))
        if not self.assistant_only_loss:
            preflight.refuse(check_unweighed(rows))
        ids = [row["id"] for row in rows]
        if self.assistant_only_loss:
            return encode_chats(tokenizer, chats, tools=tools, rows=ids)
        encoded = encode_unmasked(tokenizer, chats, tools, ids)
        return [Encoded(row, [1] * len(row)) for row in encoded]


def _cut(row: Encoded, length: int) -> Encoded:
    return Encoded(row.ids[:length], row.mask[:length])


def dataset_of(encoded: Sequence[Encoded], order: Sequence[int]) -> Dataset:
    """Rows as TRL prepares them: ids, and labels that are -100 where nothing is learned.

    Each token has the number of its row beside it, so that packed rows keep theirs.
    """
    from datasets import Dataset

    from siftune.finetune.runs.finite_steps import ROW

    labels = [
        [token if bit else _IGNORED for token, bit in zip(row.ids, row.mask, strict=True)]
        for row in encoded
    ]
    ids = [row.ids for row in encoded]
    numbers = [[at] * len(row) for at, row in enumerate(ids)]
    rows = Dataset.from_dict({"input_ids": ids, "labels": labels, ROW: numbers})
    return rows if list(order) == list(range(len(ids))) else rows.select(order)
