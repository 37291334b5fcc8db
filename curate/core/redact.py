"""Secrets hidden in whatever is printed or written: keys in use, passwords and tokens in URLs."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final
from urllib.parse import quote

__all__ = ["begins_as_key", "hidden", "is_secret", "looks_like_key", "protect", "without_protected"]

_USER_INFO: Final = re.compile(r"(?<=://)(?:[^\s/?#]+|[^\s/?#:]*:\S+)(?=@)")
_NAMES: Final = (
    "token|key|secret|pass|pwd|sig|auth|cred|session|jwt|code|policy|bearer|access|ticket|assertion"
    "|otp|hmac"
)
_SECRET: Final = re.compile(
    r"(?i)((?:[?&;#]|%3f|%26)"  # before a parameter of a URL, or of one quoted in another
    rf"(?=[^\s=&;#?%]*(?:{_NAMES}))"
    r"[^\s=&;#?%]*(?:=|%3d))[^\s&#;]+"
)
_AUTHORIZATION: Final = re.compile(
    r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|digest)\s+)?)[^\s'\",;]+"
)
_KEY: Final = re.compile(
    r"(?:sk|rk|pk|gsk|hf|r8|gh[opsu]|github_pat|glpat|xai|pplx|nvapi|csk|tgp)[-_]\S{6}|AIza|AKIA"
)
_HIDDEN: Final = "***"
_LEAST: Final = 8  # characters; shorter ones (`EMPTY`, `ollama`) are words of other texts, too

_protected: set[str] = set()  # secrets of this process, and how else they are written


def protect(secret: str) -> None:
    """Hide ``secret`` from now on, wherever `hidden` and the writers of files look at a text.

    Also as a URL writes it, and in base64, as HTTP does with ``user:password``.
    """
    if len(secret) >= _LEAST:
        _protected.update((secret, quote(secret, safe=""), quote(secret)))
        _protected.add(b64encode(secret.encode("utf-8", "replace")).decode())


def without_protected(text: str) -> str:
    """``text`` without the secrets that were given to `protect`, and otherwise as it is.

    >>> protect("sk-01234")
    >>> without_protected("the key sk-01234 at https://host/?key=rows")
    'the key *** at https://host/?key=rows'
    """
    for secret in sorted(_protected, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    return text


def is_secret(name: str) -> bool:
    """Whether the parameter of a URL has a name of secrets.

    >>> is_secret("X-Amz-Signature"), is_secret("api-version")
    (True, False)
    """
    return re.search(_NAMES, name, re.IGNORECASE) is not None


def begins_as_key(text: str) -> bool:
    """Whether a text begins as the keys of known services do.

    >>> begins_as_key("sk-proj-abcdef"), begins_as_key("sk-8")
    (True, False)
    """
    return _KEY.match(text) is not None


def looks_like_key(text: str) -> bool:
    """Whether a text begins as the keys of known services do, or has the length of a random one.

    >>> looks_like_key("gsk_abcdefgh"), looks_like_key("v1"), looks_like_key("0123456789abcdef" * 2)
    (True, False, True)
    """
    if begins_as_key(text):
        return True
    runs = re.findall(r"[A-Za-z0-9]{20,}", text)
    return any(re.search(r"[0-9]", one) and re.search(r"[A-Za-z]", one) for one in runs)


def hidden(text: str) -> str:
    """``text`` without protected secrets, user names, passwords and likely secrets of URLs.

    Services have their own names for parameters that sign or open a URL (``X-Amz-Signature``,
    ``client_secret``, ``sig``): a parameter is secret by a part of its name.

    >>> hidden("https://me:secret@host/rows.jsonl?token=abc&part=1")
    'https://***@host/rows.jsonl?token=***&part=1'
    >>> hidden("Authorization: Bearer abc")
    'Authorization: Bearer ***'
    """
    text = _USER_INFO.sub(_HIDDEN, without_protected(text))
    return _AUTHORIZATION.sub(rf"\g<1>{_HIDDEN}", _SECRET.sub(rf"\g<1>{_HIDDEN}", text))
