"""Sources of a run: the parts of each, its format by its first records, and the common kind."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import polars as pl

from siftune.curate.core.errors import BadRow, DataError, UsageError
from siftune.curate.core.registry import closest
from siftune.curate.core.schema import BASE, CONTENT, SOME, kind_of, schema_of
from siftune.curate.core.types import Row
from siftune.curate.files.byte_streams import shown
from siftune.curate.files.source_spec import Pairing, SourceSpec, in_caller_syntax
from siftune.curate.io.detect import SAMPLE, Detected, detect, named
from siftune.curate.io.file_part import Part
from siftune.curate.io.ranked_source import as_pairs
from siftune.curate.io.reading import Reading, Source
from siftune.curate.io.source_parts import expand, name_parts
from siftune.curate.records.map_advice import check_new_names, renamed
from siftune.curate.records.message_trees import is_message, trees

__all__ = ["files_by_kind", "plan"]

_LOOKED_AT: Final = 10_000  # records, at most, to find `SAMPLE` good ones


def plan(
    sources: Sequence[str],
    format: str | None,
    mapping: Mapping[str, str] | None,
    given: Mapping[str, SourceSpec] | None = None,
    pairs: Pairing | None = None,
) -> Reading:
    """Find the parts of ``sources``, the format of each source, and the kind of all rows.

    Sources named in ``given`` have a format and a mapping of their own, where these are set. With
    ``pairs`` ranked lists are read as preference pairs.

    Raises:
        UsageError: no source, one given twice, an unknown format, or no ranked lists for ``pairs``.
        DataError: a source is not data, has no format, or is of another kind than the first.
    """
    if not sources:
        raise UsageError("no source is given; name a file, a folder or a hub dataset")
    try:
        return _plan(sources, format, mapping or {}, given or {}, pairs)
    except DataError as error:
        raise DataError(in_caller_syntax(str(error))) from None


def files_by_kind(
    sources: Sequence[str],
    format: str | None,
    mapping: Mapping[str, str],
    pairs: Pairing | None = None,
) -> Mapping[str, list[str]]:
    """The files of ``sources`` by the kind of their rows, in order.

    Raises:
        UsageError: as `plan` does.
        DataError: a source is not data, or has no format.
    """
    kinds: dict[str, list[str]] = {}
    try:
        for source in _sources(sources, format, mapping, {}, pairs):
            kinds.setdefault(source.kind, []).extend(part.shown for _, part in source.parts)
    except DataError as error:
        raise DataError(in_caller_syntax(str(error))) from None
    return kinds


def _plan(
    sources: Sequence[str],
    format: str | None,
    mapping: Mapping[str, str],
    own: Mapping[str, SourceSpec],
    pairs: Pairing | None,
) -> Reading:
    read = _sources(sources, format, mapping, own, pairs)
    _same_kind(read)
    _ids_apart(read)
    return Reading(read[0].kind, tuple(read), _schema(read))


def _sources(
    sources: Sequence[str],
    format: str | None,
    mapping: Mapping[str, str],
    own: Mapping[str, SourceSpec],
    pairs: Pairing | None,
) -> list[Source]:
    found = [expand(source) for source in sources]
    part_names = iter(name_parts(list(chain.from_iterable(found))))
    keys: list[tuple[Mapping[str, str], set[str]]] = [(mapping, set())]
    read = []
    for source, parts in zip(sources, found, strict=True):
        named_parts = tuple((next(part_names), part) for part in parts)
        how = own.get(source, SourceSpec(source))
        if how.map:
            keys.append((how.map, set()))
        renaming, there = keys[-1] if how.map else keys[0]
        name = how.format or format
        for called, group, usual in _by_format(source, named_parts, name, renaming):
            read.append(_source(called, group, name, usual, renaming, there))
    for renaming, there in keys:
        if not (own and renaming is mapping and not there):  # each source has its own
            _all_used(renaming, there)
    return read if pairs is None else [as_pairs(source, pairs) for source in read]


_NamedParts: TypeAlias = tuple[tuple[str, Part], ...]


def _by_format(
    given: str, parts: _NamedParts, name: str | None, mapping: Mapping[str, str]
) -> Iterator[tuple[str, _NamedParts, str | None]]:
    """Neighbouring files of a folder or glob with one format: name, parts, format.

    A file without a record that can be read has the format of the one before it.

    Raises:
        DataError: a file has no format; the text names it.
    """
    alike = name is not None or any(part.container == "rows" for _, part in parts)
    if alike or len(parts) == 1:
        yield given, parts, None
        return
    formats = [*_formats(given, parts, mapping)]
    ends = [at for at in range(1, len(parts)) if formats[at] != formats[at - 1]]
    for start, end in pairwise([0, *ends, len(parts)]):
        first, more = shown(parts[start][1].shown), end - start - 1
        called = f"{first} and {more} more" if more else first
        yield called if ends else given, parts[start:end], formats[start]


def _formats(given: str, parts: _NamedParts, mapping: Mapping[str, str]) -> Iterator[str]:
    """The format of each file; where the first files have none, that of all together."""
    usual: str | None = None
    known: set[_Shape] = set()  # of rows of the usual format: such files are not detected again
    for _, part in parts:
        rows = _whole([_tried(row, mapping) for row in _good([part])[0]])
        shapes = {_shape(row) for row in rows}
        if usual is None:
            usual = _first_format(given, parts, mapping, shown(part.shown), rows)
        elif not shapes <= known:
            made = _detected(shown(part.shown), rows, usual, mapping)[0]
            known = known if made == usual else set()
            usual = made
        known |= shapes
        yield usual


_Shape: TypeAlias = frozenset[tuple[str, ...]]


def _shape(row: Row) -> _Shape:
    """The keys of a record, the types of their values, and the keys of the first turn of each."""
    first = {key: value[0] for key, value in row.items() if type(value) is list and value}
    inner = {key: sorted(item) for key, item in first.items() if type(item) is dict}
    return frozenset((key, type(value).__name__, *inner.get(key, ())) for key, value in row.items())


def _first_format(
    given: str, parts: _NamedParts, mapping: Mapping[str, str], file: str, rows: Sequence[Row]
) -> str:
    """The format of the first ``file``, by its ``rows``, else by the first rows of all files."""
    with suppress(DataError):
        if rows:
            return detect(file, rows)[0]
    together = _whole([_tried(row, mapping) for row in _sample(given, parts)])
    called = file if len(together) == len(rows) else shown(given)
    usual = _detected(called, together, None, mapping)[0]
    return detect(file, rows, usual)[0] if rows else usual


def _source(
    given: str,
    parts: _NamedParts,
    name: str | None,
    usual: str | None,
    mapping: Mapping[str, str],
    keys: set[str],
) -> Source:
    """The source with its format: ``name`` as set, else as detected, with ``usual`` preferred."""
    notes = tuple(note for _, part in parts for note in part.notes)
    if any(part.container == "rows" for _, part in parts):
        return _own(given, parts, notes)
    raw = _sample(given, parts)
    keys.update(key for row in raw for key in row)
    rows = [_tried(row, mapping) for row in raw]
    flat = _of_messages(name) and _is_flat(rows)
    if flat:
        rows = _whole(rows)
        if not rows:
            raise DataError(
                f"{shown(given)}: no row can be read; no message begins a tree (without a parent)"
            )
    if name is None:
        name, form, count = _detected(shown(given), rows, usual, mapping)
        how = f"{count} of the first {len(rows)} rows"
    else:
        form = named(name)
        count = sum(form.matches(row) for row in rows)
        how = f"as set; {count} of the first {len(rows)} rows fit"
    check_new_names(mapping, rows, form)
    if hasattr(form, "notes"):
        notes = (*notes, *form.notes(rows))
    read_as = f"{shown(given)}: {name} ({how})"
    return Source(given, parts, form.kind, name, form, (*notes, read_as), mapping, flat)


def _of_messages(name: str | None) -> bool:
    """Whether a format, or detection, takes messages of trees put together."""
    return name is None or getattr(named(name), "of_messages", False)


def _is_flat(rows: Sequence[Row]) -> bool:
    """Whether most records are messages of trees."""
    return 2 * sum(map(is_message, rows)) > len(rows)


def _whole(rows: list[Row]) -> list[Row]:
    """The records, with messages of trees put together."""
    if not _is_flat(rows):
        return rows
    return [tree for _, tree in trees(enumerate(rows)) if not isinstance(tree, BadRow)]


def _detected(
    given: str, rows: Sequence[Row], usual: str | None, mapping: Mapping[str, str]
) -> Detected:
    try:
        return detect(given, rows, usual)
    except DataError:
        check_new_names(mapping, rows)
        raise


def _own(given: str, parts: _NamedParts, notes: tuple[str, ...]) -> Source:
    if len(parts) > 1:
        raise DataError(
            f"{shown(given)} has tables that siftune wrote beside other files; name them one by one"
        )
    path = parts[0][1].paths[0]
    kinds = pl.read_parquet(path, columns=["kind"], glob=False)
    if kinds.is_empty():
        raise DataError(f"{shown(given)}: no row can be read; it has none")
    kind, own = kind_of(kinds), pl.scan_parquet(path, glob=False).collect_schema()
    required = {*BASE, *CONTENT[kind]} - {"extra"}
    for column, dtype in schema_of(kind).items():
        there = own.get(column)
        typed = there != pl.Null() and _is_as_typed(there, dtype)
        if not typed and (column in required or not _is_null(path, column, own)):
            found = own.get(column, "no such column")
            raise DataError(
                f"{shown(given)} looks like a table that siftune wrote, but {column!r} is "
                f"{found}; expected {dtype}: ingest the raw rows again"
            )
    note = f"{shown(given)}: a table that siftune wrote ({kind} rows), read as it is"
    return Source(given, parts, kind, "rows", None, (*notes, note))


def _is_as_typed(found: Any, expected: Any) -> bool:
    """Whether a type is the one expected, but for parts that have no values.

    Of these pandas and Python's dicts keep no type.
    """
    if isinstance(found, pl.List) and isinstance(expected, pl.List):
        return _is_as_typed(found.inner, expected.inner)
    if isinstance(found, pl.Struct) and isinstance(expected, pl.Struct):
        pairs = list(zip(found.fields, expected.fields, strict=False))
        alike = len(found.fields) == len(expected.fields)
        return alike and all(
            one.name == other.name and _is_as_typed(one.dtype, other.dtype) for one, other in pairs
        )
    return found in (pl.Null(), expected)


def _is_null(path: Path, column: str, there: Container[str]) -> bool:
    """Whether a table has a column without a single value, whose type may be any."""
    if column not in there:
        return False
    values = pl.read_parquet(path, columns=[column], glob=False)[column]
    return values.null_count() == len(values)


def _sample(given: str, parts: _NamedParts) -> list[Row]:
    """The first good records.

    Raises:
        DataError: there is none; the text has the error of the first record.
    """
    rows, wrong = _good(part for _, part in parts)
    if not rows:
        raise DataError(f"{shown(given)}: no row can be read; {wrong or 'it has none'}")
    return rows


def _good(parts: Iterable[Part]) -> tuple[list[Row], str]:
    """The first good records, and the error of the first bad one."""
    rows: list[Row] = []
    wrong = ""
    records = chain.from_iterable(_numbered(part) for part in parts)
    for where, raw in islice(records, _LOOKED_AT):
        if isinstance(raw, BadRow):
            wrong = wrong or f"{where}: {raw}"
        else:
            rows.append(raw)
        if len(rows) == SAMPLE:
            break
    return rows, wrong


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
    """Check that no row of a table of ours has the id of another row.

    Raises:
        DataError: two have one id, by which decisions on them could not be told apart.
    """
    raw = {name for source in sources if source.format is not None for name, _ in source.parts}
    seen = pl.DataFrame(schema={"id": pl.String})
    for source in sources:
        if source.format is None:
            ids = pl.read_parquet(source.parts[0][1].paths[0], columns=["id", "source"], glob=False)
            twice = ids.filter(pl.col("id").is_duplicated())
            if twice.height:
                raise DataError(
                    f"{shown(source.given)} has the id {twice['id'][0]} twice, in all "
                    f"{twice.height:,} rows with an id of another row: leave out its column id, "
                    "and the rows get new ones"
                )
            both = ids.filter(pl.col("source").is_in(list(raw))).select("id")
            both.extend(ids.select("id").join(seen, on="id"))
            if both.height:
                raise DataError(
                    f"{shown(source.given)} has the id {both['id'][0]}, which another source "
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
    own = pl.scan_parquet(source.parts[0][1].paths[0], glob=False).collect_schema()
    typed = schema_of(source.kind)
    return {name: typed.get(name, dtype) for name, dtype in own.items()}
