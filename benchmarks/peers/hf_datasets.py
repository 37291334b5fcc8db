"""datasets: `load_dataset` of JSON lines for the first time, and a filter by hashes seen."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import datasets
import xxhash

from benchmarks.worker import Facts, Options, few_lines, serve, timed


def work(options: Options) -> Facts:
    """Options: source (JSON lines) or texts (Parquet)."""
    facts: Facts = {}
    datasets.disable_progress_bars()
    folder = tempfile.mkdtemp()
    if "source" in options:
        _load(few_lines(options["source"], folder), folder)
        with timed(facts):
            facts["rows_read"] = len(_load(options["source"], folder))
    else:
        read = datasets.Dataset.from_parquet(options["texts"], cache_dir=folder)
        len(_distinct(read.select(range(min(600, len(read))))))  # loads what is loaded once
        with timed(facts):
            facts["kept"] = len(_distinct(read))
    shutil.rmtree(folder)
    return facts


def _load(source: str, folder: str) -> Any:
    return datasets.load_dataset("json", data_files=source, split="train", cache_dir=folder)


def _distinct(read: Any) -> Any:
    seen: set[int] = set()

    def new(texts: list[str]) -> list[bool]:
        found = []
        for text in texts:
            hashed = xxhash.xxh3_64_intdigest(text.encode())
            found.append(hashed not in seen)
            seen.add(hashed)
        return found

    return read.filter(new, input_columns="text", batched=True)


if __name__ == "__main__":
    serve(work)
