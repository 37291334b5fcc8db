"""Lists of turns in JSON text taken apart: where each text stands, and whose it is."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.tokens import ESCAPED, STRING, blank, key, string
from siftune.curate.native.pointers import byte, put_byte, put_length, word

__all__ = ["Names", "Places", "one_of", "put_turn", "same", "turns_of"]

_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any


class Names(NamedTuple):
    """Addresses of names: their bytes, and where each starts; how many there are."""

    data: int
    starts: int
    many: int


class Places(NamedTuple):
    """What a line is read with, as addresses: they cost nothing to pass on, as arrays do.

    The parts of `core.readers.jsonkeys.Keys` and the arrays of `core.readers.jsonscan.Scanned`.
    """

    own: Names
    names: Names
    fields: int
    holds: int
    speaks: int
    turn: Names
    roles: Names
    spans: int
    found: int
    extra: int
    turns: int
    said: int
    spoken: int
    seen: int


@compiled()
def turns_of(block: int, at: _Int, turns: _Int, to: Places) -> tuple[_Int, _Int]:
    """The end of a list of turns, each with a role we know and a text and nothing else."""
    while True:
        at = _turn(block, blank(block, at), turns, to)
        if at < 0:
            return -1, turns
        turns += 1
        at = blank(block, at)
        if byte(block, at) == 0x5D:
            return at + 1, turns
        if byte(block, at) != 0x2C:
            return -1, turns
        at += 1


@compiled()
def _turn(block: int, at: _Int, turn: _Int, to: Places) -> _Int:
    """The end of a turn, whose role and text are noted; -1 if it is odd."""
    role, text = -1, False
    for member in range(2):
        if byte(block, at) != (0x7B if member == 0 else 0x2C):
            return -1
        name, name_end, at = key(block, blank(block, at + 1))
        if at < 0 or byte(block, at) != 0x22:
            return -1
        which = one_of(block, name, name_end, to.turn)
        begin = at + 1
        at, escaped = string(block, begin)
        if at < 0 or which < 0:
            return -1
        if which == 0:
            role = one_of(block, begin, at, to.roles)
        else:
            text = True
            put_turn(to, turn, begin, at, escaped)
        at = blank(block, at + 1)
    put_byte(to.spoken, turn, max(role, 0))
    return at + 1 if role >= 0 and text and byte(block, at) == 0x7D else -1


@compiled(inline="always")
def put_turn(to: Places, turn: _Int, begin: _Int, end: _Int, escaped: _Int) -> None:
    """Note where the text of a turn stands."""
    put_length(to.turns + 8 * turn, begin)
    put_length(to.turns + 8 * turn + 4, end)
    put_byte(to.said, turn, ESCAPED if escaped else STRING)


@compiled(inline="always")
def one_of(block: int, begin: _Int, end: _Int, names: Names) -> int:
    """Which of the names the bytes are; -1 if none."""
    for name in range(names.many):
        start = word(names.starts, name)
        size = word(names.starts, name + 1) - start
        if size == end - begin and same(block + begin, names.data + start, size):
            return name
    return -1


@compiled(inline="always")
def same(one: _Int, other: _Int, size: _Int) -> _Bool:
    """Whether the bytes at two addresses are the same."""
    at = 0
    while at < size and byte(one, at) == byte(other, at):
        at += 1
    return at == size
