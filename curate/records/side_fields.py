"""Fields beside the turns that belong to them in every layout: a system text, pictures, sound."""

from __future__ import annotations

from typing import Any, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import CONTENT, Kind
from siftune.curate.core.types import Row
from siftune.curate.records.field_names import map_flag, names_picture
from siftune.curate.records.turns import content_of, said_by

__all__ = ["BESIDE", "SYSTEMS", "refuse_media", "with_system"]

SYSTEMS: Final = ("system", "system_prompt", "system_message")
"""Keys of the text that comes before all turns."""
_MEDIA: Final = ("image", "images", "audio", "audios", "video", "videos")
BESIDE: Final = (*SYSTEMS, *_MEDIA)
"""Keys that are left out of ``extra`` where their value is null or empty."""

_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
_NAMED: Final = ("messages", "conversations", "prompt")  # columns that `extra` has turns' fields of


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
                f"{key!r} holds what is not text, and is not read; where the turns do not need it, "
                f"rename it with {map_flag(key, 'metadata')}",
            )


def with_system(row: Row, kind: Kind) -> None:
    """Make the text under ``system`` in the ``extra`` of ``row`` its first turn.

    The row is left as it is where its format used that text. A system turn that is there already
    stays if it holds that text, and takes it if it is empty or a part of it. Documents have no
    system text. Empty fields of `BESIDE` are dropped from ``extra``.

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
    row[column] = [said_by("system", text), *turns]
    for name in (f"{named}.fields" for named in _NAMED):
        if name in extra:
            extra[name] = [{}, *extra[name]]


def _one_text(key: str, beside: str, own: str) -> str:
    """The longer of two system texts, one of which has the other in it."""
    short, long = sorted((own, beside), key=len)
    if short.strip() in long:
        return own if beside.strip() == own.strip() else long
    raise BadRow(
        "two_system_texts",
        f"{key!r} is another text than the system turn that is there; to keep that turn, rename "
        f"the field with {map_flag(key, f'meta_{key}')}",
    )
