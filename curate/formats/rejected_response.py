"""ms-swift pairs: a conversation that ends with the chosen answer, and the rejected answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.prompts import chat_key, no_other_prompt, read_prompt
from siftune.curate.records.turns import (
    check_sides,
    common_prefix,
    leftover,
    plain,
    read_side,
    write_turns,
)
from siftune.curate.rows.turn_fields import has_fields, put_fields

__all__ = ["RejectedResponse"]

_REJECTED = ("rejected_response", "rejected_messages")
_SIDES = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class RejectedResponse:
    """``messages``, whose last turn is the chosen answer, and the rejected answer.

    That is ``rejected_response`` (a text or turns, which replace the last turn) or
    ``rejected_messages`` (a whole conversation). Instead of ``messages`` there may be ``query`` and
    ``response``, with ``history``. The layout of ms-swift's DPO data, by its documentation.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("messages", "sharegpt", "text")
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has a chosen answer and a rejected one."""
        chosen = chat_key(row) is not None or "response" in row
        return chosen and bool(_given(row))

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        extra = leftover(row, frozenset(_REJECTED))
        given = _given(row)
        if len(given) != 1:
            raise BadRow("missing_field", f"expected one of {' and '.join(_REJECTED)}")
        key = given[0]
        rejected = read_side(row, key, "assistant", extra)
        put_fields(extra, "rejected", extra.pop(f"{key}.fields", ()))
        prompt, chosen = _chosen(row, extra)
        if not prompt:
            no_other_prompt(row, extra)
        if rejected[0]["role"] in ("system", "user"):
            prompt, chosen, rejected = _parted([*prompt, *chosen], rejected, extra)
        check_sides(chosen, rejected)
        if chosen == rejected:
            raise BadRow("identical_pair", "chosen and rejected are the same")
        return [{"prompt": prompt, "chosen": chosen, "rejected": rejected, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record; a chosen side of several turns has no place."""
        extra = dict(row.get("extra") or {})
        if not row["prompt"] or len(row["chosen"]) != 1:
            raise BadRow("no_place", "the chosen side is the last turn of a conversation")
        listed = not plain(row["rejected"], "assistant") or has_fields(extra, "rejected")
        prompt, chosen, rejected = (write_turns(row[side], side, extra) for side in _SIDES)
        written = rejected if listed else rejected[0]["content"]
        return {"messages": [*prompt, *chosen], "rejected_response": written} | extra


def _given(row: Row) -> list[str]:
    return [key for key in _REJECTED if row.get(key) not in (None, [])]


def _chosen(row: Row, extra: Row) -> tuple[list[Row], list[Row]]:
    """The turns of the prompt and the chosen answer."""
    key = chat_key(row)
    if key is None:
        chosen = read_side(row, "response", "assistant", extra)
        extra.pop("response")
        return read_prompt(row, extra), chosen
    turns = read_side(row, key, "user", extra)
    extra.pop(key)
    fields = extra.pop(f"{key}.fields", [])
    put_fields(extra, "prompt", fields[:-1])
    put_fields(extra, "chosen", fields[-1:])
    if len(turns) == 1:
        return read_prompt(leftover(row, frozenset({key})), extra), turns
    return turns[:-1], turns[-1:]


def _parted(
    chosen: list[Row], rejected: list[Row], extra: Row
) -> tuple[list[Row], list[Row], list[Row]]:
    """The common prefix of two conversations, and the answer of each."""
    check_sides(chosen, rejected)
    shared = common_prefix(chosen, rejected)
    fields = [*extra.pop("prompt.fields", []), *extra.pop("chosen.fields", [])]
    put_fields(extra, "prompt", fields[:shared])
    put_fields(extra, "chosen", fields[shared:])
    put_fields(extra, "rejected", extra.pop("rejected.fields", [])[shared:])
    return chosen[:shared], chosen[shared:], rejected[shared:]
