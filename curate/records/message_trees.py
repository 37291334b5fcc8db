"""Trees of messages, as Open Assistant keeps them: ways from the root, and sibling replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.turns import leftover, role_of, said_by, text_field

__all__ = ["FIELDS", "is_tree", "nest", "replies", "root_of", "rows_extra", "turn_of", "walk"]

FIELDS = "messages.fields"
_NODE = frozenset({"text", "role", "replies"})


def is_tree(record: Row) -> bool:
    """Whether ``record`` has a prompt with a text, a role and perhaps replies."""
    prompt = record.get("prompt")
    return type(prompt) is dict and "text" in prompt and "role" in prompt


def root_of(record: Row) -> Row:
    """The first message.

    Raises:
        BadRow: there is none, or it is deleted.
    """
    prompt = record.get("prompt")
    if type(prompt) is not dict:
        reason = "missing_field" if prompt is None else "wrong_type"
        raise BadRow(reason, "'prompt' is not a message with a text and a role")
    if prompt.get("deleted"):
        raise BadRow("no_answer", "the first message is deleted")
    return prompt


def replies(node: Row) -> list[Row]:
    """The replies to a message that are not deleted.

    Raises:
        BadRow: they are not a list of messages.
    """
    found = node.get("replies") or []
    if type(found) is not list or not all(type(reply) is dict for reply in found):
        raise BadRow("wrong_type", "'replies' is not a list of messages")
    return [reply for reply in found if not reply.get("deleted")]


def walk(way: Sequence[Row]) -> Iterator[list[Row]]:
    """Each way from the root, the given one first: those of the first reply, then of the next."""
    yield list(way)
    for reply in replies(way[-1]):
        yield from walk([*way, reply])


def turn_of(node: Row) -> Row:
    """The turn that a message is."""
    return said_by(role_of(node.get("role")), text_field(node, "text"))


def rows_extra(record: Row, way: Sequence[Row]) -> Row:
    """What is known of a way beyond its turns: the tree's fields, and each message's."""
    extra = leftover(record, frozenset({"prompt"}))
    rest = [leftover(node, _NODE) for node in way]
    return extra | {FIELDS: rest} if any(rest) else extra


def nest(turns: Sequence[Row], fields: Sequence[Row], last: Sequence[Row]) -> Row:
    """The inverse of a way: each turn a message, with the next as its only reply, then ``last``."""
    below = list(last)
    for turn, rest in zip(reversed(turns), reversed(fields), strict=True):
        if turn["role"] not in _WRITTEN or turn["content"] is None or turn["tool_calls"]:
            raise BadRow("no_place", "a tree has only user and assistant turns of text")
        node = {"text": turn["content"], "role": _WRITTEN[turn["role"]], "replies": below}
        below = [node | rest]
    if len(below) != 1 or "replies" not in below[0]:
        raise BadRow("no_place", "a tree begins with one message")
    return below[0]


_WRITTEN = {"user": "prompter", "assistant": "assistant"}
