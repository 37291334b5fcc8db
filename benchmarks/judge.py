"""Speed and memory of the judge's engine; `python -m benchmarks.judge` prints a table.

The judge is scripted, so what is measured is everything but the model: prompts, fences, the cache,
parsing, and over HTTP the client. The server on loopback is a process of its own that answers each
request at once. `--command-rows` runs `siftune curate judge` on files of so many rows, each with a
new project, and has reading, writing and the start of the program in it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.types import AsyncBackend, Backend, Item, Question
from siftune.curate.judge_tasks.alpagasus import AlpaGasus
from siftune.curate.judges.scripted import Scripted

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "by", "the", "sea")
_SERVER = """
import asyncio, json
BODY = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message":
    {"role": "assistant", "content": "4"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
HEAD = f"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: {len(BODY)}\\r\\n"
async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\\r\\n\\r\\n"):
            size = head.lower().partition(b"content-length:")[2].partition(b"\\r")[0]
            await reader.readexactly(int(size))
            writer.write((HEAD + "\\r\\n" + BODY).encode())
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def four(question: Question) -> str:
    """The scripted judge: it gives every answer a 4."""
    return "4"


def items(number: int) -> Iterator[Item]:
    """Rows of about 100 words, all different."""
    text = " ".join(_WORDS * 8)
    for row in range(number):
        yield Item(
            (("user", f"Question {row}: {_WORDS[row % len(_WORDS)]}?"),), (f"{row}. {text}",)
        )


def judged(backend: Backend | AsyncBackend, rows: int) -> list[float]:
    """Judgements per second, and CPU ms each; with a new cache, then with all answers in it."""
    task, figures = AlpaGasus(explanation=False), []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            start, used = time.perf_counter(), time.process_time()
            judge = Judge(backend, task, cache=Path(folder) / "judge.sqlite")
            if any(verdict.values != {"rating": 4.0} for verdict in judge.verdicts(items(rows))):
                raise SystemExit("a verdict is not the one that the script gave")
            seconds = time.perf_counter() - start
            figures += [rows / seconds, (time.process_time() - used) / rows * 1000]
    return figures


def by_command(rows: int) -> list[float]:
    """Rows per second, CPU ms each and peak MB of the command, on a file of rows of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        with source.open("w") as file:
            for item in items(rows):
                row = {"prompt": item.prompt[0][1], "completion": item.answers[0]}
                file.write(json.dumps(row) + "\n")
        (Path(folder) / "judge.py").write_text("def four(question):\n    return '4'\n")
        words = [
            "-m",
            "siftune",
            "curate",
            "judge",
            source.name,
            "--judge",
            "scripted:judge.py:four",
        ]
        words += ["--task", "alpagasus", "--task-options", "explanation=false", "--out", "judged"]
        root = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        kept = Path(folder) / "judged" / "kept.parquet"
        if process.returncode or set(pl.read_parquet(kept)["judge_rating"]) != {4.0}:
            raise SystemExit("the command failed, or a verdict is not the one that the script gave")
        cost = (used.ru_utime + used.ru_stime) / rows * 1000
        return [rows / seconds, cost, used.ru_maxrss / 1024]


def over_http(rows: int) -> list[float]:
    """The same over HTTP on loopback, 32 requests in flight."""
    from siftune.curate.judges.server import Server

    process = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        server = Server(f"http://127.0.0.1:{port}/v1", "four")
        judged(server, 1)  # imports the client
        return judged(server, rows)
    finally:
        process.kill()
        process.wait()


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="rows in this process")
    parser.add_argument("--http-rows", type=int, default=2_000, help="rows over HTTP; 0: none")
    parser.add_argument(
        "--command-rows", type=int, nargs="*", default=[], help="rows of runs of the whole command"
    )
    asked = parser.parse_args(words)
    print(
        "| judge | rows | judgements/s | CPU ms each | from the cache/s | CPU ms each | peak MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, rows, run in (
        ("scripted, in process", asked.rows, lambda rows: judged(Scripted(four), rows)),
        ("HTTP on loopback", asked.http_rows, over_http),
    ):
        if rows:
            first, cost, again, less = run(rows)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            figures = f"{first:,.0f} | {cost:.2f} | {again:,.0f} | {less:.2f} | {peak:,.0f}"
            print(f"| {name} | {rows:,} | {figures} |", flush=True)
    for rows in asked.command_rows:
        first, cost, peak = by_command(rows)
        print(f"| the command | {rows:,} | {first:,.0f} | {cost:.2f} | - | - | {peak:,.0f} |")


if __name__ == "__main__":
    main()
