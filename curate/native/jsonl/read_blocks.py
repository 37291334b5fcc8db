"""Blocks of JSON lines to columns: plain lines without a Python value each, odd ones told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.native.jsonl.blocks import Block
from siftune.curate.native.jsonl.content_bytes import digests
from siftune.curate.native.jsonl.extra import Extra
from siftune.curate.native.jsonl.fields import Fields
from siftune.curate.native.jsonl.judgements import Judged
from siftune.curate.native.jsonl.known_keys import fields_of, keys_of
from siftune.curate.native.jsonl.line import BLANK, ODD, PLAIN
from siftune.curate.native.jsonl.pairs import pairs
from siftune.curate.native.jsonl.scan import Scanned, scan
from siftune.curate.native.jsonl.spans import numbered
from siftune.curate.native.jsonl.tokens import LIST, STRING
from siftune.curate.native.jsonl.turn_columns import Lists, numbers, repeated, said, strings
from siftune.curate.records import json_lines
from siftune.curate.records.field_names import PICTURE_KEYS
from siftune.curate.records.json_lines import too_long
from siftune.curate.records.layout import Layout, Said
from siftune.curate.rows.convert import arrow_schema

__all__ = ["Plain", "plain_rows"]

_COMPAT: Final = pl.CompatLevel.oldest()
_Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plain:
    """The rows of a block's plain lines, and its odd lines as they are, or why they are not taken.

    ``lines`` has the line numbers of ``table``, ``sizes`` the bytes of each row.
    """

    table: pa.Table
    lines: _Ints
    sizes: _Ints
    odd: list[tuple[int, bytes | BadRow]]


def plain_rows(
    block: Block,
    kind: Kind,
    layout: Layout,
    source: str,
    limit: int | None,
    mapping: Mapping[str, str],
) -> Plain:
    """Take what can be taken of a block.

    ``limit`` is the most records to look at, ``mapping`` new names of raw keys, all of them known
    to the layout.
    """
    known = fields_of(layout)
    scanned = scan(block, keys_of(known, layout, mapping), utf8=_is_utf8(block))
    _shorten(scanned, limit)
    fields = Fields(block, scanned, list(known), list(layout.roles.values()))
    facts = {name: fields.numbers(name) for name in layout.numbers}
    if {"score_chosen", "score_rejected", "margin"} <= facts.keys():
        facts["margin"] = _margins(facts)
    judged = Judged.of(fields.numbers(layout.judged)) if layout.judged else None
    _doubt(scanned, fields, layout, judged)
    extra = Extra(scanned)
    _doubt_others(scanned, fields, layout, extra)
    if judged is not None:
        extra.add("chosen_response", judged.second)
        facts |= judged.facts
    lists = _lists(scanned, fields, layout, judged)
    rows = np.flatnonzero(scanned.status >= PLAIN)
    content = {name: said(parts) for name, parts in lists.items()}
    for name, turns in layout.columns.items():
        if name not in lists:
            content[name] = fields.said([turn for turn in turns if isinstance(turn, Said)], rows)
    content |= {name: _arrow(fields.truths(name, rows)) for name in layout.truths}
    digest, sizes = digests(kind, content)
    others, more = extra.of(rows)
    made = {name: _arrow(column[rows]) for name, column in facts.items()}
    made |= content | {"digest": digest, "extra": others}
    table = _table(kind, source, rows + block.first, made)
    return Plain(table, rows + block.first, sizes + more, _odd(block, scanned))


def _margins(facts: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The given margins; where there is none, the chosen score minus the rejected one."""
    with np.errstate(over="ignore", invalid="ignore"):
        made = facts["score_chosen"] - facts["score_rejected"]
    made[np.isinf(made)] = np.nan
    return np.where(np.isnan(facts["margin"]), made, facts["margin"])


def _is_utf8(block: Block) -> bool:
    try:
        strings(block.data, np.array([0, block.size])).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _shorten(scanned: Scanned, limit: int | None) -> None:
    """Leave out all but the first records; tell lines that are too long."""
    status = scanned.status
    if limit is not None:
        status[np.cumsum(status != BLANK) > limit] = BLANK
    status[(scanned.ends - scanned.starts >= json_lines.MAX_LINE) & (status != BLANK)] = ODD


