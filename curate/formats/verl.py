"""verl: a prompt and the ground truth of a rule-based reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import SOME, Kind
from siftune.curate.core.types import Row
from siftune.curate.records.final_answers import checkable
from siftune.curate.records.turns import leftover, read_side, write_turns
from siftune.curate.rows.turn_fields import put_fields, take_fields

__all__ = ["Verl"]

_REWARD, _TRUTH = "reward_model", "ground_truth"
_FROM = f"{_REWARD}.{_TRUTH}"


@dataclass(frozen=True)
class Verl:
    """``prompt`` (turns or a text) and ``reward_model: {"style", "ground_truth"}``.

    Rows are prompts. A ``ground_truth`` that is a text or a number is the column ``answer``, and
    ``answer_from`` is then ``reward_model.ground_truth``. All other fields (``data_source``,
    ``ability``, ``extra_info``) stay in ``extra``, the style as ``reward_model.fields``. The layout
    of verl's data, by its documentation.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("prompt_only", "question_answer", "text")
    many: ClassVar[bool] = False
    facts: ClassVar[Mapping[str, pl.DataType]] = SOME["conversation"]

    def matches(self, row: Row) -> bool:
        """Whether it has a prompt and a reward with a ground truth."""
        reward = row.get(_REWARD)
        asked = type(row.get("prompt")) in (str, list)
        return asked and type(reward) is dict and _TRUTH in reward

    def read(self, row: Row) -> list[Row]:
        """The prompt of one record, with its ground truth."""
        reward = row.get(_REWARD)
        if type(reward) is not dict:
            reason = "missing_field" if reward is None else "wrong_type"
            raise BadRow(reason, f"{_REWARD!r} is not an object with a ground truth")
        extra = leftover(row, frozenset({"prompt", _REWARD}))
        turns = read_side(row, "prompt", "user", extra)
        answer = _answer(reward.get(_TRUTH))
        rest = reward if answer is None else leftover(reward, frozenset({_TRUTH}))
        if rest:
            extra[f"{_REWARD}.fields"] = rest
        source = None if answer is None else _FROM
        return [{"messages": turns, "answer": answer, "answer_from": source, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record; a conversation that ends with an answer has no place."""
        extra, turns = dict(row.get("extra") or {}), row["messages"]
        if not turns or turns[-1]["role"] == "assistant":
            raise BadRow("no_place", "a verl prompt does not end with an answer")
        put_fields(extra, "prompt", take_fields(extra, "messages", len(turns)))
        truth = {} if row.get("answer") is None else {_TRUTH: row["answer"]}
        reward = {"style": "rule", _TRUTH: None} | extra.pop(f"{_REWARD}.fields", {}) | truth
        return {"prompt": write_turns(turns, "prompt", extra), _REWARD: reward} | extra


def _answer(value: Any) -> str | None:
    """A ground truth as a text; of lists and objects, which only their own reward reads, None."""
    found = checkable(value) if type(value) in (int, float) else None
    return value if type(value) is str else found and found[0]
