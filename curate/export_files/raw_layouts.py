"""Raw layouts of `curate.formats` as exports: Alpaca, ShareGPT, HH-RLHF and the like."""

from __future__ import annotations

from typing import Final

from siftune.curate.chat.template_turns import turn_keys
from siftune.curate.core.errors import BadRow
from siftune.curate.core.registry import build, find
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Format, Row
from siftune.curate.records.ranked_pairs import pairs_of
from siftune.curate.rows.turn_fields import put_fields

__all__ = ["fits_raw", "write_raw"]

_GROUP: Final = "curate.formats"
_GOOD_SIDES: Final = ("preference", "unpaired", "ranked")
_TOOLS: Final = ("tools", "functions")


def fits_raw(name: str, kind: Kind) -> bool:
    """Whether rows of ``kind`` can be written in the raw format ``name``."""
    target = find(_GROUP, name).kind
    others = {"conversation": _GOOD_SIDES, "preference": ("ranked",)}.get(target, ())
    return kind == target or kind in others


def write_raw(name: str, row: Row) -> Row:
    """The record of one of our rows in a raw format, with the fields of the format alone.

    Fields of ``extra`` are written only where the format gives them a meaning, such as the
    ``input`` of Alpaca. Of a pair, a conversation is the chosen side.

    Raises:
        BadRow: the format has no place for what the row holds.
    """
    layout: Format = build(_GROUP, name, {})
    own = _as_kind(row, layout.kind)
    bare = own | {"extra": {key: own["extra"][key] for key in own["extra"] if _of_turns(key)}}
    named = layout.write(bare)
    record = layout.write(own)
    _refuse_lost_fields(name, record)
    tools = {key: own["extra"][key] for key in _TOOLS if own["extra"].get(key)}
    if tools and not getattr(layout, "tools", False):
        raise BadRow("no_place", f"{name} has no place for the tools of a row")
    return {key: value for key, value in record.items() if key in named} | tools


def _refuse_lost_fields(name: str, record: Row) -> None:
    """Refuse reasoning, and turns excluded from training, that a format did not write."""
    for key in filter(_of_turns, record):
        turns = [{"role": "assistant"}] * len(record[key])
        for lost in turn_keys(record, key.removesuffix(".fields"), turns):
            if lost.get("weight", 1) != 1 or "reasoning_content" in lost:
                raise BadRow(
                    "no_place", f"{name} has no place for the {next(iter(lost))} of a turn"
                )


def _of_turns(key: str) -> bool:
    return key.endswith(".fields")


def _as_kind(row: Row, kind: Kind) -> Row:
    """The row as one of ``kind``."""
    if row["kind"] == kind:
        return row
    pair = next(pairs_of(row, "best_worst")) if row["kind"] == "ranked" else row
    return pair if kind == "preference" else _good_side(pair)


def _good_side(row: Row) -> Row:
    """The conversation of the prompt and its good answer."""
    if row["kind"] == "unpaired" and not row["label"]:
        raise BadRow("bad_answer", "the answer is labelled false")
    side = "completion" if row["kind"] == "unpaired" else "chosen"
    extra = dict(row["extra"])
    fields = [
        (extra.pop(f"{key}.fields", None) or [{}] * len(row[key]))[: len(row[key])]
        for key in ("prompt", side)
    ]
    extra.pop("rejected.fields", None)
    put_fields(extra, "messages", [*fields[0], *fields[1]])
    return row | {"messages": [*row["prompt"], *row[side]], "extra": extra}
