"""Fields of turns without a column: ``extra`` has one object for each turn.

They are under ``COLUMN.fields``. A conversation that was read from another key, or from a prompt
and a completion, has them under the names of those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from siftune.curate.core.types import Row

__all__ = ["fields_of", "has_fields", "put_fields", "take_fields"]

_KEYS: Final = {"messages": (("messages",), ("conversations",), ("prompt", "completion"))}


def fields_of(extra: Mapping[str, Any], column: str, count: int) -> list[Row]:
    """The further fields of each of the ``count`` turns of ``column``.

    A list that is too long belongs to a side that began with its prompt: the last ones are taken.
    One that is too short belongs to other turns, and is not used.

    >>> fields_of({"completion.fields": [{"weight": 0}]}, "messages", 2)
    [{}, {'weight': 0}]
    """
    found = _found(extra, column, count)
    return found[1] if found else [{}] * count


def take_fields(extra: Row, column: str, count: int) -> list[Row]:
    """As `fields_of`, and remove them from ``extra``."""
    found = _found(extra, column, count)
    if found is None:
        return [{}] * count
    for key in found[0]:
        extra.pop(f"{key}.fields", None)
    return found[1]


def has_fields(extra: Mapping[str, Any], *columns: str) -> bool:
    """Whether a turn of one of ``columns`` has fields without a column."""
    keys = {key for column in columns for keys in _keys(column) for key in keys}
    return any(f"{key}.fields" in extra for key in keys)


def put_fields(extra: Row, column: str, fields: Sequence[Row]) -> None:
    """Add the fields of the turns of ``column`` to ``extra``, if there are any."""
    if any(fields):
        extra[f"{column}.fields"] = [*fields]


def _keys(column: str) -> Sequence[tuple[str, ...]]:
    return _KEYS.get(column, ((column,),))


def _found(
    extra: Mapping[str, Any], column: str, count: int
) -> tuple[tuple[str, ...], list[Row]] | None:
    for keys in _keys(column):
        first, *last = ([*(extra.get(f"{key}.fields") or [])] for key in keys)
        if last and len(first) + len(last[0]) <= count and (first or last[0]):
            return keys, [*first, *([{}] * (count - len(first) - len(last[0]))), *last[0]]
        if not last and len(first) >= count > 0:
            return keys, first[len(first) - count :]
    return None
