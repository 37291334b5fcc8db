"""Ranked lists: several answers to one prompt, with their scores and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.turns import plain

__all__ = ["attribute_list", "attributes_of", "items", "prompt_text", "texts"]


def items(record: Row, key: str) -> list[Row]:
    """The objects of the list under ``key``.

    Raises:
        BadRow: it is no list of objects, or an empty one.
    """
    value = record.get(key)
    if value is None:
        raise BadRow("missing_field", f"{key!r} is missing or null; expected a list of answers")
    if type(value) is not list or not all(type(item) is dict for item in value):
        raise BadRow("wrong_type", f"{key!r} is not a list of objects")
    if not value:
        raise BadRow("no_answer", f"{key!r} has no answer")
    return value


def attribute_list(named: Mapping[str, float | None]) -> list[Row]:
    """One answer's attributes in the form of their column, without unknown ones."""
    return [{"name": name, "value": value} for name, value in named.items() if value is not None]


def attributes_of(row: Row, at: int) -> dict[str, float]:
    """The inverse of `attribute_list`, for answer ``at`` of a row."""
    listed: Sequence[Any] | None = row.get("attributes")
    known = (listed[at] if listed else None) or ()
    return {item["name"]: item["value"] for item in known}


def prompt_text(row: Row) -> str:
    """The prompt of a row as one text.

    Raises:
        BadRow: it is not one user turn of text.
    """
    contents = plain(row["prompt"], "user")
    if contents is None:
        raise BadRow("no_place", "the prompt is a text here; this one is a conversation")
    return contents[0]


def texts(row: Row) -> list[str]:
    """The answers of a row as texts.

    Raises:
        BadRow: one is not one assistant turn of text.
    """
    contents = [plain(turns, "assistant") for turns in row["completions"]]
    if not contents or None in contents:
        raise BadRow("no_place", "an answer is a text here; one of these is not")
    return [one[0] for one in contents if one]
