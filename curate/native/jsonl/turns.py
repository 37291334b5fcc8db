"""Compiled parser of JSON lists of turns: the span of each text and the role of its turn."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.tokens import ESCAPED, STRING, key, skip_blanks, string
from siftune.curate.native.pointers import byte, put_byte, put_length, word

__all__ = ["Buffers", "Names", "one_of", "put_turn", "same", "turns_of"]

_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any


class Names(NamedTuple):
    """Addresses of the bytes of ``length`` names and of the offset of each."""

    data: int
    starts: int
    length: int


class Buffers(NamedTuple):
    """Addresses of the arrays that a line is read with; passing arrays would count references.

    The parts of `known_keys.Keys` and the arrays of `scan.Scanned`.
    """

    own: Names
    names: Names
    fields: int
    expected: int
    field_roles: int
    turn: Names
    roles: Names
    spans: int
    kinds: int
    extra: int
    turns: int
    turn_kinds: int
    turn_roles: int
    seen: int


@compiled()
def turns_of(block: int, at: _Int, turns: _Int, to: Buffers) -> tuple[_Int, _Int]:
    """The end of a list of turns, each with a known role, a text and nothing else; else -1."""
    while True:
        at = _turn(block, skip_blanks(block, at), turns, to)
        if at < 0:
            return -1, turns
        turns += 1
        at = skip_blanks(block, at)
        if byte(block, at) == 0x5D:
            return at + 1, turns
        if byte(block, at) != 0x2C:
            return -1, turns
        at += 1


@compiled()
def _turn(block: int, at: _Int, turn: _Int, to: Buffers) -> _Int:
    """Record the role and text of a turn; its end, or -1 if it has to be read row-wise."""
    role, text = -1, False
    for member in range(2):
        if byte(block, at) != (0x7B if member == 0 else 0x2C):
            return -1
        name, name_end, at = key(block, skip_blanks(block, at + 1))
        if at < 0 or byte(block, at) != 0x22:
            return -1
        which = one_of(block, name, name_end, to.turn)
        start = at + 1
        at, escaped = string(block, start)
        if at < 0 or which < 0:
            return -1
        if which == 0:
            role = one_of(block, start, at, to.roles)
        else:
            text = True
            put_turn(to, turn, start, at, escaped)
        at = skip_blanks(block, at + 1)
    put_byte(to.turn_roles, turn, max(role, 0))
    return at + 1 if role >= 0 and text and byte(block, at) == 0x7D else -1


@compiled(inline="always")
def put_turn(to: Buffers, turn: _Int, start: _Int, end: _Int, escaped: _Int) -> None:
    """Record the span of a turn's text."""
    put_length(to.turns + 8 * turn, start)
    put_length(to.turns + 8 * turn + 4, end)
    put_byte(to.turn_kinds, turn, ESCAPED if escaped else STRING)


@compiled(inline="always")
def one_of(block: int, start: _Int, end: _Int, names: Names) -> int:
    """Index of the name that equals the bytes; -1 if none does."""
    for name in range(names.length):
        first = word(names.starts, name)
        size = word(names.starts, name + 1) - first
        if size == end - start and same(block + start, names.data + first, size):
            return name
    return -1


@compiled(inline="always")
def same(one: _Int, other: _Int, size: _Int) -> _Bool:
    """Whether ``size`` bytes at two addresses are equal."""
    at = 0
    while at < size and byte(one, at) == byte(other, at):
        at += 1
    return at == size
