"""Compact JSON text of Python values, with types beyond JSON from Parquet and Arrow."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import orjson

__all__ = ["dump", "plain_text"]


def dump(value: Any, other: Callable[[Any], Any] | None = None) -> str:
    """``value`` as compact JSON.

    Integers of any size stay exact. What parquet and Arrow have beyond JSON: bytes become base64,
    times ISO 8601, decimals their digits as text; NaN and infinities become null. ``other`` makes
    what JSON has of any other value, in place of its text.

    >>> dump({"n": 2**70, "raw": b"ab"})
    '{"n":1180591620717411303424,"raw":"YWI="}'
    """
    plain = other or plain_text
    try:
        return orjson.dumps(value, default=plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=plain)


def plain_text(value: Any) -> str:
    """The text of a value that JSON has not; see `dump`."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(value)
    return str(value)


def _duration(value: timedelta) -> str:
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    finer = getattr(value, "nanoseconds", 0)  # pandas' type, which Arrow gives for nanoseconds
    seconds = Decimal(value.seconds * 10**9 + value.microseconds * 1000 + finer).scaleb(-9)
    return f"{sign}P{value.days}DT{seconds.normalize():f}S"
