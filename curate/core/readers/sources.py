"""What sources hold: the parts of each, its format, told from its first records, and one kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final

import polars as pl

from curate.core.errors import BadRow, DataError, UsageError
from curate.core.readers.advice import renamed
from curate.core.readers.binary import shown
from curate.core.readers.containers import expand, name_parts
from curate.core.readers.detect import SAMPLE, detect, named
from curate.core.readers.flat_trees import is_message, trees
from curate.core.readers.given import Given, spelled
from curate.core.readers.part import Part
from curate.core.readers.reading import Reading, Source
from curate.core.registry import closest
from curate.core.schema import SOME, kind_of, schema_of
from curate.core.types import Row

__all__ = ["plan"]

_LOOKED_AT: Final = 10_000  # records, at most, to find `SAMPLE` good ones


def plan(
    sources: Sequence[str],
    format: str | None,
    mapping: Mapping[str, str] | None,
    given: Mapping[str, Given] | None = None,
) -> Reading:
    """Find the parts of ``sources``, the format of each source, and the kind of all.

    Sources named in ``given`` have a format and a mapping of their own, where these are set.

    Raises:
        UsageError: no source, one given twice, or an unknown format.
        DataError: a source is not data, has no format, or is of another kind than the first.
    """
    if not sources:
        raise UsageError("no source is given; name a file, a folder or a hub dataset")
    try:
        return _plan(sources, format, mapping or {}, given or {})
    except DataError as error:
        raise DataError(spelled(str(error))) from None


def _plan(
    sources: Sequence[str],
    format: str | None,
    mapping: Mapping[str, str],
    own: Mapping[str, Given],
) -> Reading:
    found = [expand(source) for source in sources]
    part_names = iter(name_parts(list(chain.from_iterable(found))))
    keys: list[tuple[Mapping[str, str], set[str]]] = [(mapping, set())]
    read = []
    for source, parts in zip(sources, found, strict=True):
        named_parts = tuple((next(part_names), part) for part in parts)
        how = own.get(source, Given(source))
        if how.map:
            keys.append((how.map, set()))
        renaming, there = keys[-1] if how.map else keys[0]
        read.append(_source(source, named_parts, how.format or format, renaming, there))
    for renaming, there in keys:
        if not (own and renaming is mapping and not there):  # each source has its own
            _all_used(renaming, there)
    _same_kind(read)
    _ids_apart(read)
    return Reading(read[0].kind, tuple(read), _schema(read))


_NamedParts = tuple[tuple[str, Part], ...]


def _source(
    given: str, parts: _NamedParts, name: str | None, mapping: Mapping[str, str], keys: set[str]
) -> Source:
    notes = tuple(note for _, part in parts for note in part.said)
    if any(part.container == "rows" for _, part in parts):
        return _own(given, parts, notes)
    raw = _sample(given, parts)
    keys.update(key for row in raw for key in row)
    rows = [_tried(row, mapping) for row in raw]
    flat = _of_messages(name) and 2 * sum(map(is_message, rows)) > len(rows)
    if flat:
        rows = [tree for _, tree in trees(enumerate(rows)) if not isinstance(tree, BadRow)]
        if not rows:
            raise DataError(
                f"{shown(given)}: no row can be read; no message begins a tree (without a parent)"
            )
    if name is None:
        name, form, count = detect(shown(given), rows)
        how = f"{count} of the first {len(rows)} rows"
    else:
        form = named(name)
        count = sum(form.matches(row) for row in rows)
        how = f"as told; {count} of the first {len(rows)} rows fit"
    said = f"{shown(given)}: {name} ({how})"
    return Source(given, parts, form.kind, name, form, (*notes, said), mapping, flat)


def _of_messages(name: str | None) -> bool:
    """Whether messages of trees are put together for a format; for one to be found they are."""
    return name is None or getattr(named(name), "of_messages", False)


def _own(given: str, parts: _NamedParts, notes: tuple[str, ...]) -> Source:
    if len(parts) > 1:
        raise DataError(f"{shown(given)} holds tables of ours beside others; name them one by one")
    path = parts[0][1].paths[0]
    kinds = pl.read_parquet(path, columns=["kind"], glob=False)
    if kinds.is_empty():
        raise DataError(f"{shown(given)}: no row can be read; it holds none")
    kind, own = kind_of(kinds), pl.scan_parquet(path, glob=False).collect_schema()
    for column, dtype in schema_of(kind).items():
        if own.get(column) != dtype:
            found = own.get(column, "no such column")
            raise DataError(
                f"{shown(given)} looks like a table of ours, but {column!r} is {found}; expected "
                f"{dtype}: ingest the raw rows again"
            )
    said = f"{shown(given)}: rows of ours ({kind}), passed on as they are"
    return Source(given, parts, kind, "rows", None, (*notes, said))


def _sample(given: str, parts: _NamedParts) -> list[Row]:
    """The first good records.

    Raises:
        DataError: there is none; the text says what was wrong with the first.
    """
    rows: list[Row] = []
    wrong = ""
    records = chain.from_iterable(_numbered(part) for _, part in parts)
    for where, raw in islice(records, _LOOKED_AT):
        if isinstance(raw, BadRow):
            wrong = wrong or f"{where}: {raw}"
        else:
            rows.append(raw)
        if len(rows) == SAMPLE:
            break
    if not rows:
        raise DataError(f"{shown(given)}: no row can be read; {wrong or 'it holds none'}")
    return rows


def _numbered(part: Part) -> Iterator[tuple[str, Row | BadRow]]:
    for number, raw in part.records():
        yield f"{shown(part.shown)}, {part.unit} {number}", raw


def _tried(raw: Row, mapping: Mapping[str, str]) -> Row:
    try:
        return renamed(raw, mapping)
    except BadRow:
        return raw


def _all_used(mapping: Mapping[str, str], keys: set[str]) -> None:
    for key in mapping:
        if key not in keys:
            there = tuple(sorted(keys))
            raise UsageError(
                f"no row has the key {key!r} that is to be renamed; {closest(key, there)}"
            )


def _ids_apart(sources: Sequence[Source]) -> None:
    """No row of a table of ours has the id of another row."""
    raw = {name for source in sources if source.format is not None for name, _ in source.parts}
    seen = pl.DataFrame(schema={"id": pl.String})
    for source in sources:
        if source.format is None:
            ids = pl.read_parquet(source.parts[0][1].paths[0], columns=["id", "source"], glob=False)
            both = ids.filter(pl.col("source").is_in(list(raw))).select("id")
            both.extend(ids.select("id").join(seen, on="id"))
            if both.height:
                raise DataError(
                    f"{shown(source.given)} holds the id {both['id'][0]}, which another source "
                    "gives too: rename that source, or ingest the raw files together"
                )
            seen.extend(ids.select("id"))


def _same_kind(sources: Sequence[Source]) -> None:
    first = sources[0]
    for other in sources:
        if other.kind != first.kind:
            raise DataError(
                f"{shown(other.given)} gives {other.kind} rows ({other.format_name}), but "
                f"{shown(first.given)} gives {first.kind} rows ({first.format_name}): "
                "one table has one kind, ingest them apart"
            )


def _schema(sources: Sequence[Source]) -> Mapping[str, pl.DataType]:
    """The columns of all rows: scores stay where every source is one table of ours with them.

    The facts of some formats (`SOME`) stay wherever one source has them.
    """
    kind = sources[0].kind
    own = [_own_schema(source) for source in sources if source.format is None]
    if len(own) == len(sources) and all(schema == own[0] for schema in own):
        return own[0]
    given = {name for schema in own for name in schema}
    given |= {name for source in sources for name in getattr(source.format, "facts", ())}
    some = {name: dtype for name, dtype in SOME.get(kind, {}).items() if name in given}
    return schema_of(kind) | some


def _own_schema(source: Source) -> Mapping[str, pl.DataType]:
    return pl.scan_parquet(source.parts[0][1].paths[0], glob=False).collect_schema()
