"""JSON lines: one object a line, parsed one by one, each bad line with its reason."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NoReturn

import orjson

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.turn_lists import is_conversation

__all__ = ["MAX_DEPTH", "MAX_LINE", "lines", "parse", "too_long"]

MAX_LINE: Final = 64 << 20
"""Bytes of one line or record; a longer one is `line_too_long`."""
MAX_DEPTH: Final = 128
"""Most levels of nested lists and objects; orjson itself stops at 1,024."""

_PAIR: Final = re.compile(rb'"[ \t\r]*:')  # every key of an object matches; text may match, too
_IN_DOUBT: Final = -(1 << 40)  # a key count that no line reaches
_EXACT: Final = 2.0**63  # orjson reads a longer integer as a float


def lines(stream: BinaryIO, end: bytes = b"\n") -> Iterator[tuple[int, bytes | BadRow]]:
    """Number, from 1, and bytes of each line that is not blank, in bounded memory."""
    source = stream if end == b"\n" else _Splitter(stream, end)
    read = source.readline
    number = 0
    while line := read(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and not line.endswith(end):
            yield number, too_long(len(line) + _skip_line(read, end))
        elif not line.isspace():
            yield number, line
        else:
            number += _skip_blank(source, end)


def _skip_blank(source: Any, end: bytes) -> int:
    """Skip whole blank lines, a buffer at a time; returns their number."""
    count, found = 0, 1
    while found:
        there = source.peek(1)
        blank = there[: len(there) - len(there.lstrip())]
        stop = blank.rfind(end) + 1
        found = blank.count(end, 0, stop)
        source.read(stop)
        count += found
    return count


def too_long(length: int) -> BadRow:
    """The error of a line of ``length`` bytes."""
    detail = f"expected at most {MAX_LINE:,} bytes a line, got {length:,}"
    return BadRow("line_too_long", detail)


def parse(line: bytes) -> Row:
    """The object of ``line``; a list of turns becomes an object with these as ``messages``.

    Raises:
        BadRow: it has none, or one that cannot be passed on unchanged (a key given twice, a
            number too large, half a surrogate pair, nesting beyond `MAX_DEPTH`).
    """
    try:
        value: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        _explain(line, error)
    if type(value) is not dict and not is_conversation(value):
        raise BadRow("not_an_object", f"expected a JSON object, got {_shown(line)}")
    if _keys(value, 1) != len(_PAIR.findall(line)):
        value = _exact(line)
    record: Row = value if type(value) is dict else {"messages": value}
    return record


def _keys(value: Any, depth: int) -> int:
    """Number of keys in ``value`` at any depth; unclear where a number may have been rounded."""
    if depth > MAX_DEPTH:
        raise BadRow("too_deep", f"expected at most {MAX_DEPTH} levels of nesting")
    count = 0
    if type(value) is dict:
        count, value = len(value), value.values()
    for item in value:
        if type(item) is dict or type(item) is list:
            count += _keys(item, depth + 1)
        elif type(item) is float and abs(item) >= _EXACT:
            count += _IN_DOUBT
    return count


def _exact(line: bytes) -> Any:
    """The value parsed with the library that keeps all keys and integers of any size."""
    try:
        value: Any = json.loads(line, object_pairs_hook=_unique)
    except ValueError as error:
        raise BadRow("number_too_large", str(error).partition(";")[0]) from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    raise BadRow("duplicate_key", f"the key {twice!r} is given more than once")


def _explain(line: bytes, error: ValueError) -> NoReturn:
    """Raise the reason why orjson refuses ``line``."""
    if b"\0" in line:
        raise BadRow("nul_byte", f"a raw NUL byte at byte {line.index(0) + 1} of the line")
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        detail = f"not UTF-8 at byte {wrong.start + 1} of the line ({wrong.reason})"
        raise BadRow("invalid_utf8", detail) from None
    try:
        value = json.loads(line, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise BadRow("too_deep", f"expected at most {MAX_DEPTH} levels of nesting") from None
    except json.JSONDecodeError as wrong:
        what = wrong.msg.removesuffix(" at")  # as some of its messages end
        detail = f"{what} at character {wrong.pos + 1} of {_shown(line)}"
        raise BadRow("not_json", detail) from None
    except ValueError as wrong:
        raise BadRow("number_too_large", str(wrong).partition(";")[0]) from None
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        detail = "half of a surrogate pair (\\ud800 to \\udfff alone) is not text"
        raise BadRow("lone_surrogate", detail) from None
    except RecursionError:
        raise BadRow("too_deep", f"expected at most {MAX_DEPTH} levels of nesting") from None
    raise BadRow("not_json", f"{error} in {_shown(line)}")


def _no_constant(name: str) -> NoReturn:
    raise BadRow("not_a_number", f"{name} is not JSON; expected a number or null")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadRow("number_too_large", f"{text[:20]} does not fit a float")
    return value


def _shown(line: bytes) -> str:
    text = line.strip()
    return repr(text[:40].decode(errors="replace")) + ("…" if len(text) > 40 else "")


def _skip_line(read: Any, end: bytes) -> int:
    length = 0
    while part := read(MAX_LINE):
        length += len(part)
        if part.endswith(end):
            break
    return length


class _Splitter:
    """A stream whose lines end in something else than a line feed."""

    def __init__(self, stream: BinaryIO, end: bytes) -> None:
        self._stream, self._end = stream, end
        self._held, self._at = b"", 0  # what is before the place has been given

    def readline(self, limit: int) -> bytes:
        while (found := self._held.find(self._end, self._at)) < 0:
            if len(self._held) - self._at >= limit or not self._more():
                break
        stop = len(self._held) if found < 0 else found + 1
        return self.read(min(limit, stop - self._at))

    def peek(self, count: int) -> bytes:
        """Bytes that come next; none at the end."""
        if self._at == len(self._held):
            self._more()
        return self._held[self._at :]

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes, of those held."""
        self._at += count
        return self._held[self._at - count : self._at]

    def _more(self) -> bool:
        more = self._stream.read(1 << 20)
        self._held, self._at = self._held[self._at :] + more, 0
        return bool(more)
