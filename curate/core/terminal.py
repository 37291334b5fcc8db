"""Terminal output: control characters escaped, passwords in URLs hidden."""

from __future__ import annotations

import re
import sys
from typing import Any, Final

__all__ = ["echo", "echo_json", "hidden", "one_line", "one_message", "printable"]

_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_USER_INFO: Final = re.compile(r"(?<=://)(?:[^\s/?#]+|[^\s/?#:]*:\S+)(?=@)")
_SECRET: Final = re.compile(
    r"(?i)((?:[?&;#]|%3f|%26)"  # before a parameter of a URL, or of one quoted in another
    r"(?=[^\s=&;#?%]*(?:token|key|secret|pass|pwd|sig|auth|cred|session|jwt|code|policy|bearer"
    r"|access|ticket|assertion|otp|hmac))"
    r"[^\s=&;#?%]*(?:=|%3d))[^\s&#;]+"
)
_HIDDEN: Final = "***"


def printable(text: str) -> str:
    r"""``text`` without characters that control a terminal or its text direction.

    >>> printable("a\x1b[31mb")
    'a�[31mb'
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def hidden(text: str) -> str:
    """``text`` with user names, passwords and likely secrets of URLs replaced.

    Services have their own names for parameters that sign or open a URL (``X-Amz-Signature``,
    ``client_secret``, ``sig``): a parameter is secret by a part of its name.

    >>> hidden("https://me:secret@host/rows.jsonl?token=abc&part=1")
    'https://***@host/rows.jsonl?token=***&part=1'
    """
    return _SECRET.sub(rf"\g<1>{_HIDDEN}", _USER_INFO.sub(_HIDDEN, text))


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


def echo(text: object = "", *, err: bool = False) -> None:
    """Print ``text``, made printable, to standard output, or to standard error with ``err``."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:  # it is None where the process was started with the stream closed
        print(printable(hidden(str(text))), file=stream, flush=True)
