"""Time of `contamination` on many made-up rows and items, and of its embedding, by a seed.

    python -m benchmarks.contamination_scale --rows 1000000 --items 10000 --embedded 1000

Rows are batches of one set of made-up texts, prompts and answers paired anew in each; one prompt in
a thousand is an item. Prints CPU and wall seconds of the search by words (the rows are made and
read outside the clock), the leaks found at 0.45, the other rows at or above that, and with
``--embedded`` the CPU seconds of a thousand rows with a model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import made_up
from siftune.curate.core.registry import build
from siftune.curate.io.ingest import read_rows

_BATCH = 50_000
_EVERY = 1000  # rows of which one has an item for a prompt
_LEAK = 0.45
_SOME = 100  # items of the embedding: each costs as much as a row


def written(folder: str, name: str, columns: Mapping[str, pl.Series]) -> str:
    """The path of JSON lines of the columns."""
    path = Path(folder, f"{name}.jsonl")
    pl.DataFrame(columns).write_ndjson(path)
    return str(path)


def measure(rows: int, items: int, embedded: int, seed: int) -> dict[str, float]:
    """The figures, by name."""
    random = np.random.default_rng(seed)
    asked = made_up.texts(items, 2, random)
    prompts, answers = (made_up.texts(min(rows, _BATCH), count, random) for count in (1, 4))
    found = dict.fromkeys(("cpu_seconds", "wall_seconds", "leaks", "found", "false"), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        against = {"path": written(folder, "items", {"prompt": asked}), "format": "prompt_only"}
        scorer = build("curate.scorers", "contamination", {"against": against})
        scorer(
            read_rows(
                written(folder, "few", {"instruction": asked.head(9), "output": asked.head(9)})
            )[0]
        )
        for start in range(0, rows, _BATCH):
            count = min(_BATCH, rows - start)
            own = random.permutation(len(prompts))[:count]
            leaked = np.arange(start, start + count) % _EVERY == 0
            texts = prompts.gather(own).scatter(
                np.flatnonzero(leaked), asked.gather(random.integers(0, items, leaked.sum()))
            )
            batch = {"instruction": texts, "output": answers.sample(count, seed=start)}
            table = read_rows(written(folder, "rows", batch))[0]
            before = time.process_time(), time.perf_counter()
            overlap = scorer(table)["contamination_overlap"].to_numpy()
            found["cpu_seconds"] += time.process_time() - before[0]
            found["wall_seconds"] += time.perf_counter() - before[1]
            found["leaks"] += int(leaked.sum())
            found["found"] += int((overlap[leaked] >= _LEAK).sum())
            found["false"] += int((overlap[~leaked] >= _LEAK).sum())
        if embedded:
            path = written(folder, "some", {"prompt": asked.head(_SOME)})
            some = {"against": {"path": path, "format": "prompt_only"}, "model": "minilm"}
            scorer = build("curate.scorers", "contamination", some)
            scorer(table.head(8))  # loads the model and embeds the items
            before = time.process_time(), time.perf_counter()
            scorer(table.slice(8, embedded))
            found["embedding_cpu_seconds"] = time.process_time() - before[0]
            found["embedding_wall_seconds"] = time.perf_counter() - before[1]
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="Rows that are searched.")
    parser.add_argument("--items", type=int, default=10_000, help="Items that are searched for.")
    parser.add_argument("--embedded", type=int, default=0, help="Rows to embed, too.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the texts.")
    asked = parser.parse_args()
    print(json.dumps(measure(asked.rows, asked.items, asked.embedded, asked.seed)))


if __name__ == "__main__":
    main()
