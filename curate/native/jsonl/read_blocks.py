"""Read blocks of JSON lines into columns; lines that are not plain are returned as bytes."""

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
from siftune.curate.native.jsonl.known_keys import fields_of, keys_of
from siftune.curate.native.jsonl.line import BLANK, ODD, PLAIN
from siftune.curate.native.jsonl.pairs import Judged, pairs
from siftune.curate.native.jsonl.scan import Scanned, scan
from siftune.curate.native.jsonl.spans import numbered
from siftune.curate.native.jsonl.tokens import LIST, STRING
from siftune.curate.native.jsonl.turn_columns import Lists, joined_lists, numbers, repeated, strings
from siftune.curate.records import json_lines
from siftune.curate.records.field_names import PICTURE_KEYS
from siftune.curate.records.json_lines import too_long
from siftune.curate.records.layout import Layout, TurnField
from siftune.curate.rows.convert import arrow_schema

__all__ = ["BlockRows", "read_block"]

_COMPAT: Final = pl.CompatLevel.oldest()
_Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BlockRows:
    """The rows of the plain lines of a block, and number and bytes (or error) of its odd lines.

    ``lines`` are the line numbers of ``table``, ``sizes`` the bytes of each row.
    """

    table: pa.Table
    lines: _Ints
    sizes: _Ints
    odd: list[tuple[int, bytes | BadRow]]


def read_block(
    block: Block,
    kind: Kind,
    layout: Layout,
    source: str,
    limit: int | None,
    mapping: Mapping[str, str],
) -> BlockRows:
    """Read the plain lines of a block into a table.

    ``limit`` is the most records to read, ``mapping`` has new names of raw keys, all of them known
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
    _mark_unclear(scanned, fields, layout, judged)
    extra = Extra(scanned)
    _mark_unclear_extra(scanned, fields, layout, extra)
    if judged is not None:
        extra.add("chosen_response", judged.second)
        facts |= judged.facts
    lists = _lists(scanned, fields, layout, judged)
    rows = np.flatnonzero(scanned.status >= PLAIN)
    content = {name: joined_lists(parts) for name, parts in lists.items()}
    for name, turns in layout.columns.items():
        if name not in lists:
            content[name] = fields.single_turns(
                [turn for turn in turns if isinstance(turn, TurnField)], rows
            )
    content |= {name: _arrow(fields.booleans(name, rows)) for name in layout.truths}
    digest, sizes = digests(kind, content)
    others, extra_sizes = extra.of(rows)
    columns = {name: _arrow(column[rows]) for name, column in facts.items()}
    columns |= content | {"digest": digest, "extra": others}
    table = _table(kind, source, rows + block.first, columns)
    return BlockRows(table, rows + block.first, sizes + extra_sizes, _odd(block, scanned))


def _margins(facts: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The given margins; where there is none, the chosen score minus the rejected score."""
    with np.errstate(over="ignore", invalid="ignore"):
        differences = facts["score_chosen"] - facts["score_rejected"]
    differences[np.isinf(differences)] = np.nan
    return np.where(np.isnan(facts["margin"]), differences, facts["margin"])


def _is_utf8(block: Block) -> bool:
    try:
        strings(block.data, np.array([0, block.size])).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _shorten(scanned: Scanned, limit: int | None) -> None:
    """Skip all but the first ``limit`` records; mark lines that are too long as odd."""
    status = scanned.status
    if limit is not None:
        status[np.cumsum(status != BLANK) > limit] = BLANK
    status[(scanned.ends - scanned.starts >= json_lines.MAX_LINE) & (status != BLANK)] = ODD


