"""Declared layouts of a format's usual records, read as columns; fields of every layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import CONTENT, Kind
from siftune.curate.core.types import Row
from siftune.curate.records.field_names import map_flag, names_picture
from siftune.curate.records.turns import content_of, text_turn

__all__ = [
    "BESIDE",
    "SYSTEMS",
    "Form",
    "Layout",
    "Side",
    "TurnField",
    "refuse_media",
    "with_system",
]

Form: TypeAlias = Literal["list", "text", "either", "dialogue"]


@dataclass(frozen=True)
class TurnField:
    """One turn: its role, the key of its text, and of a text after it, joined by a blank line.

    The text ``beside`` may be missing, null or empty, and is then left out; else it stays in
    ``extra`` as well.
    """

    role: str
    key: str
    beside: str | None = None


@dataclass(frozen=True)
class Side:
    """Turns: a list of them under ``key`` or, instead, under ``other``; or a text, which is one.

    ``role`` is the role of a text. A ``dialogue`` is a text of turns with their marks, the last an
    assistant's. An empty list does not match.
    """

    key: str
    role: str = "assistant"
    form: Form = "either"
    other: str | None = None


@dataclass(frozen=True)
class Layout:
    """Columns that `Format.read` gives for records of these fields; others are read one by one.

    ``columns`` are the content columns, each of `TurnField` or each of `Side` in a row. The turns
    of a list are objects of ``turn`` (role and text) and nothing else, with roles of ``roles`` (raw
    to ours). ``numbers`` are facts, finite numbers or null; ``truths`` are content, true or false,
    or 1 or 0. ``unused`` fields, and those of `BESIDE` in every layout, are dropped where they are
    null or empty; where they are not, the layout does not apply, nor to records with ``refused``
    fields. All other fields stay in ``extra``; where ``doubted``, a pattern of its keys, matches
    it, the layout does not apply, but for a list of turns that begins with a question and ends with
    an answer.

    Rows whose ``differ`` columns are equal are left to `Format.read`. Where these are lists, the
    column ``shared`` may be missing: it is the common prefix of both, at least one turn each left
    out, unless it is given and neither begins with a system's or a user's turn. The number
    ``judged``, from 1 to 2, is the preference between the two; it gives facts, and the position of
    the better one is kept in ``extra``.
    """

    columns: Mapping[str, tuple[TurnField, ...] | tuple[Side, ...]]
    turn: tuple[str, str] = ("role", "content")
    roles: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    differ: tuple[str, str] | None = None
    shared: str | None = None
    judged: str | None = None
    refused: tuple[str, ...] = ()
    doubted: str = ""

    def keys(self) -> set[str]:
        """The keys of all fields except those that stay in ``extra``."""
        texts = {key for each in self.turn_fields() for key in (each.key, each.beside)}
        sides = {key for each in self.sides() for key in (each.key, each.other)}
        named = {*self.numbers, *self.truths, *self.empty(), *self.refused, self.judged}
        return {key for key in texts | sides | named if key}

    def empty(self) -> tuple[str, ...]:
        """The keys of fields that have to be null or empty."""
        return (*self.unused, *(key for key in BESIDE if key not in self.unused))

    def turn_fields(self) -> Iterator[TurnField]:
        """The texts of all columns."""
        return (
            each for turns in self.columns.values() for each in turns if isinstance(each, TurnField)
        )

    def sides(self) -> Iterator[Side]:
        """The sides of all columns."""
        return (each for turns in self.columns.values() for each in turns if isinstance(each, Side))


SYSTEMS: Final = ("system", "system_prompt", "system_message")
"""Keys of the text that comes before all turns."""
_MEDIA: Final = ("image", "images", "audio", "audios", "video", "videos")
BESIDE: Final = (*SYSTEMS, *_MEDIA)
"""Keys that are dropped from ``extra`` where their value is null or empty."""

_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
_NAMED: Final = ("messages", "conversations", "prompt")  # columns whose turns have further fields


def refuse_media(record: Row) -> None:
    """Check that a record has no pictures, sound or films, which are not read.

    Raises:
        BadRow: it has.
    """
    for key, value in record.items():
        usual = key in _MEDIA and isinstance(value, str | bytes | list | dict)
        if value not in _EMPTY and (usual or names_picture(key, value)):
            raise BadRow(
                "not_text",
                f"{key!r} is not text, and is not read; where the turns do not need it, "
                f"rename it with {map_flag(key, 'metadata')}",
            )


def with_system(row: Row, kind: Kind) -> None:
    """Make the text under ``system`` in the ``extra`` of ``row`` its first turn.

    The row stays as it is where its format used that text. An existing system turn stays if it
    contains that text, and is replaced if it is empty or a part of it. Documents have no system
    text. Empty fields of `BESIDE` are dropped from ``extra``.

    Raises:
        BadRow: it is no text, or another one than that of the system turn.
    """
    given = row.get("extra") or {}
    row["extra"] = extra = {k: v for k, v in given.items() if k not in BESIDE or v not in _EMPTY}
    key = next((key for key in SYSTEMS if key in extra), None)
    if key is None or kind == "text":
        return
    text = content_of(extra.pop(key), repr(key)) or ""
    column = next(iter(CONTENT[kind]))
    turns = row[column]
    if turns and turns[0]["role"] == "system":
        row[column] = [turns[0] | {"content": _one_text(key, text, turns[0]["content"] or "")}]
        row[column] += turns[1:]
        return
    row[column] = [text_turn("system", text), *turns]
    for name in (f"{named}.fields" for named in _NAMED):
        if name in extra:
            extra[name] = [{}, *extra[name]]


def _one_text(key: str, beside: str, own: str) -> str:
    """The longer of two system texts, one of which contains the other."""
    short, long = sorted((own, beside), key=len)
    if short.strip() in long:
        return own if beside.strip() == own.strip() else long
    raise BadRow(
        "two_system_texts",
        f"{key!r} is another text than the system turn that is there; to keep that turn, rename "
        f"the field with {map_flag(key, f'meta_{key}')}",
    )
