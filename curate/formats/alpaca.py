"""Alpaca: an instruction, perhaps an input, and the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.layout import Layout, TurnField
from siftune.curate.records.question_parts import PART_KEYS, refuse_parts
from siftune.curate.records.turns import conversation, leftover, plain, text_field, text_turn

__all__ = ["Alpaca"]

_USED = frozenset({"instruction", "output", "system", "history"})
_READ = frozenset({"input"})
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class Alpaca:
    """``instruction``, ``output`` and, where given, ``input``, ``system``, ``history`` of pairs.

    The question is the instruction and, after a blank line, the input; an input that is not empty
    stays in ``extra``, too, so that `write` can separate them. An empty ``system`` is no turn.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("text",)  # tatsu-lab/alpaca has the whole prompt as `text`
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {
            "messages": (
                TurnField("user", "instruction", beside="input"),
                TurnField("assistant", "output"),
            )
        },
        unused=("system", "history"),
        doubted=PART_KEYS,
    )

    def matches(self, row: Row) -> bool:
        """Whether it has an instruction and an output."""
        return "instruction" in row and "output" in row

    def read(self, row: Row) -> list[Row]:
        """The conversation of one record."""
        instruction, output = text_field(row, "instruction"), text_field(row, "output")
        extra = leftover(row, _USED)
        if extra.get("input"):
            instruction += _BETWEEN + text_field(row, "input")
        else:
            extra.pop("input", None)
        turns = conversation(instruction, output)
        refuse_parts(row, leftover(extra, _READ), turns, "instruction")
        if row.get("history"):
            turns = [*_read_history(row["history"]), *turns]
        if row.get("system"):
            turns = [text_turn("system", text_field(row, "system")), *turns]
        return [{"messages": turns, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record; only text in system, user, assistant, user, assistant … order has a place."""
        turns, extra = list(row["messages"]), dict(row.get("extra") or {})
        written: Row = {}
        if turns and turns[0]["role"] == "system":
            written["system"] = _system(turns.pop(0))
        contents = plain(turns, *["user", "assistant"] * (len(turns) // 2))
        if not contents:
            raise BadRow("no_place", "alpaca takes user and assistant turns of text, in turn")
        *history, instruction, output = contents
        given = extra.pop("input", "")
        if given and instruction.endswith(_BETWEEN + given):
            instruction = instruction[: -len(_BETWEEN + given)]
        else:
            given = ""
        if history:
            written["history"] = [list(pair) for pair in zip(*[iter(history)] * 2, strict=True)]
        return {"instruction": instruction, "input": given, "output": output} | written | extra


def _read_history(value: Any) -> list[Row]:
    wrong = BadRow("wrong_type", "'history' is not a list of pairs of texts")
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise wrong
    turns = []
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or {type(text) for text in pair} != {str}:
            raise wrong
        turns += conversation(*pair)
    return turns


def _system(turn: Row) -> str:
    contents = plain([turn], "system")
    if not contents or not contents[0]:
        raise BadRow("no_place", "alpaca has no place for an empty system turn")
    return contents[0]