def _mark_unclear(scanned: Scanned, fields: Fields, layout: Layout, judged: Judged | None) -> None:
    """Mark lines as odd that lack a text, turns or a boolean, or have them in two forms."""
    needed = [each.key for each in layout.turn_fields()] + [*layout.truths]
    needed += [each.key for each in layout.sides() if each.key != layout.shared]
    unclear = np.zeros(len(scanned.status), np.bool_) if judged is None else judged.unclear.copy()
    for name in needed:
        unclear |= fields.kinds(name) < STRING
    if layout.differ and layout.shared and layout.columns[layout.shared]:
        one, other = map(fields.kinds, layout.differ)
        unclear |= (one != other) | ((one != LIST) & (fields.kinds(layout.shared) < STRING))
    for side in layout.sides():
        if side.form == "either":
            unclear |= fields.unclear(side.key)
    for name in layout.numbers:
        unclear |= np.isinf(fields.numbers(name))
    scanned.status[unclear & (scanned.status >= PLAIN)] = ODD


def _mark_unclear_extra(scanned: Scanned, fields: Fields, layout: Layout, extra: Extra) -> None:
    """Mark lines as odd that have a field in ``extra`` that may belong to the turns."""
    rows = np.flatnonzero(scanned.status >= PLAIN)
    texts = pl.Series(pl.from_arrow(extra.of(rows)[0]))
    if texts.null_count() == len(texts):
        return
    kept = [
        each.beside for each in layout.turn_fields() if each.beside
    ]  # these are in `extra` as well
    unclear = _has_keys(texts, layout.doubted, kept)
    listed = [side for side in layout.sides() if side.form == "list"]
    if listed and unclear.any():
        lists = fields.lists(listed[0].key, rows)
        unclear &= ~(lists.answered() & lists.asking())
    scanned.status[rows[unclear | _has_keys(texts, PICTURE_KEYS)]] = ODD


def _has_keys(texts: pl.Series, pattern: str, kept: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
    """Mask of the JSON texts with keys that match a pattern, apart from the keys ``kept``."""
    if not pattern:
        return np.zeros(len(texts), np.bool_)
    if not kept:
        return texts.str.contains(pattern).fill_null(False).to_numpy()
    count = texts.str.count_matches(pattern).cast(pl.Int64)
    expected = sum(
        texts.str.count_matches(f'"{key}":', literal=True).cast(pl.Int64) for key in kept
    )
    return (count > expected).fill_null(False).to_numpy()


def _lists(
    scanned: Scanned, fields: Fields, layout: Layout, judged: Judged | None
) -> dict[str, list[Lists]]:
    """The parts of each column of turns; lines with unclear pairs become odd."""
    rows = np.flatnonzero(scanned.status >= PLAIN)
    if layout.differ is None:
        return {
            name: [fields.lists(side.key, rows) for side in sides]
            for name, sides in layout.columns.items()
            if not isinstance(sides[0], TurnField)
        }
    columns, kept = pairs(fields, rows, layout, judged)
    scanned.status[np.delete(rows, kept)] = ODD
    return {name: [lists] for name, lists in columns.items()}


def _odd(block: Block, scanned: Scanned) -> list[tuple[int, bytes | BadRow]]:
    """Number and bytes of each odd line, with its line feed if it has one."""
    lines: list[tuple[int, bytes | BadRow]] = []
    for at in np.flatnonzero(scanned.status == ODD).tolist():
        feed = not (block.cut and at == len(scanned.status) - 1)
        text = block.data[scanned.starts[at] : scanned.ends[at] + feed].tobytes()
        long = len(text) + (not feed) > json_lines.MAX_LINE
        lines.append((block.first + at, too_long(len(text)) if long else text))
    return lines


def _arrow(values: npt.NDArray[Any]) -> Any:
    """An Arrow column of numbers, null where they are NaN, or of booleans."""
    column = pl.Series(values)
    return (column.fill_nan(None) if column.dtype.is_float() else column).to_arrow(
        compat_level=_COMPAT
    )


def _table(kind: Kind, source: str, lines: _Ints, given: dict[str, Any]) -> pa.Table:
    columns = given | {
        "id": strings(*numbered(np.array([*f"{source}:".encode()], np.uint8), lines)),
        "source": repeated([source], len(lines)),
        "row": numbers(lines),
        "kind": repeated([kind], len(lines)),
    }
    schema = arrow_schema(kind)
    missing = {field.name: field.type for field in schema if field.name not in columns}
    columns |= {name: pa.nulls(len(lines), dtype) for name, dtype in missing.items()}
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
