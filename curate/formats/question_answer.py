"""Questions with a checkable answer: GSM8K, SVAMP, MATH and similar sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import polars as pl

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import SOME, Kind
from siftune.curate.core.types import Row
from siftune.curate.records.field_names import could_answer, is_context, is_picture, of_role
from siftune.curate.records.final_answers import checkable
from siftune.curate.records.prompts import CHATS, QUESTIONS, read_prompt
from siftune.curate.records.turn_lists import turn_list
from siftune.curate.records.turns import leftover, plain, text_turn, write_side
from siftune.curate.rows.turn_fields import put_fields, take_fields

__all__ = ["QuestionAnswer"]

_ANSWERS: Final = (
    *("final_answer", "ground_truth", "expected_answer", "correct_answer", "gold_answer"),
    *("reference_answer", "answer", "target", "solution", "label"),
)
_ASKED: Final = (*QUESTIONS, "prompt", *CHATS)
_WORKED: Final = "solution"


@dataclass(frozen=True)
class QuestionAnswer:
    r"""A question and its reference answer: ``question``, ``problem`` …, and ``answer`` ….

    Rows are prompts. The column ``answer`` has the final answer: what follows ``####`` (GSM8K) or
    is in the last ``\boxed{}`` (MATH), else the whole value. ``answer_from`` names the field, and
    the mark after a colon: ``answer:####``. A worked solution stays in ``extra``, as ``solution``.
    SVAMP's ``Body`` comes before its ``Question``. Detected where most answers are numbers or
    formulas and no other field has to be read or chosen from. To train on the solutions instead,
    rename the fields: ``--map question=prompt --map answer=completion``.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("messages", "sharegpt", "text", "prompt_only")
    many: ClassVar[bool] = False
    facts: ClassVar[Mapping[str, pl.DataType]] = SOME["conversation"]

    def matches(self, row: Row) -> bool:
        """Whether it has a question and a checkable answer, and nothing else answers it."""
        key = _answer_key(row)
        if key is None or checkable(row[key]) is None or not _asks(row):
            return False
        rest = leftover(row, frozenset({*_ASKED, *_names(row)}))
        named = [name for name, value in rest.items() if value]
        return not (any(map(is_context, named)) or of_role("choices", named)) and not any(
            could_answer(name, value) or is_picture(name, value)
            for name, value in rest.items()
            if name.lower() not in _ANSWERS
        )

    def read(self, row: Row) -> list[Row]:
        """The prompt of one record, with its answer."""
        key = _answer_key(row)
        if key is None:
            raise BadRow("missing_field", f"no answer; expected one of {', '.join(_ANSWERS)}")
        found = checkable(row[key])
        if found is None and not _is_line(row[key]):
            raise BadRow("no_checkable_answer", f"{key!r} has no ####, \\boxed{{}} or short value")
        answer, mark = found or (row[key].strip(), "")
        record = {_names(row).get(name, name): value for name, value in row.items() if name != key}
        extra = dict(record)
        messages = _question(record, extra)
        if mark:
            extra[_WORKED] = row[key]
        source = f"{key}:{mark}" if mark else key
        return [{"messages": messages, "answer": answer, "answer_from": source, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record; the answer takes the field it came from, with its worked solution."""
        extra, turns = dict(row.get("extra") or {}), row["messages"]
        if row.get("answer") is None or not turns or turns[-1]["role"] == "assistant":
            raise BadRow("no_place", "a question_answer record is a prompt with a checkable answer")
        key, _, mark = (row.get("answer_from") or "answer").partition(":")
        put_fields(extra, "prompt", take_fields(extra, "messages", len(turns)))
        contents = plain(turns, "user")
        listed = contents is None or "prompt.fields" in extra
        asked = {
            "messages" if listed else "question": write_side(turns, "prompt", extra, listed=listed)
        }
        value = extra.pop(_WORKED, row["answer"]) if mark else row["answer"]
        return asked | {key: value} | extra


def _names(row: Row) -> dict[str, str]:
    """The capitalised keys of a question, and our names of them."""
    return {key: key.lower() for key in row if key != key.lower() and key.lower() in QUESTIONS}


def _answer_key(row: Row) -> str | None:
    there = {key: value for key, value in row.items() if value not in (None, "")}
    named = {key.lower(): key for key in reversed(there) if _is_value(key, there[key])}
    return next((named[name] for name in _ANSWERS if name in named), None)


def _is_value(key: str, value: Any) -> bool:
    """Whether a field may hold an answer; a label that is a number is a class."""
    return key.lower() != "label" or type(value) is str


def _asks(row: Row) -> bool:
    """Whether a field of the record is its question."""
    for key in (*CHATS, "prompt"):
        turns = turn_list(row.get(key))
        if type(turns) is list and turns and type(turns[-1]) is dict:
            return str(turns[-1].get("role")).lower() in _ASKING
    keys = {*QUESTIONS, *_names(row), "prompt"}
    return any(type(row.get(key)) is str and row[key].strip() for key in keys)


_ASKING: Final = frozenset({"user", "human", "prompter"})


def _question(record: Row, extra: Row) -> list[Row]:
    turns = read_prompt(record, extra)
    if not turns:
        raise BadRow(
            "missing_field", "no question; expected one of prompt, " + ", ".join(QUESTIONS)
        )
    put_fields(extra, "messages", extra.pop("prompt.fields", ()))
    body = record.get("Body")
    if type(body) is str and plain(turns, "user"):
        extra.pop("Body")
        return [text_turn("user", f"{body.strip()} {turns[0]['content']}")]
    return turns


def _is_line(value: Any) -> bool:
    return type(value) is str and "\n" not in value.strip()
