"""Columns of each kind of row, with their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias, get_args
from typing import Literal as L

import polars as pl

from siftune.curate.core.errors import UsageError

__all__ = [
    "BASE",
    "CONTENT",
    "KINDS",
    "SOME",
    "TURN",
    "TURNS",
    "Kind",
    "content_columns",
    "kind_of",
    "schema_of",
]

Kind: TypeAlias = L["conversation", "text", "preference", "unpaired", "ranked"]
KINDS: Final = get_args(Kind)

TURN: Final = pl.Struct(
    {
        "role": pl.String,  # system | user | assistant | tool
        "content": pl.String,
        "name": pl.String,
        "tool_calls": pl.String,  # JSON, as it came
        "tool_call_id": pl.String,
    }
)
TURNS: Final = pl.List(TURN)

BASE: Final[Mapping[str, pl.DataType]] = {
    "id": pl.String(),  # source:row, unique in a table
    "source": pl.String(),  # the file, by its shortest name that is unique among the sources
    "row": pl.Int64(),  # 1-based: the line of a line file, the record of any other
    "kind": pl.String(),
    "digest": pl.String(),  # 128-bit hash of the content alone: equal content, equal digest
    "extra": pl.String(),  # JSON object of the fields that have no column of their own, or null
}

CONTENT: Final[Mapping[Kind, Mapping[str, pl.DataType]]] = {
    "conversation": {"messages": TURNS},
    "text": {"messages": TURNS},  # one assistant turn, no prompt
    "preference": {"prompt": TURNS, "chosen": TURNS, "rejected": TURNS},
    "unpaired": {"prompt": TURNS, "completion": TURNS, "label": pl.Boolean()},
    "ranked": {"prompt": TURNS, "completions": pl.List(TURNS)},
}
"""The content columns; ``digest`` is computed from them."""

_FACTS: Final[Mapping[Kind, Mapping[str, pl.DataType]]] = {
    "conversation": {},
    "text": {},
    "preference": {
        "score_chosen": pl.Float64(),
        "score_rejected": pl.Float64(),
        "margin": pl.Float64(),
        "win_probability": pl.Float64(),  # that chosen beats rejected, where the data has it
    },
    "unpaired": {},
    "ranked": {
        "scores": pl.List(pl.Float64),  # higher is better; a rank r is stored as -r
        "attributes": pl.List(pl.List(pl.Struct({"name": pl.String, "value": pl.Float64}))),
    },
}

SOME: Final[Mapping[Kind, Mapping[str, pl.DataType]]] = {
    "conversation": {
        "answer": pl.String(),  # of a prompt: the answer that others are checked against
        "answer_from": pl.String(),  # the field it was read from, and the mark it follows there
    }
}
"""Columns of some formats only: a table has them where its rows were read by one of these."""


def schema_of(kind: Kind) -> dict[str, pl.DataType]:
    """Column names and types of a table of ``kind``, in order."""
    return {**BASE, **CONTENT[kind], **_FACTS[kind]}


def content_columns(kind: Kind) -> tuple[str, ...]:
    """Names of the content columns of rows of ``kind``."""
    return tuple(CONTENT[kind])


def kind_of(table: pl.DataFrame) -> Kind:
    """The one kind of all rows of ``table``; of an empty table by its columns.

    Raises:
        UsageError: the table mixes kinds, or is not one of ours.
    """
    if "kind" not in table.columns:
        raise UsageError(
            "these rows have no `kind` column: run `siftune curate ingest` on them first"
        )
    by_columns = [kind for kind in KINDS if set(CONTENT[kind]) <= set(table.columns)]
    found = table["kind"].unique().sort().to_list() or by_columns[:1]
    if len(found) != 1 or found[0] not in KINDS:
        raise UsageError(f"expected rows of one kind ({', '.join(KINDS)}), found {found}")
    kind: Kind = found[0]
    return kind
