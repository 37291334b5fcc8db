"""Prompts without answers: a text, or a list of turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.export_files.training_records import prompt_of
from siftune.curate.records.field_names import could_answer
from siftune.curate.records.layout import SYSTEMS, Layout, Side
from siftune.curate.records.turn_lists import opens_conversation
from siftune.curate.records.turns import ROLES, leftover, plain, read_prompt_turns, write_side
from siftune.curate.rows.turn_fields import has_fields, put_fields, take_fields

__all__ = ["PromptOnly"]

_BESIDE: Final = frozenset(
    {
        *("source", "dataset", "data_source", "category", "subcategory", "cluster", "topic"),
        *("task", "language", "tags"),
    }
)
"""Texts and lists beside a prompt that are surely no answer to it."""


@dataclass(frozen=True)
class PromptOnly:
    """``prompt``, a text or a list of turns, as in TRL: a conversation without its answer.

    For sampling, evaluation and reinforcement learning. Detected only where no other field of a
    record could be an answer: beside a text any text or list could, beside a list of turns other
    turns and fields named as answers. Else set the format.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout({"messages": (Side("prompt", "user"),)}, roles=ROLES)

    def matches(self, row: Row) -> bool:
        """Whether it has a prompt, and nothing that could be an answer."""
        others = {key: value for key, value in row.items() if key not in ("prompt", *SYSTEMS)}
        if type(row.get("prompt")) not in (str, list):
            return False
        if opens_conversation(row["prompt"]):
            return not any(
                opens_conversation(it) or could_answer(key, it) for key, it in others.items()
            )
        return all(
            key in _BESIDE or key.endswith("id")
            for key, value in others.items()
            if type(value) in (str, list, dict)
        )

    def read(self, row: Row) -> list[Row]:
        """The prompt of one record."""
        extra = leftover(row, frozenset({"prompt"}))
        return [{"messages": read_prompt_turns(row, "prompt", extra), "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record: a text if it is one question, else a list of turns; never with the answer."""
        turns, extra = row["messages"], dict(row.get("extra") or {})
        listed = has_fields(extra, "messages")
        fields = take_fields(extra, "messages", len(turns))
        turns = prompt_of(turns)
        put_fields(extra, "prompt", fields[: len(turns)])
        listed = listed or not plain(turns, "user")
        return {"prompt": write_side(turns, "prompt", extra, listed=listed)} | extra
