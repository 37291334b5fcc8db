"""Arena battles: conversations of two models with one user, and the winner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.json_lines import parse
from siftune.curate.records.judgements import judged_pair
from siftune.curate.records.turns import (
    check_sides,
    common_prefix,
    conversation,
    number_field,
    read_turns,
    text_field,
    write_turns,
)
from siftune.curate.rows.turn_fields import put_fields, take_fields

__all__ = ["ArenaBattles"]

_TALKS, _SAID = ("conversation_a", "conversation_b"), ("response_a", "response_b")
_WINNERS: Final = ("winner_model_a", "winner_model_b", "winner_tie")
_USED = frozenset({*_TALKS, "winner"})
_USED_TEXTS = frozenset({"prompt", *_SAID, "winner", *_WINNERS})
_LIST: Final = re.compile(r'\[\s*("|null\b)[^\0]*\]\s*\Z')
_PLACES: Final = {"a": 0, "b": 1, "model_a": 0, "model_b": 1}


@dataclass(frozen=True)
class ArenaBattles:
    """``conversation_a``, ``conversation_b`` and ``winner``: model_a, model_b or a tie.

    Also ``prompt``, ``response_a`` and ``response_b``, each a text or the JSON of a list of texts,
    with ``winner`` or ``winner_model_a``, ``winner_model_b`` and ``winner_tie``. A tie prefers
    nothing: `tie`. The prompt is the common prefix of both conversations; ``chosen_response`` in
    ``extra`` is 1 for a, 2 for b. Zheng et al. 2023, arXiv:2306.05685; the data sets' cards.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has two conversations or responses, and a winner."""
        won = type(row.get("winner")) is str or row.keys() >= {*_WINNERS[:2]}
        return won and (row.keys() >= {*_TALKS} or row.keys() >= {"prompt", *_SAID})

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        better = _winner(row)
        fields: Row = {}
        listed = _TALKS[0] in row
        talks = [read_turns(row, key, fields) for key in _TALKS] if listed else _of_texts(row)
        check_sides(talks[better], talks[1 - better])
        shared = common_prefix(*talks)
        answers = [turns[shared:] for turns in talks]
        used = _USED if listed else _USED_TEXTS
        made = judged_pair(talks[0][:shared], answers, better, row, used)
        of_turns = [fields.get(f"{key}.fields", []) for key in _TALKS]
        put_fields(made["extra"], "prompt", of_turns[better][:shared])
        put_fields(made["extra"], "chosen", of_turns[better][shared:])
        put_fields(made["extra"], "rejected", of_turns[1 - better][shared:])
        return [made]

    def write(self, row: Row) -> Row:
        """The record with two conversations; the chosen one takes the place it had, a if none."""
        extra = dict(row.get("extra") or {})
        if not row["prompt"]:
            raise BadRow("no_place", "an arena battle begins with a prompt")
        second = extra.pop("chosen_response", 1) == 2
        asked = take_fields(extra, "prompt", len(row["prompt"]))
        talks = []
        for side in ("chosen", "rejected"):
            fields = [*asked, *take_fields(extra, side, len(row[side]))]
            turns = [*row["prompt"], *row[side]]
            talks.append(write_turns(turns, "messages", {"messages.fields": fields}))
        written = dict(zip(_TALKS, reversed(talks) if second else talks, strict=True))
        return written | {"winner": "model_b" if second else "model_a"} | extra


def _winner(row: Row) -> int:
    """The position of the winner, 0 or 1."""
    if type(row.get("winner")) is not str:
        won = [number_field(row, key) for key in _WINNERS]
        if won[:2] not in ([1, 0], [0, 1]):
            raise BadRow("tie", "neither model_a nor model_b is the winner")
        return int(won[1] == 1)
    winner = text_field(row, "winner").strip().lower()
    if winner not in _PLACES:
        reason = "tie" if winner.startswith("tie") or "both" in winner else "wrong_type"
        raise BadRow(reason, f"'winner' is {winner[:40]!r}; expected model_a or model_b")
    return _PLACES[winner]


def _of_texts(row: Row) -> list[list[Row]]:
    """The two conversations of the prompts and the responses of a record."""
    asked = _texts(row, "prompt")
    talks = []
    for key in _SAID:
        responses = _texts(row, key)
        if len(responses) != len(asked):
            what = f"{key!r} has {len(responses)} answers to {len(asked)} prompts"
            raise BadRow("wrong_type", what)
        pairs = zip(asked, responses, strict=True)
        talks.append([turn for pair in pairs for turn in conversation(*pair)])
    return talks


def _texts(row: Row, key: str) -> Sequence[str]:
    """The texts of a field: one, a list, or the JSON of a list, which may lack an answer."""
    value: Any = row.get(key)
    if type(value) is str and _LIST.match(value):
        value = parse(b'{"texts":%b}' % value.encode()).get("texts")
    if type(value) is not list:
        return [text_field(row, key)]
    if None in value or not value:
        raise BadRow("no_answer", f"{key!r} lacks an answer: one of its texts is null")
    return [text_field({f"{key}[{at}]": text}, f"{key}[{at}]") for at, text in enumerate(value)]
