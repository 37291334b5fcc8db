r"""HH-RLHF: chosen and rejected dialogues, each one text with Human: and Assistant: marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.layout import Layout, Side
from siftune.curate.records.turns import (
    check_sides,
    common_prefix,
    has_user_mark,
    leftover,
    read_dialogue,
    text_field,
    write_dialogue,
)

__all__ = ["HHRLHF"]

_SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class HHRLHF:
    """``chosen`` and ``rejected`` texts; the prompt is their common turns.

    Both must end with an assistant's turn, and differ at one. Bai et al. 2022, arXiv:2204.05862.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {"prompt": ()} | {side: (Side(side, form="dialogue"),) for side in _SIDES},
        differ=_SIDES,
        shared="prompt",
    )

    def matches(self, row: Row) -> bool:
        """Whether both sides begin with a mark, and no prompt is given beside them."""
        return "prompt" not in row and all(has_user_mark(row.get(side)) for side in _SIDES)

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        chosen, rejected = (read_dialogue(text_field(row, side), side) for side in _SIDES)
        if chosen == rejected:
            raise BadRow("identical_pair", "chosen and rejected are the same")
        check_sides(chosen, rejected)
        shared = common_prefix(chosen, rejected)
        made = {
            "prompt": chosen[:shared],
            "chosen": chosen[shared:],
            "rejected": rejected[shared:],
        }
        return [made | {"extra": leftover(row, frozenset(_SIDES))}]

    def write(self, row: Row) -> Row:
        """The record; only user and assistant turns of text have a place."""
        if common_prefix(row["chosen"], row["rejected"]):
            raise BadRow("no_place", "what the sides share would be read as their prompt")
        sides = {side: write_dialogue([*row["prompt"], *row[side]]) for side in _SIDES}
        return sides | dict(row.get("extra") or {})
