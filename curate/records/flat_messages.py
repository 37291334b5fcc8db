"""Messages of trees that lie in a file one by one, as Open Assistant publishes them, as trees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row

__all__ = ["is_message", "trees"]

_TREE, _OWN, _ABOVE = "message_tree_id", "message_id", "parent_id"
_KEYS: Final = frozenset({"text", "role", _TREE, _OWN, _ABOVE})
_OF_TREE: Final = (_TREE, "tree_state")
_MOST: Final = 100_000  # messages of one tree that are held
_DEEPEST: Final = 100  # replies below each other

_Numbered: TypeAlias = tuple[int, Row | BadRow]


def is_message(record: Row) -> bool:
    """Whether a record is one message of a tree, with its text, its role and its parent."""
    return record.keys() >= _KEYS


def trees(records: Iterable[_Numbered]) -> Iterator[_Numbered]:
    """The trees of messages, each with the number of its first message.

    The messages of a tree have to lie together, in any order. A message that belongs to no tree
    with a beginning is bad, and so is a record that is no message.
    """
    held: dict[int, Row] = {}
    done: set[str] = set()
    tree = None
    for number, record in records:
        if isinstance(record, BadRow) or not is_message(record):
            yield number, _no_message(record)
            continue
        if str(record[_TREE]) != tree or len(held) == _MOST:
            yield from _planted(held, tree in done)
            done.add(str(tree))
            held, tree = {}, str(record[_TREE])
        held[number] = record
    yield from _planted(held, tree in done)


def _no_message(record: Row | BadRow) -> BadRow:
    if isinstance(record, BadRow):
        return record
    return BadRow("missing_field", f"a message of a tree has {', '.join(sorted(_KEYS))}")


def _planted(held: Mapping[int, Row], again: bool) -> Iterator[_Numbered]:
    """The tree of some messages, and those that are not below its root as bad records."""
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
    reached = _grown(nodes, below)
    for number, message in held.items():
        own = str(message[_OWN])
        if number in second or own not in reached:
            yield number, _lost(message, again)
        elif _parent(message) is None:
            of_tree = {key: message[key] for key in _OF_TREE if key in message}
            yield number, of_tree | {"prompt": nodes[own]}


def _parent(message: Row) -> str | None:
    """The id of the message above; CSV has an empty text for none."""
    return None if message[_ABOVE] in (None, "") else str(message[_ABOVE])


def _grown(nodes: Mapping[str, Row], below: Mapping[str | None, list[str]]) -> set[str]:
    """Hang each node under its parent; those that are below a node without one, and these."""
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
        what = f"the messages of tree {message[_TREE]!r} do not lie together; sort by {_TREE!r}"
    else:
        what = (
            f"its parent {message[_ABOVE]!r} is not among the messages of its tree, or it is the "
            f"second one of its id, or more than {_DEEPEST} replies deep"
        )
    return BadRow("no_parent", what)
