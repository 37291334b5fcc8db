"""Mutated files of every container: each is refused in a line, or no record of it is lost.

``python -m tests.fuzz.containers`` runs them by the thousand, a few hundred in a process, which has
limits of time and memory.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from siftune.curate.core.errors import SiftuneError
from siftune.curate.core.terminal import one_message
from siftune.curate.io.sources import plan
from tests.fuzz.counts import counted

__all__ = ["CONTAINERS", "mutated", "problem_of", "write"]

CONTAINERS: Final = ("jsonl", "json", "parquet", "csv", "zst", "gz", "arrow")
SECONDS: Final = 60
"""Bound of one file."""
GIBIBYTES: Final = 2
_CHUNK: Final = 250  # files of a process
_ROWS: Final = [
    {"instruction": f"Say {i}: é {'x' * (i % 7)}", "input": "", "output": f'{i}\n{{}}, ["{i}"]'}
    for i in range(20)
]
_NASTY: Final = (
    *(b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"\r", b'"', b"{", b"}", b"[", b"\\ud800", b"\\"),
    *(b"NaN", b"1e999", b"9" * 40, b"null", b"\xe2\x80\xa8", b"[" * 200, b'{"a":' * 140, b",", b""),
)


def whole(container: str) -> bytes:
    """An undamaged file of a container; of ``arrow``, the stream of a saved dataset."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _ROWS).encode()
    made: Mapping[str, Callable[[], bytes]] = {
        "jsonl": lambda: lines,
        "json": lambda: json.dumps(_ROWS, indent=1).encode(),
        "csv": _csv,
        "parquet": _parquet,
        "arrow": _arrow,
        "zst": lambda: zstandard.ZstdCompressor(write_checksum=True).compress(lines),
        "gz": lambda: gzip.compress(lines, mtime=0),
    }
    return made[container]()


def _csv() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_ROWS[0]))
    writer.writeheader()
    writer.writerows(_ROWS)
    return text.getvalue().encode()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(_ROWS), sink, write_page_checksum=True)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(_ROWS)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def mutated(content: bytes, draw: random.Random) -> bytes:
    """``content`` after one to four random changes."""
    for _ in range(draw.randint(1, 4)):
        content = draw.choice(_MUTATIONS)(content, draw)
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(max(len(content), 1))
    return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _put(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content) + 1)
    return content[:at] + draw.choice(_NASTY) + content[at:]


def _drop(content: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(content) + 1), draw.randint(1, 40)
    return content[:at] + content[at + size :]


def _again(content: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(content) + 1), draw.randint(1, 400)
    return content[: at + size] + content[at:]


def _number(content: bytes, draw: random.Random) -> bytes:
    """Four bytes that a header may hold as a length."""
    at = draw.randrange(len(content) + 1)
    value = draw.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**16, draw.randrange(2**32)])
    return content[:at] + value.to_bytes(4, "little") + content[at + 4 :]


_MUTATIONS: Final = (_flip, _flip, _cut, _put, _put, _drop, _again, _number)


def write(container: str, content: bytes, folder: Path) -> Path:
    """Write the file, or the saved dataset, that is to be read; its path."""
    suffix = {"zst": "jsonl.zst", "gz": "jsonl.gz"}.get(container, container)
    if container != "arrow":
        path = folder / f"d.{suffix}"
        path.write_bytes(content)
        return path
    (folder / "state.json").write_text('{"_data_files": [{"filename": "d.arrow"}]}')
    (folder / "d.arrow").write_bytes(content)
    return folder


def problem_of(path: Path, container: str, content: bytes) -> str | None:
    """What is wrong with how the file is read; None where nothing is."""
    try:
        reading = plan([str(path)], None, None)
        records = taken = 0
        reasons: Counter[str] = Counter()
        for batch in reading.batches():
            records += batch.records
            taken += batch.taken
            reasons.update(row["reason"] for row in batch.bad)
    except SiftuneError as error:
        text = one_message(str(error))  # as a command prints it
        return None if "\n" not in text and str(path) in text else f"not a line: {text!r}"
    except Exception as error:  # what the fuzz looks for
        return f"{type(error).__name__}: {error}"
    if records != taken + reasons.total():
        return f"{records} records, but {taken} taken and {reasons.total()} set aside"
    expected = counted(container, content)
    if expected is None or expected == records:
        return None
    if records > expected and reasons["not_csv"]:
        return None  # the rest of a record with a quote out of place is set aside line by line
    return f"{records} records of {expected}"


def _tried(container: str, first: int, count: int) -> Iterator[tuple[int, str]]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(first, first + count):
            signal.alarm(SECONDS)
            content = mutated(whole(container), random.Random(f"{container}-{seed}"))
            problem = problem_of(write(container, content, folder), container, content)
            if problem is not None:
                yield seed, problem
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if peak > GIBIBYTES:
        yield first, f"{peak:.1f} GiB of memory"


def _apart(container: str, first: int, count: int) -> int:
    """Try ``count`` files in a process of their own; how many fail, each is told."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        found = [f"{container} {seed}: {text}" for seed, text in _tried(container, first, count)]
        os.write(writer, "\n".join(found).encode(errors="replace")[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        lines = stream.read().splitlines()
    _, status = os.waitpid(child, 0)
    if status:
        last = first + count - 1
        lines.append(f"{container} {first} to {last}: the process ended with {status}")
    print("\n".join(lines), end="\n" if lines else "", file=sys.stderr)
    return len(lines)


def main() -> int:
    """Mutate and read files of all containers, or of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files of each container")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--only", choices=CONTAINERS)
    given = parser.parse_args()
    total, start = 0, time.monotonic()
    for container in [given.only] if given.only else CONTAINERS:
        starts = range(given.first, given.first + given.count, _CHUNK)
        stop = given.first + given.count
        failed = sum(_apart(container, at, min(_CHUNK, stop - at)) for at in starts)
        print(f"{container}: {given.count:,} files, {failed} failures", flush=True)
        total += failed
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    print(f"{total} failures; {cpu:.0f} CPU seconds, {time.monotonic() - start:.0f} by the clock")
    return int(bool(total))


if __name__ == "__main__":
    sys.exit(main())
