"""The fields that a scan of JSON lines knows: what they are called, and what each holds."""

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
"""What a known field holds: a text; a text that stays in ``extra`` too unless it is empty; a
number; a list of turns; a text that is one turn; either of these; a truth value, or 1 or 0; nothing
that matters (null, or an empty text or list); what a plain line does not have. And a field that is
not known."""

_FORMS: Final[Mapping[Form, int]] = {
    "list": TURNS,
    "text": SPOKEN,
    "either": EITHER,
    "dialogue": TEXT,
}


class Field(NamedTuple):
    """A known field: what it holds, the role of a text that is a turn, its other name."""

    holds: int
    role: str = ""
    other: str | None = None


class Keys(NamedTuple):
    """The known fields: ``own`` names (two of a turn first), and those they have in the lines.

    ``holds`` and ``speaks`` (the role of a text that is a turn) are of each field, ``fields`` of
    each name in the lines. ``roles`` are the values of the role. Names are bytes one after the
    other, with where each starts.
    """

    own: Bytes
    own_starts: Starts
    names: Bytes
    name_starts: Starts
    fields: Starts
    holds: Bytes
    speaks: Bytes
    roles: Bytes
    role_starts: Starts


def fields_of(layout: Layout) -> dict[str, Field]:
    """The known fields of a layout, by their names."""
    known: dict[str, Field] = {}
    for said in layout.said():
        known[said.key] = Field(TEXT)
        if said.beside:
            known[said.beside] = Field(BOTH)
    for side in layout.sides():
        known[side.key] = Field(_FORMS[side.form], side.role, side.other)
    known |= dict.fromkeys(layout.numbers, Field(NUMBER))
    known |= dict.fromkeys(layout.truths, Field(TRUE_OR_FALSE))
    known |= dict.fromkeys(layout.refused, Field(REFUSED))
    if layout.judged:
        known[layout.judged] = Field(NUMBER)
    return known | dict.fromkeys(layout.empty(), Field(UNUSED))


def keys_of(known: Mapping[str, Field], layout: Layout, mapping: Mapping[str, str]) -> Keys:
    """The keys of lines whose keys are renamed by ``mapping`` to be those of the layout."""
    names, fields = [], []
    for at, (key, field) in enumerate(known.items()):
        called = {key, field.other or key}
        spelled = [raw for raw, name in mapping.items() if name in called]
        spelled += sorted(called - mapping.keys())
        names += spelled
        fields += [at] * len(spelled)
    spoken = list(layout.roles.values())
    speaks = [spoken.index(field.role) if field.role in spoken else 0 for field in known.values()]
    return Keys(
        *_joined([*layout.turn, *known]),
        *_joined(names),
        np.array(fields, np.int64),
        np.array([field.holds for field in known.values()], np.uint8),
        np.array(speaks, np.uint8),
        *_joined([*layout.roles]),
    )


def _joined(names: Sequence[str]) -> tuple[Bytes, Starts]:
    texts = [name.encode() for name in names]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return np.frombuffer(b"".join(texts) + b"\0", np.uint8), starts