def _doubt(scanned: Scanned, fields: Fields, layout: Layout, judged: Judged | None) -> None:
    """Lines that lack a text, turns or a truth value, or have them in two forms, are odd."""
    needed = [each.key for each in layout.said()] + [*layout.truths]
    needed += [each.key for each in layout.sides() if each.key != layout.shared]
    doubt = np.zeros(len(scanned.status), np.bool_) if judged is None else judged.doubt.copy()
    for name in needed:
        doubt |= fields.found(name) < STRING
    if layout.differ and layout.shared and layout.columns[layout.shared]:
        one, other = map(fields.found, layout.differ)
        doubt |= (one != other) | ((one != LIST) & (fields.found(layout.shared) < STRING))
    for side in layout.sides():
        if side.form == "either":
            doubt |= fields.unclear(side.key)
    for name in layout.numbers:
        doubt |= np.isinf(fields.numbers(name))
    scanned.status[doubt & (scanned.status >= PLAIN)] = ODD


def _doubt_others(scanned: Scanned, fields: Fields, layout: Layout, extra: Extra) -> None:
    """Lines with a field without a column that may belong to the turns are odd."""
    rows = np.flatnonzero(scanned.status >= PLAIN)
    texts = pl.Series(pl.from_arrow(extra.of(rows)[0]))
    if texts.null_count() == len(texts):
        return
    kept = [each.beside for each in layout.said() if each.beside]  # these are in `extra` as well
    doubt = _holds(texts, layout.doubted, kept)
    listed = [side for side in layout.sides() if side.form == "list"]
    if listed and doubt.any():
        lists = fields.lists(listed[0].key, rows)
        doubt &= ~(lists.answered() & lists.asking())
    scanned.status[rows[doubt | _holds(texts, PICTURE_KEYS)]] = ODD


def _holds(texts: pl.Series, pattern: str, kept: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
    """Which of the texts of JSON have keys of a pattern besides those that are ``kept``."""
    if not pattern:
        return np.zeros(len(texts), np.bool_)
    if not kept:
        return texts.str.contains(pattern).fill_null(False).to_numpy()
    count = texts.str.count_matches(pattern).cast(pl.Int64)
    known = sum(texts.str.count_matches(f'"{key}":', literal=True).cast(pl.Int64) for key in kept)
    return (count > known).fill_null(False).to_numpy()


def _lists(
    scanned: Scanned, fields: Fields, layout: Layout, judged: Judged | None
) -> dict[str, list[Lists]]:
    """The columns of turns, in their parts; of pairs only those in no doubt stay plain."""
    rows = np.flatnonzero(scanned.status >= PLAIN)
    if layout.differ is None:
        return {
            name: [fields.lists(side.key, rows) for side in sides]
            for name, sides in layout.columns.items()
            if not isinstance(sides[0], Said)
        }
    columns, kept = pairs(fields, rows, layout, judged)
    scanned.status[np.delete(rows, kept)] = ODD
    return {name: [lists] for name, lists in columns.items()}


def _odd(block: Block, scanned: Scanned) -> list[tuple[int, bytes | BadRow]]:
    """Number and bytes of each odd line, with its line feed if it had one."""
    lines: list[tuple[int, bytes | BadRow]] = []
    for at in np.flatnonzero(scanned.status == ODD).tolist():
        feed = not (block.cut and at == len(scanned.status) - 1)
        text = block.data[scanned.starts[at] : scanned.ends[at] + feed].tobytes()
        long = len(text) + (not feed) > json_lines.MAX_LINE
        lines.append((block.first + at, too_long(len(text)) if long else text))
    return lines


def _arrow(values: npt.NDArray[Any]) -> Any:
    """Numbers, null where they are NaN, or truth values."""
    column = pl.Series(values)
    return (column.fill_nan(None) if column.dtype.is_float() else column).to_arrow(
        compat_level=_COMPAT
    )


def _table(kind: Kind, source: str, lines: _Ints, made: dict[str, Any]) -> pa.Table:
    columns = made | {
        "id": strings(*numbered(np.array([*f"{source}:".encode()], np.uint8), lines)),
        "source": repeated([source], len(lines)),
        "row": numbers(lines),
        "kind": repeated([kind], len(lines)),
    }
    schema = arrow_schema(kind)
    lacking = {field.name: field.type for field in schema if field.name not in columns}
    columns |= {name: pa.nulls(len(lines), dtype) for name, dtype in lacking.items()}
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
