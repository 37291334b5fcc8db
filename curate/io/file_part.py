"""A file of records: its container is detected by its first bytes, then by its name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson

from siftune.curate.core.errors import BadRow, DataError
from siftune.curate.core.schema import BASE
from siftune.curate.files.atomic import hash_file
from siftune.curate.files.byte_streams import SUFFIXES, opened, shown
from siftune.curate.io.json_values import values
from siftune.curate.io.tabular import Record, arrow, csv_rows, parquet, parquet_columns
from siftune.curate.records.json_lines import lines, parse
from siftune.curate.records.turn_lists import is_conversation

__all__ = ["DATA", "Container", "Part", "part_of"]

Container: TypeAlias = Literal["lines", "values", "csv", "parquet", "arrow", "rows"]
"""Container of the records of a part; ``rows`` is a table of ours."""

DATA: Final = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
_HEAD: Final = 1 << 16
_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = "is UTF-16; convert it first: iconv -f UTF-16 -t UTF-8"
_PAGE: Final = "is a web page, not data; the download went wrong"
_NOT_DATA: Final = {
    b"\xff\xfe": _UTF16,
    b"\xfe\xff": _UTF16,
    b"version https://git-lfs": "is a Git LFS pointer, not the data; fetch it with `git lfs pull`",
    b"<!doctype": _PAGE,
    b"<html": _PAGE,
    b"<?xml": "is XML, not data; the download went wrong",
    b"arrow1": "is an Arrow file; save it as parquet, or name its saved `datasets` folder",
    b"\x80": "is a pickle or another binary file; such files are never opened",
}


@dataclass(frozen=True)
class Part:
    """One file (or saved dataset) of a source.

    ``shown`` is its path as given, ``paths`` are the files that are read and hashed, ``notes`` are
    notes for the user.
    """

    shown: str
    paths: tuple[Path, ...]
    container: Container
    notes: tuple[str, ...] = ()
    held: Any = field(default=None, repr=False, compare=False)  # keeps a temporary file

    @property
    def unit(self) -> Literal["line", "row"]:
        """What the numbers of records count."""
        return "line" if self.container == "lines" else "row"

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.paths)

    def sha256(self) -> str:
        """Hash of the file's bytes; of several files, of their hashes in order."""
        hashes = [hash_file(path) for path in self.paths]
        return (
            hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        )

    def with_note(self, note: str) -> Part:
        """The same part with a further note for the user."""
        return replace(self, notes=(*self.notes, note))

    def records(self) -> Iterator[Record]:
        """Number, from 1, and value of each record, or the error of reading it.

        Raises:
            DataError: the file cannot be read to its end.
        """
        if self.container == "arrow":
            return arrow(self.paths)
        if self.container in ("parquet", "rows"):
            return parquet(self.paths[0])
        return self._texts(self.paths[0])

    def _texts(self, path: Path) -> Iterator[Record]:
        name = shown(self.shown)
        if self.container == "lines":
            with self.line_stream() as (stream, end):
                yield from _parsed(lines(stream, end))
            return
        with opened(path) as stream:
            if self.container == "csv":
                yield from csv_rows(stream, name)
            else:
                yield from _parsed(values(stream, name))

    @contextmanager
    def line_stream(self) -> Iterator[tuple[BufferedReader[Any], bytes]]:
        """The bytes of a line file after its byte order mark, and its line end."""
        with opened(self.paths[0]) as stream:
            yield stream, _line_end(stream)


def part_of(path: Path, given: str, held: Any = None) -> Part:
    """The part of one file.

    Raises:
        DataError: it is no data, or another kind of file than its name.
    """
    with opened(path) as stream:
        head = stream.read(_HEAD)
    name = shown(given)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in SUFFIXES:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    container = _parquet(path, name, head) or _text_container(name, head, suffix)
    part = Part(given, (path,), container, held=held)
    usual = _USUAL[container]
    if suffix not in usual and suffix in DATA:
        part = part.with_note(f"{name}: read as {_SPOKEN[container]}, in spite of its name")
    return part


_USUAL: Final[dict[Container, tuple[str, ...]]] = {
    "lines": (".jsonl", ".ndjson", ".json"),
    "values": (".json",),
    "csv": (".csv",),
    "parquet": (".parquet",),
    "rows": (".parquet",),
}
_SPOKEN: Final[dict[Container, str]] = {
    "lines": "JSON lines",
    "values": "a JSON array or objects over several lines",
    "csv": "CSV",
    "parquet": "parquet",
    "rows": "parquet",
}


def _parquet(path: Path, name: str, head: bytes) -> Container | None:
    if not head.startswith(b"PAR1"):
        return None
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            raise DataError(f"{name} is compressed parquet; decompress it first")
    return "rows" if set(BASE) <= set(parquet_columns(path)) else "parquet"


def _text_container(name: str, head: bytes, suffix: str) -> Container:
    start = head.removeprefix(_BOM).lstrip()
    for magic, what in _NOT_DATA.items():
        if start[: len(magic)].lower() == magic:
            raise DataError(f"{name} {what}")
    if head and not head.strip(b"\0"):
        raise DataError(f"{name} has nothing but NUL bytes; was the disk full?")
    if suffix == ".csv":
        return "csv"
    if suffix == ".parquet":
        raise DataError(
            f"{name} is not parquet: it begins with {start[:12]!r}; rename it, or get it again"
        )
    if suffix in DATA or (suffix not in _NEVER and start[:1] == b"{"):
        return _json_layout(start, suffix)
    raise DataError(
        f"{name} is none of the containers {', '.join(DATA)} (perhaps .gz or .zst); "
        "nothing else is opened, and code is never run"
    )


_NEVER: Final = (".py", ".pkl", ".pt", ".bin", ".sh", ".ipynb")


def _json_layout(start: bytes, suffix: str) -> Container:
    """Whether each line is a record; not so for an array, or an object over several lines.

    An array of turns is a record.
    """
    line = start.partition(b"\n")[0].strip()
    try:
        first: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        if len(start) == len(line) and _OPENS_TURNS.match(line):
            return "lines"  # a conversation that is longer than the head
        several = line == b"{" or (suffix == ".json" and b"\n" in start)
        return "values" if start[:1] == b"[" or several else "lines"
    if type(first) is not list:
        return "lines"
    if is_conversation(first):
        return "lines"
    array = suffix == ".json" or (first and all(map(_is_record, first)))
    return "values" if array else "lines"


def _is_record(value: Any) -> bool:
    return type(value) is dict or is_conversation(value)


_OPENS_TURNS: Final = re.compile(rb'\[\s*\{\s*"(role|content|from|value)"\s*:')


def _line_end(stream: BufferedReader[Any]) -> bytes:
    """A carriage return where a file has no other line end; skips a byte order mark."""
    head = stream.peek(_HEAD)
    if head.startswith(_BOM):
        stream.read(len(_BOM))
    return b"\r" if b"\r" in head[:-1] and b"\n" not in head else b"\n"


def _parsed(texts: Iterable[tuple[int, bytes | BadRow]]) -> Iterator[Record]:
    for number, text in texts:
        try:
            yield number, text if isinstance(text, BadRow) else parse(text)
        except BadRow as bad:
            yield number, bad
