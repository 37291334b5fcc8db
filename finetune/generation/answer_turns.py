"""Turns of sampled answers in the form of our columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from siftune.curate.files.json_text import dump

__all__ = ["columns_of"]


def columns_of(turns: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Turns with all the fields of our columns, and the keys beside: the inverse of `chat`.

    It inverts `template_turns.chat`. The keys are ``{}``, or ``{"prompt.fields":
    [...]}`` for ``extra``.
    """
    names = ("role", "content", "name", "tool_calls", "tool_call_id")
    made = [{name: turn.get(name) for name in names} for turn in turns]
    for turn in made:
        turn["tool_calls"] = dump(turn["tool_calls"]) if turn["tool_calls"] else None
    rest = [{key: value for key, value in turn.items() if key not in names} for turn in turns]
    return made, {"prompt.fields": rest} if any(rest) else {}
