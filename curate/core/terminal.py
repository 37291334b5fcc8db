"""Terminal output: control characters escaped, secrets hidden (`core.redact`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from siftune.curate.core.redact import hidden

__all__ = ["echo", "echo_json", "one_line", "one_message", "printable", "reworded"]

_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""``text`` without characters that control a terminal or its text direction.

    >>> printable("a\x1b[31mb")
    'a�[31mb'
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """``text`` as one printable line without secrets, for a message."""
    return printable(" ".join(hidden(text).split()))


def echo_json(value: Any) -> None:
    r"""Print ``value`` as a line of JSON, with control characters escaped as ``\\uXXXX``."""
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    text = orjson.dumps(value, option=options).decode()
    print(_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)  # noqa: T201


def one_message(text: str) -> str:
    """``text`` as `one_line`; a list of problems, of `raise_all`, keeps its lines."""
    head, *problems = text.split("\n  ")
    if not head.endswith(" problems:"):
        return one_line(text)
    return "\n  ".join(map(one_line, (head, *problems)))


_rewording: ContextVar[Callable[[str], str]] = ContextVar("rewording", default=str)


@contextmanager
def reworded(function: Callable[[str], str]) -> Iterator[None]:
    """Meanwhile messages of `echo` to standard error are printed as ``function`` returns them."""
    token = _rewording.set(function)
    try:
        yield
    finally:
        _rewording.reset(token)


def echo(text: object = "", *, err: bool = False) -> None:
    """Print ``text``, made printable, to standard output, or to standard error with ``err``."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:  # it is None where the process was started with the stream closed
        shown = _rewording.get()(str(text)) if err else str(text)
        print(printable(hidden(shown)), file=stream, flush=True)
