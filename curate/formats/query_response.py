"""Question and response under other usual names, as in ms-swift, Dolly and OpenOrca."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.question_parts import refuse_parts
from siftune.curate.records.turns import conversation, leftover, plain, read_turns, text_field
from siftune.curate.rows.turn_fields import has_fields

__all__ = ["QueryResponse"]

_PAIRS: Final = {
    ("query", "response"),
    ("prompt", "response"),
    ("question", "response"),
    ("instruction", "response"),
    ("input", "output"),
    ("inputs", "targets"),
    ("human", "assistant"),
    ("user", "assistant"),
}
_QUESTIONS: Final = frozenset(
    {"query", "question", "prompt", "instruction", "input", "inputs", "human", "user", "problem"}
)
_ANSWERS: Final = frozenset(
    {"response", "answer", "answers", "output", "outputs", "completion", "assistant"}
    | {"target", "targets", "solution"}
)
_BESIDE: Final = ("input", "context")
"""Texts that belong to an ``instruction``."""
_OTHER: Final = frozenset(
    {"label", "labels", "chosen", "rejected", "rejected_response", "rejected_messages", "responses"}
    | {"messages", "conversations", "conversation", "completions", "preference", "instances"}
)
_BETWEEN: Final = "\n\n"


@dataclass(frozen=True)
class QueryResponse:
    """``query`` and ``response``, and where given ``history`` (pairs of texts, or turns).

    Also ``prompt``, ``question`` or ``instruction`` with ``response`` (of an instruction the
    ``input`` or ``context`` follows after a blank line), ``input`` with ``output``, ``inputs`` with
    ``targets``, ``human`` or ``user`` with ``assistant``. It matches only where a record has one
    question and one answer, and no ``context`` of unknown use.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has one question and one answer, both texts."""
        return not row.keys() & _OTHER and _keys(row) is not None

    def read(self, row: Row) -> list[Row]:
        """The conversation of one record."""
        keys = _keys(row)
        if keys is None:
            raise BadRow("missing_field", "expected one question and one answer, both texts")
        question, answer = text_field(row, keys[0]), text_field(row, keys[1])
        beside = _beside(row, keys[0])
        extra = leftover(row, frozenset({*keys, *beside, "history"}))
        question = _BETWEEN.join([question, *(row[key] for key in beside if row[key])])
        turns = conversation(question, answer)
        refuse_parts(row, extra, turns, keys[0], {keys[1]: "output"})
        earlier = read_turns(row, "history", extra, texts=True) if row.get("history") else []
        if "history.fields" in extra:
            extra["messages.fields"] = [*extra.pop("history.fields"), {}, {}]
        return [{"messages": [*earlier, *turns], "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record of ms-swift; only text in system, user, assistant … order has a place."""
        turns, extra = list(row["messages"]), dict(row.get("extra") or {})
        written: Row = {}
        if turns and turns[0]["role"] == "system" and turns[0]["content"]:
            written["system"] = turns.pop(0)["content"]
        contents = plain(turns, *["user", "assistant"] * (len(turns) // 2))
        if not contents or has_fields(extra, "messages"):
            raise BadRow(
                "no_place", "query_response takes user and assistant turns of text, in turn"
            )
        *history, query, response = contents
        if history:
            written["history"] = [list(pair) for pair in zip(*[iter(history)] * 2, strict=True)]
        return {"query": query, "response": response} | written | extra


def _keys(row: Row) -> tuple[str, str] | None:
    """The keys of the question and of the answer, if there is one of each and both are texts."""
    there = [key for key, value in row.items() if value is not None]
    answers = [key for key in there if key in _ANSWERS]
    questions = [key for key in there if key in _QUESTIONS]
    if "instruction" in questions and "input" in questions:
        questions.remove("input")
    keys = (*questions, *answers)
    if keys not in _PAIRS or not all(type(row[key]) is str for key in keys):
        return None
    if row.get("context") and keys[0] != "instruction":
        return None
    return keys


def _beside(row: Row, question: str) -> list[str]:
    """The keys of texts that follow the question."""
    if question != "instruction":
        return []
    return [key for key in _BESIDE if type(row.get(key)) is str]
