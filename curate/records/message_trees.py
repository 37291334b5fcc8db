"""Message trees as of Open Assistant: threads from the root, sibling replies, flat files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.turns import leftover, role_of, text_field, text_turn

__all__ = [
    "FIELDS",
    "is_message",
    "is_tree",
    "nest",
    "replies",
    "root_of",
    "rows_extra",
    "trees",
    "turn_of",
    "walk",
]

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
    """Each thread that begins with ``way``, depth first, in the order of the replies."""
    yield list(way)
    for reply in replies(way[-1]):
        yield from walk([*way, reply])


def turn_of(node: Row) -> Row:
    """The turn of a message."""
    return text_turn(role_of(node.get("role")), text_field(node, "text"))


def rows_extra(record: Row, way: Sequence[Row]) -> Row:
    """Further fields of a thread: those of the tree, and of each message."""
    extra = leftover(record, frozenset({"prompt"}))
    rest = [leftover(node, _NODE) for node in way]
    return extra | {FIELDS: rest} if any(rest) else extra


def nest(turns: Sequence[Row], fields: Sequence[Row], last: Sequence[Row]) -> Row:
    """The inverse of a thread: each turn a message whose only reply is the next, then ``last``."""
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


_TREE, _OWN, _ABOVE = "message_tree_id", "message_id", "parent_id"
_KEYS: Final = frozenset({"text", "role", _TREE, _OWN, _ABOVE})
_OF_TREE: Final = (_TREE, "tree_state")
_MOST: Final = 100_000  # messages of one tree in memory
_DEEPEST: Final = 100  # replies below each other

_Numbered: TypeAlias = tuple[int, Row | BadRow]


def is_message(record: Row) -> bool:
    """Whether a record is one message of a tree, with its text, its role and its parent."""
    return record.keys() >= _KEYS


def trees(records: Iterable[_Numbered]) -> Iterator[_Numbered]:
    """The trees of messages, each with the number of its first message.

    The messages of a tree have to be adjacent, in any order. A message whose tree has no root is
    bad, and so is a record that is no message.
    """
    held: dict[int, Row] = {}
    done: set[str] = set()
    tree = None
    for number, record in records:
        if isinstance(record, BadRow) or not is_message(record):
            yield number, _no_message(record)
            continue
        if str(record[_TREE]) != tree or len(held) == _MOST:
            yield from _trees_of(held, tree in done)
            done.add(str(tree))
            held, tree = {}, str(record[_TREE])
        held[number] = record
    yield from _trees_of(held, tree in done)


def _no_message(record: Row | BadRow) -> BadRow:
    if isinstance(record, BadRow):
        return record
    return BadRow("missing_field", f"a message of a tree has {', '.join(sorted(_KEYS))}")


def _trees_of(held: Mapping[int, Row], again: bool) -> Iterator[_Numbered]:
    """The tree of some messages; those that are not below its root become bad records."""
    nodes: dict[str, Row] = {}
    below: dict[str | None, list[str]] = {}
    second = set()
    for number, message in held.items():
        own = str(message[_OWN])
        if own in nodes:
            second.add(number)
            continue
        nodes[own] = {key: value for key, value in message.items() if key not in _OF_TREE}
        below.setdefault(_parent(message), []).append(own)
    reached = _link_replies(nodes, below)
    for number, message in held.items():
        own = str(message[_OWN])
        if number in second or own not in reached:
            yield number, _lost(message, again)
        elif _parent(message) is None:
            of_tree = {key: message[key] for key in _OF_TREE if key in message}
            yield number, of_tree | {"prompt": nodes[own]}


def _parent(message: Row) -> str | None:
    """The id of the parent message; CSV has an empty text for none."""
    return None if message[_ABOVE] in (None, "") else str(message[_ABOVE])


def _link_replies(nodes: Mapping[str, Row], below: Mapping[str | None, list[str]]) -> set[str]:
    """Add each node to its parent's replies; returns the ids of all nodes below a root."""
    depths = dict.fromkeys(below.get(None, ()), 0)
    left = [*depths]
    while left:
        above = left.pop()
        for own in below.get(above, ()) if depths[above] < _DEEPEST else ():
            depths[own] = depths[above] + 1
            nodes[above].setdefault("replies", []).append(nodes[own])
            left.append(own)
    return {*depths}


def _lost(message: Row, again: bool) -> BadRow:
    if again:
        what = f"the messages of tree {message[_TREE]!r} are not adjacent; sort by {_TREE!r}"
    else:
        what = (
            f"its parent {message[_ABOVE]!r} is not among the messages of its tree, or it is the "
            f"second one of its id, or more than {_DEEPEST} replies deep"
        )
    return BadRow("no_parent", what)
