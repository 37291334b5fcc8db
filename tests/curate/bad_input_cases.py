"""Odd and broken input, each with the outcome that `curate/DESIGN.md` states for it.

A case makes its files in a folder and says what must come of them: the ids that are kept, those in
quarantine with their reasons, or a refusal and words that its one line must hold. The ``source``
to give is the folder's entry named by ``source``.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """``keeps``: rows kept; ``bad``: line or row -> reason; ``refused``: words of the refusal."""

    name: str
    make: Callable[[Path], object]
    keeps: tuple[int, ...] = ()
    bad: dict[int, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    source: str = "data.jsonl"
    extra: dict[int, Any] = field(default_factory=dict)  # row -> its `extra`, where that matters


def row(at: int, /, **other: Any) -> dict[str, Any]:
    return {"instruction": f"Say {at}.", "output": f"{at}"} | other


def line(at: int, /, **other: Any) -> bytes:
    return json.dumps(row(at, **other), ensure_ascii=False).encode() + b"\n"


GOOD = line(1) + line(2)


def put(content: bytes, name: str = "data.jsonl") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def third(text: bytes) -> Callable[[Path], object]:
    """Two good lines, the odd one as line 3, and a good line 4 after it."""
    return put(GOOD + text + b"\n" + line(4))


def quarantined(name: str, text: bytes, reason: str) -> Case:
    return Case(name, third(text), keeps=(1, 2, 4), bad={3: reason})


def kept(name: str, text: bytes, **extra: Any) -> Case:
    return Case(name, third(text), keeps=(1, 2, 3, 4), extra={3: extra} if extra else {})


def refused(name: str, content: bytes, *words: str, file: str = "data.jsonl") -> Case:
    return Case(name, put(content, file), refused=(file, *words), source=file)


def table(rows: list[dict[str, Any]], **options: Any) -> Callable[[Path], object]:
    return lambda folder: pq.write_table(
        pa.Table.from_pylist(rows), folder / "d.parquet", **options
    )


def text_of(at: int, /, **change: str) -> bytes:
    """A line whose output is raw JSON text."""
    raw = {"instruction": '"a"', "output": '"b"', "at": str(at)} | change
    return ("{" + ", ".join(f'"{key}": {value}' for key, value in raw.items()) + "}").encode()


LINES = [
    Case("two clean lines", put(GOOD), keeps=(1, 2)),
    Case("no line end at the end", put(GOOD.rstrip()), keeps=(1, 2)),
    Case("one line without an end", put(line(1).rstrip()), keeps=(1,)),
    Case("last line cut off", put(GOOD + line(3)[:20]), keeps=(1, 2), bad={3: "not_json"}),
    quarantined("garbage in the middle", b"@@@ not json @@@", "not_json"),
    quarantined("two objects on a line", line(3).strip() + b" " + line(5).strip(), "not_json"),
    quarantined("trailing comma", line(3).strip() + b",", "not_json"),
    quarantined("single quotes", b"{'instruction': 'a', 'output': 'b'}", "not_json"),
    quarantined("comment", b"// a comment", "not_json"),
    quarantined("number instead of a row", b"5", "not_an_object"),
    quarantined("text instead of a row", b'"hello"', "not_an_object"),
    quarantined("null instead of a row", b"null", "not_an_object"),
    quarantined("list instead of a row", b"[1, 2]", "not_an_object"),
    quarantined("NaN", text_of(3, at="NaN"), "not_a_number"),
    quarantined("Infinity", text_of(3, at="-Infinity"), "not_a_number"),
    quarantined("float too large", text_of(3, at="1e999"), "number_too_large"),
    quarantined("integer of 5,000 digits", text_of(3, at="9" * 5000), "number_too_large"),
    kept("integer beyond 64 bits", text_of(3, at=str(2**70)), at=2**70),
    kept("integer beyond 63 bits", text_of(3, at=str(2**63)), at=2**63),
    quarantined(
        "duplicate key", b'{"instruction": "a", "output": "b", "output": "c"}', "duplicate_key"
    ),
    quarantined(
        "duplicate key below",
        b'{"instruction": "a", "output": "b", "m": {"k" : 1, "k":2}}',
        "duplicate_key",
    ),
    kept(
        "text that looks like a key",
        line(3, m={"k": '{"k": "k": '}).strip(),
        m={"k": '{"k": "k": '},
    ),
    Case("blank lines", put(b"\n" + line(2) + b"\n  \t\n" + line(5) + b"\n\n"), keeps=(2, 5)),
    Case("CRLF", put(GOOD.replace(b"\n", b"\r\n")), keeps=(1, 2)),
    Case("CR only", put((GOOD + line(3)).replace(b"\n", b"\r")), keeps=(1, 2, 3)),
    Case("byte order mark", put(b"\xef\xbb\xbf" + GOOD), keeps=(1, 2)),
    refused(
        "UTF-16",
        "\ufeff".encode("utf-16-le") + GOOD.decode().encode("utf-16-le"),
        "UTF-16",
        "iconv",
    ),
    quarantined("Latin-1 byte", b'{"instruction": "caf\xe9", "output": "b"}', "invalid_utf8"),
    quarantined("overlong UTF-8", b'{"instruction": "\xc0\xaf", "output": "b"}', "invalid_utf8"),
    quarantined(
        "surrogate as UTF-8", b'{"instruction": "\xed\xa0\x80", "output": "b"}', "invalid_utf8"
    ),
    quarantined("raw NUL", b'{"instruction": "a\x00", "output": "b"}', "nul_byte"),
    kept("escaped NUL", text_of(3, at='"x\\u0000y"'), at="x\0y"),
    quarantined("lone high surrogate", text_of(3, output='"\\ud83d"'), "lone_surrogate"),
    quarantined("lone low surrogate", text_of(3, output='"\\ude00 a"'), "lone_surrogate"),
    kept("surrogate pair", text_of(3, at='"\\ud83d\\ude00"'), at="😀"),
    kept(
        "line separators in text",
        line(3, at="a\u2028b\u2029c\u0085d").strip(),
        at="a\u2028b\u2029c\u0085d",
    ),
    quarantined("100,000 levels", b"[" * 100_000, "too_deep"),
    quarantined("100,000 levels, closed", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
    quarantined("200 levels", text_of(3, at="[" * 200 + "]" * 200), "too_deep"),
    kept("100 levels", text_of(3, at="[" * 100 + "]" * 100)),
    Case(
        "key first seen late",
        put(b"".join(line(at) for at in range(1, 301)) + line(301, late="here")),
        keeps=tuple(range(1, 302)),
        extra={301: {"late": "here"}},
    ),
    Case(
        "null, then text",
        put(line(1, t=None) + line(2, t="x")),
        keeps=(1, 2),
        extra={1: {"t": None}, 2: {"t": "x"}},
    ),
    Case(
        "integer, then float",
        put(line(1, n=1) + line(2, n=1.5)),
        keeps=(1, 2),
        extra={1: {"n": 1}, 2: {"n": 1.5}},
    ),
    Case(
        "number, then list", put(line(1, n=1) + line(2, n=[1])), keeps=(1, 2), extra={2: {"n": [1]}}
    ),
    kept("text that looks like a date", line(3, at="2024-01-02").strip(), at="2024-01-02"),
    kept("text with leading zeros", line(3, at="007").strip(), at="007"),
    kept("another order of keys", b'{"output": "b", "instruction": "a"}'),
    refused("0 bytes", b"", "empty"),
    refused("only blank lines", b"\n\n  \n", "no row"),
    refused("only NUL bytes", b"\0" * 4096, "NUL"),
    Case("NUL tail", put(GOOD + b"\0" * 512), keeps=(1, 2), bad={3: "nul_byte"}),
    Case("array under a lines name", put(json.dumps([row(1), row(2)]).encode()), keeps=(1, 2)),
    Case(
        "indented object under a lines name", put(json.dumps(row(1), indent=2).encode()), keeps=(1,)
    ),
    refused("web page", b"<!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
    refused(
        "Git LFS pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        "git lfs pull",
    ),
    refused("error body", b'{"error": "Not found", "status": 404}', "keys error, status"),
    refused("no line is JSON", b"a\nb\n", "no row can be read", "line 1", "not_json"),
    kept("row of 5 MB", line(3, at="x" * 5_000_000).strip()),
    kept("20,000 keys", line(3, at={str(n): n for n in range(20_000)}).strip()),
    kept("empty texts", b'{"instruction": "", "output": ""}'),
    quarantined("field missing", b'{"instruction": "a"}', "missing_field"),
    quarantined("field null", b'{"instruction": "a", "output": null}', "missing_field"),
    quarantined("field a number", b'{"instruction": "a", "output": 5}', "wrong_type"),
    quarantined("only an id", b'{"id": 3}', "missing_field"),
    quarantined("empty object", b"{}", "missing_field"),
    Case(
        "ids given twice",
        put(line(1, id=7) + line(2, id=7)),
        keeps=(1, 2),
        extra={1: {"id": 7}, 2: {"id": 7}},
    ),
    kept("id that climbs folders", line(3, id="../../x").strip(), id="../../x"),
    kept("terminal escapes", line(3, at="\x1b[31mred").strip(), at="\x1b[31mred"),
]


def chat(text: bytes, reason: str, name: str) -> Case:
    good = b'{"messages": [{"role": "user", "content": "a"}]}\n'
    make = put(good + good + text + b"\n" + good)
    return Case(name, make, keeps=(1, 2, 4), bad={3: reason})


CHATS = [
    chat(b'{"messages": []}', "empty_conversation", "conversation without turns"),
    chat(b'{"messages": null}', "missing_field", "conversation null"),
    chat(b'{"messages": [{"role": "wizard", "content": "x"}]}', "unknown_role", "unknown role"),
    chat(
        b'{"messages": [{"role": "assistant", "content": null}]}', "missing_field", "content null"
    ),
    chat(b'{"messages": ["x"]}', "wrong_type", "turn that is a text"),
    chat(
        b'{"messages": [{"role": "user", "content": [{"type": "image"}]}]}',
        "not_text",
        "image part",
    ),
]


def flipped(folder: Path) -> None:
    """One byte of a page changed; its checksum is not."""
    table([row(at, pad=os.urandom(200).hex()) for at in range(50)], write_page_checksum=True)(
        folder
    )
    path = folder / "d.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def zst(content: bytes) -> bytes:
    return zstandard.compress(content)


CRC = zipped(GOOD * 50)
FILES = [
    Case("gzip", put(zipped(GOOD), "d.jsonl.gz"), keeps=(1, 2), source="d.jsonl.gz"),
    Case("gzip of two members", put(zipped(line(1)) + zipped(line(2))), keeps=(1, 2)),
    Case("zstd", put(zst(GOOD), "d.jsonl.zst"), keeps=(1, 2), source="d.jsonl.zst"),
    Case(
        "zstd behind a frame for other data",
        put(b"\x5e\x2a\x4d\x18\x03\0\0\0abc" + zst(GOOD), "d.jsonl.zst"),
        keeps=(1, 2),
        source="d.jsonl.zst",
    ),
    Case("zstd of two frames", put(zst(line(1)) + zst(line(2))), keeps=(1, 2)),
    Case("gzip under a plain name", put(zipped(GOOD)), keeps=(1, 2)),
    Case("plain under a gzip name", put(GOOD, "d.jsonl.gz"), keeps=(1, 2), source="d.jsonl.gz"),
    refused("gzip cut off", CRC[:-20], "damaged", file="d.jsonl.gz"),
    refused(
        "gzip with a wrong checksum",
        CRC[:-8] + b"\0\0\0\0" + CRC[-4:],
        "damaged",
        file="d.jsonl.gz",
    ),
    refused(
        "zstd cut off", zst(GOOD * 50)[:-4], "damaged", "middle of a frame", file="d.jsonl.zst"
    ),
    refused("zstd damaged", zst(GOOD)[:6] + b"\xff" * 40, "damaged", file="d.jsonl.zst"),
    refused("xz", b"\xfd7zXZ\x00rest", "xz"),
    refused("XML", b"<?xml version='1.0'?><Error/>", "XML"),
    refused("UTF-16, big end first", "\ufeff{}".encode("utf-16-be"), "UTF-16", "iconv"),
    refused("zip archive", b"PK\x03\x04rest", "zip archive", file="d.zip"),
    refused("bzip2", b"BZh91AY", "bzip2"),
    refused("pickle", b"\x80\x04\x95", "never opened", file="d.pkl"),
    refused("code", b"print('ran')\n", "never run", file="data.py"),
    refused("unknown kind of file", b"hello\n", "none of the containers", file="d.xyz"),
    Case("missing file", lambda folder: None, refused=("data.jsonl", "no such file")),
    Case(
        "link to nowhere",
        lambda d: (d / "data.jsonl").symlink_to(d / "x"),
        refused=("data.jsonl", "link"),
    ),
    Case(
        "link to itself",
        lambda d: (d / "data.jsonl").symlink_to(d / "data.jsonl"),
        refused=("data.jsonl", "link"),
    ),
    Case(
        "folder without data",
        lambda d: (d / "data.jsonl").mkdir(),
        refused=("data.jsonl", "no data file"),
    ),
    Case(
        "JSON array",
        put(json.dumps([row(1), row(2)], indent=1).encode(), "d.json"),
        keeps=(1, 2),
        source="d.json",
    ),
    Case("lines under a JSON name", put(GOOD, "d.json"), keeps=(1, 2), source="d.json"),
    Case(
        "bad element of a JSON array",
        put(b"[" + line(1) + b", {'x': 1}, 5," + line(4) + b"]", "d.json"),
        keeps=(1, 4),
        bad={2: "not_json", 3: "not_an_object"},
        source="d.json",
    ),
    refused(
        "JSON array cut off",
        json.dumps([row(1), row(2)]).encode()[:-9],
        "middle of a value",
        file="d.json",
    ),
    refused(
        "two JSON arrays",
        b"[" + line(1) + b"]\n[" + line(2) + b"]",
        "follows the end",
        file="d.json",
    ),
    refused("empty JSON array", b"[]", "no row", file="d.json"),
]

PARQUET = [
    Case("parquet", table([row(1), row(2)]), keeps=(1, 2), source="d.parquet"),
    Case(
        "parquet with dictionaries",
        table([row(1)] * 3, use_dictionary=True),
        keeps=(1, 2, 3),
        source="d.parquet",
    ),
    refused("parquet of 0 bytes", b"", "empty", file="d.parquet"),
    refused("JSON lines under a parquet name", GOOD, "not parquet", file="d.parquet"),
    refused("parquet without its end", b"PAR1" + b"\0" * 64, "damaged", file="d.parquet"),
    Case(
        "parquet without rows",
        lambda d: (
            table([row(1)])(d)
            or pl.read_parquet(d / "d.parquet").head(0).write_parquet(d / "d.parquet")
        ),
        refused=("d.parquet", "has none"),
        source="d.parquet",
    ),
    Case(
        "parquet page with a wrong checksum",
        flipped,
        refused=("d.parquet", "damaged"),
        source="d.parquet",
    ),
    Case(
        "parquet null",
        table([row(1), row(2), {"instruction": "a", "output": None}]),
        keeps=(1, 2),
        bad={3: "missing_field"},
        source="d.parquet",
    ),
    Case(
        "parquet bytes column",
        table([row(1, output=b"x")]),
        refused=("set aside", "wrong_type", "'output' is bytes"),
        source="d.parquet",
    ),
    Case(
        "parquet times, decimals, bytes, NaN",
        table([row(1, t=datetime(2024, 1, 2), d=Decimal("1.50"), b=b"x", n=float("nan"))]),
        keeps=(1,),
        extra={1: {"t": "2024-01-02T00:00:00", "d": "1.50", "b": "eA==", "n": None}},
        source="d.parquet",
    ),
    Case(
        "parquet that only looks like a table of ours",
        table([dict.fromkeys(("id", "source", "row", "digest", "extra"), "x") | {"kind": "text"}]),
        refused=("d.parquet", "looks like a table that siftune wrote", "'row' is String"),
        source="d.parquet",
    ),
    Case(
        "parquet column missing",
        table([{"instruction": "a"}]),
        refused=("no format", "instruction"),
        source="d.parquet",
    ),
    Case(
        "parquet under a lines name",
        lambda d: table([row(1)])(d) or (d / "d.parquet").rename(d / "data.jsonl"),
        keeps=(1,),
    ),
    Case(
        "parquet in gzip",
        lambda d: (
            table([row(1)])(d)
            or (d / "data.jsonl.gz").write_bytes(zipped((d / "d.parquet").read_bytes()))
        ),
        refused=("data.jsonl.gz", "compressed parquet"),
        source="data.jsonl.gz",
    ),
]

CSV = [
    Case("CSV", put(b"instruction,output\na,b\n", "d.csv"), keeps=(1,), source="d.csv"),
    Case(
        "CSV with lines in a cell",
        put(b'instruction,output\n"a\nb",c\nd,e\n', "d.csv"),
        keeps=(1, 2),
        source="d.csv",
    ),
    Case(
        "CSV texts NA, null, nan",
        put(b"instruction,output,t\nNA,null,nan\n", "d.csv"),
        keeps=(1,),
        source="d.csv",
        extra={1: {"t": "nan"}},
    ),
    Case(
        "CSV with a short row",
        put(b"instruction,output\na,b\nc\nd,e\n", "d.csv"),
        keeps=(1, 3),
        bad={2: "wrong_width"},
        source="d.csv",
    ),
    Case(
        "CSV not UTF-8",
        put(b"instruction,output\na,b\ncaf\xe9,d\n", "d.csv"),
        keeps=(1,),
        bad={2: "invalid_utf8"},
        source="d.csv",
    ),
    Case(
        "CSV with a BOM and CRLF",
        put(b"\xef\xbb\xbfinstruction,output\r\na,b\r\n", "d.csv"),
        keeps=(1,),
        source="d.csv",
    ),
    Case(
        "CSV quote amid a cell",
        put(b'instruction,output\n"a"x,b\nc,d\n', "d.csv"),
        keeps=(2,),
        bad={1: "not_csv"},
        source="d.csv",
    ),
    refused(
        "CSV quote never closed",
        b'instruction,output\na,b\n"c,d\ne,f\n',
        "line 3",
        "never closed",
        file="d.csv",
    ),
    refused(
        "CSV header not UTF-8", b"instruction,caf\xe9\na,b\n", "line 1", "not UTF-8", file="d.csv"
    ),
    refused("CSV column twice", b"instruction,instruction\na,b\n", "twice", file="d.csv"),
    refused("CSV with a header only", b"instruction,output\n", "has none", file="d.csv"),
]


def named(name: str) -> Case:
    return Case(f"file called {name!r}", put(GOOD, name), keeps=(1, 2), source=name)


def shards(*contents: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "s").mkdir()
        for at, content in enumerate(contents):
            (folder / "s" / f"{at:03}.jsonl").write_bytes(content)

    return make


def with_code(folder: Path) -> None:
    shards(line(1))(folder)
    (folder / "s" / "s.py").write_text("raise SystemExit('ran')")
    (folder / "s" / ".hidden.jsonl").write_text("x")


NAMES = [
    named("a b.jsonl"),
    named("-o.jsonl"),
    named("é😀.jsonl"),
    named("[x].jsonl"),
    named("{a,b}.jsonl"),
    named("$(touch x);`.jsonl"),
    named("a\nb.jsonl"),
    named("DATA.JSONL"),
    Case("folder of 500 shards", shards(*[line(1)] * 500), keeps=(1,) * 500, source="s"),
    Case("glob of shards", shards(line(1), line(1)), keeps=(1, 1), source="s/*.jsonl"),
    Case("one empty shard", shards(line(1), b""), refused=("001.jsonl", "empty"), source="s"),
    Case(
        "one shard of other rows",
        shards(GOOD, b'{"a": 1}\n'),
        refused=("001.jsonl", "no format fits rows with the keys a"),
        source="s",
    ),
    Case("code and hidden files beside data", with_code, keeps=(1,), source="s"),
    Case(
        "glob that matches nothing",
        lambda d: None,
        refused=("no file matches",),
        source="s/*.jsonl",
    ),
]

CASES = {case.name: case for case in [*LINES, *CHATS, *FILES, *PARQUET, *CSV, *NAMES]}
