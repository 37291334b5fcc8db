"""Fields that the scan of JSON lines recognises: their names and the content expected of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.records.layout import Form, Layout

__all__ = [
    "BOTH",
    "EITHER",
    "NUMBER",
    "OTHER",
    "REFUSED",
    "SPOKEN",
    "TEXT",
    "TRUE_OR_FALSE",
    "TURNS",
    "UNUSED",
    "Field",
    "Keys",
    "fields_of",
    "keys_of",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Starts: TypeAlias = npt.NDArray[np.int64]

TEXT, BOTH, NUMBER, TURNS, SPOKEN, EITHER, TRUE_OR_FALSE, UNUSED, REFUSED, OTHER = range(10)
"""Expected content of a field: a text; a text that is copied to ``extra`` too unless it is empty; a
number; a list of turns; a text that is one turn; either of these; a boolean, or 1 or 0; null or an
empty text or list; nothing (a line with it is odd). And `OTHER`: the field is not known."""

_FORMS: Final[Mapping[Form, int]] = {
    "list": TURNS,
    "text": SPOKEN,
    "either": EITHER,
    "dialogue": TEXT,
}


class Field(NamedTuple):
    """A known field: expected content, the role of a text that is a turn, a second name."""

    expected: int
    role: str = ""
    other: str | None = None


class Keys(NamedTuple):
    """The known fields: their ``own`` names (the two of a turn first) and the ``names`` in lines.

    ``expected`` (content) and ``roles_of`` (index of the role of a text that is a turn) have one
    item per field, ``fields`` (index of the field) one per name in lines. ``roles`` are the values
    of a role. Names are concatenated bytes with offsets.
    """

    own: Bytes
    own_starts: Starts
    names: Bytes
    name_starts: Starts
    fields: Starts
    expected: Bytes
    roles_of: Bytes
    roles: Bytes
    role_starts: Starts


def fields_of(layout: Layout) -> dict[str, Field]:
    """The known fields of a layout by name."""
    known: dict[str, Field] = {}
    for text in layout.turn_fields():
        known[text.key] = Field(TEXT)
        if text.beside:
            known[text.beside] = Field(BOTH)
    for side in layout.sides():
        known[side.key] = Field(_FORMS[side.form], side.role, side.other)
    known |= dict.fromkeys(layout.numbers, Field(NUMBER))
    known |= dict.fromkeys(layout.truths, Field(TRUE_OR_FALSE))
    known |= dict.fromkeys(layout.refused, Field(REFUSED))
    if layout.judged:
        known[layout.judged] = Field(NUMBER)
    return known | dict.fromkeys(layout.empty(), Field(UNUSED))


def keys_of(known: Mapping[str, Field], layout: Layout, mapping: Mapping[str, str]) -> Keys:
    """The keys of lines that ``mapping`` renames to those of the layout."""
    names, fields = [], []
    for at, (key, field) in enumerate(known.items()):
        spellings = {key, field.other or key}
        raw_names = [raw for raw, name in mapping.items() if name in spellings]
        raw_names += sorted(spellings - mapping.keys())
        names += raw_names
        fields += [at] * len(raw_names)
    roles = list(layout.roles.values())
    roles_of = [roles.index(field.role) if field.role in roles else 0 for field in known.values()]
    return Keys(
        *_joined([*layout.turn, *known]),
        *_joined(names),
        np.array(fields, np.int64),
        np.array([field.expected for field in known.values()], np.uint8),
        np.array(roles_of, np.uint8),
        *_joined([*layout.roles]),
    )


def _joined(names: Sequence[str]) -> tuple[Bytes, Starts]:
    texts = [name.encode() for name in names]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return np.frombuffer(b"".join(texts) + b"\0", np.uint8), starts
