"""Arena prompts, as in Arena-Hard: benchmark questions for chat models, under turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.turns import leftover, plain, text_field, text_turn

__all__ = ["Arena"]


@dataclass(frozen=True)
class Arena:
    """``turns: [{"content"}]``, or texts: a prompt to be answered.

    Category, cluster and ``question_id`` stay in ``extra``. In a record of several turns (MT-Bench)
    the later ones follow answers that it does not have: `several_prompts`. Li et al. 2024,
    arXiv:2406.11939. Newer sets have a ``prompt`` and are `prompt_only`.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("messages", "text")
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has a list of questions without roles; texts need the benchmark's id."""
        turns = row.get("turns")
        if type(turns) is not list or not turns or not all(map(_is_question, turns)):
            return False
        return type(turns[0]) is dict or "question_id" in row

    def read(self, row: Row) -> list[Row]:
        """The prompt of one record."""
        turns = row.get("turns")
        if type(turns) is not list or not turns or not all(map(_is_question, turns)):
            reason = "missing_field" if turns is None else "wrong_type"
            raise BadRow(reason, "'turns' is not a list of questions")
        if len(turns) > 1:
            detail = (
                f"'turns' holds {len(turns)} questions, to be asked after one another's answers"
            )
            raise BadRow("several_prompts", detail)
        [turn] = turns
        text = turn if type(turn) is str else text_field(turn, "content")
        extra = leftover(row, frozenset({"turns"}))
        return [{"messages": [text_turn("user", text)], "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record; more than a question has no place."""
        contents = plain(row["messages"], "user")
        if contents is None:
            raise BadRow("no_place", "an arena prompt is one question of text")
        return {"turns": [{"content": contents[0]}]} | dict(row.get("extra") or {})


def _is_question(turn: Any) -> bool:
    return type(turn) is str or (type(turn) is dict and turn.keys() == {"content"})
