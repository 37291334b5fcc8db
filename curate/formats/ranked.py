"""Ranked lists: a prompt, several answers to it, and a score of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.question_parts import refuse_parts
from siftune.curate.records.turns import (
    leftover,
    number_field,
    plain,
    read_prompt_turns,
    read_side,
    write_side,
)
from siftune.curate.rows.turn_fields import has_fields

__all__ = ["Ranked"]

_USED = frozenset({"prompt", "completions", "scores"})


@dataclass(frozen=True)
class Ranked:
    """``prompt``, ``completions`` and ``scores``: texts or lists of turns, and a number for each.

    A higher score is better; null is an answer that has none. A rank has to be negated.
    """

    kind: ClassVar[Kind] = "ranked"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has a prompt, a list of texts or of lists of turns, and a list of scores."""
        answers = row.get("completions")
        if "prompt" not in row or type(answers) is not list or type(row.get("scores")) is not list:
            return False
        return bool(answers) and type(answers[0]) in (str, list)

    def read(self, row: Row) -> list[Row]:
        """The ranked list of one record."""
        extra = leftover(row, _USED)
        prompt = read_prompt_turns(row, "prompt", extra)
        answers = _each(row, "completions")
        if not answers:
            raise BadRow("no_answer", "'completions' has no answer")
        scores = _each(row, "scores")
        if len(scores) != len(answers):
            what = f"{len(answers)} completions and {len(scores)} scores"
            raise BadRow("wrong_type", f"{what}; expected one for each")
        completions = [read_side(answers, name, "assistant", extra) for name in answers]
        found = [number_field(scores, name) for name in scores]
        refuse_parts(row, extra, prompt)
        return [{"prompt": prompt, "completions": completions, "scores": found, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record: texts if prompt and answers are one turn of text each, else lists."""
        extra, answers = dict(row.get("extra") or {}), row["completions"]
        if not answers or not row["prompt"] or not all(answers):
            raise BadRow("no_place", "the prompt or a completion has no turn")
        texts = all(plain(turns, "assistant") for turns in answers)
        columns = ["prompt", *(f"completions[{at}]" for at in range(len(answers)))]
        listed = not (texts and plain(row["prompt"], "user")) or has_fields(extra, *columns)
        written = [
            write_side(turns, f"completions[{at}]", extra, listed=listed)
            for at, turns in enumerate(answers)
        ]
        prompt = write_side(row["prompt"], "prompt", extra, listed=listed)
        scores = row.get("scores") or [None] * len(answers)
        return {"prompt": prompt, "completions": written, "scores": scores} | extra


def _each(row: Row, key: str) -> Row:
    """The items of a list under keys of their positions, as ``completions[0]``."""
    value = row.get(key)
    if value is None:
        raise BadRow("missing_field", f"{key!r} is missing or null; expected a list")
    if type(value) is not list:
        raise BadRow("wrong_type", f"{key!r} is not a list")
    return {f"{key}[{at}]": item for at, item in enumerate(value)}
