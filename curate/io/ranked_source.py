"""Sources of ranked lists that are read as preference pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson

from siftune.curate.core.errors import BadRow, UsageError
from siftune.curate.core.schema import CONTENT, Kind
from siftune.curate.core.types import Format, Row
from siftune.curate.files.byte_streams import shown
from siftune.curate.files.source_spec import Pairing
from siftune.curate.io.reading import Source
from siftune.curate.records.ranked_pairs import pairs_of

__all__ = ["as_pairs"]

_RANKED_ID = "ranked_id"


def as_pairs(source: Source, pairing: Pairing) -> Source:
    """The source with each of its ranked lists as pairs; ids are ``source:row.n``.

    Raises:
        UsageError: its rows are no ranked lists.
    """
    if source.kind != "ranked":
        raise UsageError(
            f"pairs: {shown(source.given)} has {source.kind} rows; pairs are made of ranked lists "
            "(a prompt, completions and their scores)"
        )
    form = _Paired(source.format or _OwnRows(), pairing)
    name = "ranked" if source.format is None else source.format_name
    note = f"{shown(source.given)}: ranked lists are read as pairs ({pairing})"
    notes = (*source.notes, note)
    return replace(source, kind="preference", format=form, format_name=name, notes=notes)


@dataclass(frozen=True)
class _Paired:
    """A format of ranked lists that gives their pairs."""

    ranked: Format
    pairing: Pairing

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = True

    def matches(self, row: Row) -> bool:
        return self.ranked.matches(row)

    def read(self, row: Row) -> list[Row]:
        """The pairs of one record.

        Raises:
            BadRow: it cannot be read, or has no two answers with different scores.
        """
        made, bad = list[Row](), None
        for one in self.ranked.read(row):
            try:
                made += pairs_of(one, self.pairing)
            except BadRow as error:  # a tree may have others
                bad = error
        if bad is not None and not made:
            raise bad
        return made

    def write(self, row: Row) -> Row:
        raise BadRow("no_place", "a pair of a ranked list cannot be written as that list")


class _OwnRows:
    """Ranked rows of a table that siftune wrote; their ids stay in ``extra``."""

    kind: ClassVar[Kind] = "ranked"
    over: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        return row.get("kind") == "ranked"

    def read(self, row: Row) -> Iterator[Row]:
        extra: Mapping[str, Any] = orjson.loads(row["extra"]) if row.get("extra") else {}
        content = {name: row[name] for name in (*CONTENT["ranked"], "scores")}
        yield content | {"extra": {**extra, _RANKED_ID: row["id"]}}

    def write(self, row: Row) -> Row:
        return row
