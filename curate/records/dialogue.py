r"""Dialogues written as one text: ``\n\nHuman: …\n\nAssistant: …``, as HH-RLHF and Nectar do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeGuard

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.turns import plain, read_side, said_by

__all__ = ["asked_turns", "marked", "read_asked", "read_dialogue", "write_dialogue"]

_MARK: Final = re.compile(r"(?:\A|\n\n)(Human|Assistant):(?: |(?=\n|\Z))")
_ROLES: Final = {"Human": "user", "Assistant": "assistant"}
_MARKS: Final = {role: f"\n\n{mark}: " for mark, role in _ROLES.items()}


def marked(value: object) -> TypeGuard[str]:
    r"""Whether ``value`` is a text that begins with a person's mark.

    >>> marked("\n\nHuman: Hi\n\nAssistant: Hello"), marked("Human nature")
    (True, False)
    """
    return type(value) is str and value.lstrip("\n").startswith("Human:")


def asked_turns(text: str) -> list[Row]:
    r"""The turns of a prompt: of a dialogue its own, without the mark of the answer at its end.

    >>> [turn["content"] for turn in asked_turns("\n\nHuman: Hi\n\nAssistant:")]
    ['Hi']
    """
    if not marked(text) or not _MARK.match("\n\n" + text.lstrip("\n")):
        return [said_by("user", text)]
    turns = read_dialogue(text, "prompt")
    return turns[:-1] if turns[-1] == said_by("assistant", "") else turns


def read_asked(record: Row, key: str, extra: Row) -> list[Row]:
    """The turns of a prompt: of a list its own, of a text those of `asked_turns`.

    Raises:
        BadRow: it is neither a text nor turns.
    """
    value = record.get(key)
    return asked_turns(value) if marked(value) else read_side(record, key, "user", extra)


def read_dialogue(text: str, key: str) -> list[Row]:
    """The turns of a dialogue; a turn may be empty.

    Raises:
        BadRow: it does not begin with ``Human:`` or ``Assistant:``.
    """
    pieces = _MARK.split(text if text.startswith("\n\n") else "\n\n" + text.lstrip("\n"))
    if len(pieces) < 3 or pieces[0]:
        raise BadRow("no_turn_marks", f"{key!r} does not begin with 'Human:' or 'Assistant:'")
    marks, contents = pieces[1::2], pieces[2::2]
    return [said_by(_ROLES[mark], content) for mark, content in zip(marks, contents, strict=True)]


def write_dialogue(turns: Sequence[Row]) -> str:
    """The inverse of `read_dialogue`.

    Raises:
        BadRow: a turn is not a text of a user or an assistant, or holds a mark itself.
    """
    said = plain(turns, *(turn["role"] for turn in turns))
    if said is None or not {turn["role"] for turn in turns} <= set(_MARKS):
        raise BadRow("no_place", "a dialogue text has only user and assistant turns of text")
    text = "".join(
        _MARKS[turn["role"]] + content for turn, content in zip(turns, said, strict=True)
    )
    if turns and [turn["content"] for turn in read_dialogue(text, "text")] != said:
        raise BadRow("no_place", "a paragraph of a turn begins with a mark itself")
    return text
