"""Cut JSON files that are one array, or objects over several lines, into records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from siftune.curate.core.errors import BadRow, DataError
from siftune.curate.records.json_lines import MAX_LINE

__all__ = ["values"]

_CHUNK: Final = 1 << 20
_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN: Final = re.compile(_STRING + rb'|[\[\]{},"]', re.DOTALL)


def values(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes | BadRow]]:
    """Number, from 1, and bytes of each element of the array, or each value one after another.

    Only brackets, quotes and commas are parsed here, so that an element which is not JSON is
    quarantined alone.

    Raises:
        DataError: brackets or quotes do not close, an element is longer than `MAX_LINE`, or
            something follows the array.
    """
    cutter = _Cutter(stream, name)
    array = cutter.start() == b"["
    number = 0
    while (value := cutter.next(array=array)) is not None:
        number += 1
        yield number, value
    if array and cutter.rest():
        raise DataError(f"{name}: something follows the end of the array, after record {number}")


class _Cutter:
    """A window over the stream: the current value begins at ``_begun``, ``_at`` is the position."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._text, self._begun, self._at = b"", 0, 0

    def start(self) -> bytes:
        """Skip to the first byte that is no white space; the bracket of an array is consumed."""
        self._more()
        self._text = self._text.removeprefix(b"\xef\xbb\xbf")
        while not self._text.strip() and self._more():
            pass
        self._text = self._text.lstrip()
        first = self._text[:1]
        self._at = int(first == b"[")
        return first

    def next(self, *, array: bool) -> bytes | None:
        """The bytes of the next value; none at the end."""
        self._begun, depth = self._at, 0
        while (token := self._token()) is not None:
            kind = token[:1]
            depth += (kind in b"[{") - (kind in b"]}")
            if array and (depth < 0 or (depth == 0 and kind == b",")):
                return self._element(last=depth < 0)
            if not array and depth <= 0 and kind in b"]}":
                return self._text[self._begun : self._at].strip()
        return self._last(whole=not array and depth == 0)

    def rest(self) -> bool:
        """Whether anything but white space follows."""
        self._begun = self._at
        while not self._text[self._at :].strip():
            self._begun = self._at = len(self._text)
            if not self._more():
                return False
        return True

    def _element(self, *, last: bool) -> bytes | None:
        element = self._text[self._begun : self._at - 1].strip()
        if last and element:
            self._at -= 1  # the bracket is read again, and ends the array
        return element if element or not last else None

    def _last(self, *, whole: bool) -> bytes | None:
        left = self._text[self._begun :].strip()
        if not whole or b'"' in left:
            raise DataError(
                f"{self._name} ends in the middle of a value: a bracket or quote is not closed; "
                "get the file again"
            )
        self._begun = self._at = len(self._text)
        return left or None

    def _token(self) -> bytes | None:
        """The next bracket, comma or string; reads on where a string is cut off."""
        while True:
            found = _TOKEN.search(self._text, self._at)
            if found and found.group() != b'"':
                self._at = found.end()
                return found.group()
            if not self._more():
                return None

    def _more(self) -> bool:
        self._text, self._at = self._text[self._begun :], self._at - self._begun
        self._begun = 0
        if len(self._text) > MAX_LINE:
            raise DataError(f"{self._name}: a record is longer than {MAX_LINE:,} bytes")
        more = self._stream.read(max(_CHUNK, len(self._text)))
        self._text += more
        return bool(more)
