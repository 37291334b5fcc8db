"""Fields of ``extra`` that training uses: tools, weights and reasoning of turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.chat.template_turns import WEIGHTS, tools_of, turn_keys
from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import CONTENT, kind_of
from siftune.finetune.core.distributed import notify
from siftune.finetune.data.bad_rows import BAD_ROWS

__all__ = [
    "extras_of",
    "lists_in",
    "raw_fields",
    "refuse_weights",
    "template_extras",
    "turns_in",
    "unlearned_rows",
    "warn_odd_tools",
]

_BESIDE: Final = r'"tools"|"functions"|\.fields"'
_TURNS: Final = ("messages", "prompt", "chosen", "rejected", "completion", "completions", "answer")
_NO_TOOLS: Final = ("[]", "{}", "null", "")


def extras_of(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``extra`` of each row as an object; empty where it has neither tools nor fields of turns."""
    if "extra" not in table.columns:
        return [{}] * table.height
    beside = pl.when(pl.col("extra").str.contains(_BESIDE)).then("extra").alias("extra")
    return raw_fields(table.select(beside))


def raw_fields(table: pl.DataFrame) -> list[dict[str, Any]]:
    """The fields of each raw row that have no column."""
    texts = table["extra"] if "extra" in table.columns else [None] * table.height
    return [orjson.loads(text) if text else {} for text in texts]


def template_extras(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Tools of each row, and the fields of its turns that training uses besides the content."""
    found = []
    for lists, extra in _with_extras(table):
        keys = {place: turn_keys(extra, place, turns) for place, turns in lists.items()}
        used = {place: each for place, each in keys.items() if any(each)}
        tools = tools_of(extra)
        found.append(used | ({"tools": tools} if tools else {}))
    return found


def unlearned_rows(table: pl.DataFrame) -> pl.DataFrame:
    """Rows with an answer of which no turn is learned, ``id, reason``: their weights are all 0."""
    found = [
        (key, "no_trained_tokens")
        for key, (lists, extra) in zip(table["id"], _with_extras(table), strict=True)
        if any(_unlearned(extra, *each) for each in lists.items() if each[0] != "prompt")
    ]
    return pl.DataFrame(found, schema=BAD_ROWS, orient="row")


def _unlearned(extra: Mapping[str, Any], place: str, turns: Sequence[Mapping[str, Any]]) -> bool:
    keys = zip(turns, turn_keys(extra, place, turns), strict=True)
    weights = [own.get("weight", 1) for turn, own in keys if turn["role"] == "assistant"]
    return bool(weights) and not any(weights)


def _with_extras(table: pl.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The lists of turns of each row, by their names in ``extra``, and that; none without extra."""
    extras = extras_of(table)
    names = [name for name, dtype in CONTENT[kind_of(table)].items() if dtype.is_nested()]
    if not any(extras):
        yield from (({}, {}) for _ in extras)
        return
    for row, extra in zip(table.select(names).iter_rows(named=True), extras, strict=True):
        lists = (each for name in names for each in lists_in(name, row[name]))
        yield dict(lists) if extra else {}, extra


def lists_in(column: str, value: Any) -> list[tuple[str, Any]]:
    """The lists of turns in a column, and the name that `extra` has for each."""
    if column != "completions":
        return [(column, value)]
    return [(f"{column}[{at}]", turns) for at, turns in enumerate(value or ())]


def warn_odd_tools(table: pl.DataFrame, source: Path | str) -> None:
    """Warn of rows whose tools are not a list of functions: those are not used."""
    odd = [
        key
        for key, extra in zip(table["id"], extras_of(table), strict=True)
        if (extra.get("tools") or extra.get("functions")) and _is_odd(extra)
    ]
    if odd:
        notify(
            f"warning: {source}: the tools of {len(odd)} rows ({odd[0]}, ...) are not used: "
            "expected a list of functions with names, as the OpenAI API takes"
        )


def _is_odd(extra: Mapping[str, Any]) -> bool:
    given = extra.get("tools") or extra.get("functions")
    return tools_of(extra) is None and str(given).strip() not in _NO_TOOLS


def refuse_weights(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse weights other than 0 and 1.

    Raises:
        DataError: the weight of a turn is neither 0 nor 1.
    """
    odd = [
        (row["id"], turn["weight"])
        for row in rows
        for _, turn in turns_in(row)
        if turn.get("weight", 1) not in (0, 1)
    ]
    if odd:
        row, weight = odd[0]
        raise DataError(
            f"{len(odd)} turns have a weight that is neither 0 nor 1, the first in row {row}: "
            f"{str(weight)[:40]!r} (one of {', '.join(WEIGHTS)}); a turn is learned or it is not: "
            "round the weights, or take the field out"
        )


def turns_in(row: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The turns of a row as this module gives it, each with the key that it is under."""
    for key in _TURNS:
        lists = row.get(key) or ()
        for turns in lists if key == "completions" else [lists]:
            yield from ((key, turn) for turn in turns)
