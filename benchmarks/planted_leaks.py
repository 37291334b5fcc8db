"""Benchmark questions leaked into training rows, by a seed: what `contamination` finds of them.

    python -m benchmarks.planted_leaks --rows alpaca.jsonl --items gsm8k.jsonl --items prompts.jsonl

Into random rows, questions are put as they are, inside another text, by half, with a word in ten
left out, with other case and punctuation, as a prompt or in an answer. Prints the recall of each
kind with its 95 % interval (Wilson), also of short items (fewer than 13 words), and the share of
the untouched rows at or above each threshold.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from benchmarks.planted_copies import Row, interval, lines_of, read
from siftune.curate.core.registry import build
from siftune.curate.io.ingest import read_rows

THRESHOLDS: Final = (0.4, 0.45, 0.5, 0.6, 0.8)
_SHORT: Final = 13


def embedded(item: str, row: Row, _: Random) -> str:
    """The item between the two halves of a text."""
    words = row["output"].split(" ")
    return " ".join([*words[: len(words) // 2], item, *words[len(words) // 2 :]])


def half(item: str, _: Row, random: Random) -> str:
    """The first or second half of the words."""
    words = item.split(" ")
    middle = (len(words) + 1) // 2
    return " ".join(words[:middle] if random.random() < 0.5 else words[-middle:])


def lacking(item: str, _: Row, random: Random) -> str:
    """The item without a word in ten, one at least."""
    words = item.split(" ")
    left_out = set(random.sample(range(len(words)), max(1, len(words) // 10)))
    return " ".join(word for at, word in enumerate(words) if at not in left_out)


def repunctuated(item: str, _: Row, random: Random) -> str:
    """The item in capitals or small letters, with other punctuation."""
    text = item.upper() if random.random() < 0.5 else item.lower()
    for sign, other in ((",", " "), (".", " -"), ("?", "!"), ("'", "’"), ('"', "")):
        text = text.replace(sign, other)
    return text


KINDS: Final[Mapping[str, Callable[[str, Row, Random], str]]] = {
    "exact": lambda item, _, random: item,
    "embedded": embedded,
    "half": half,
    "words left out": lacking,
    "punctuation": repunctuated,
}


def main() -> None:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", required=True, help="Training rows in the layout of Alpaca.")
    parser.add_argument("--items", action="append", required=True, help="Items: question, prompt.")
    parser.add_argument("--most", type=int, default=500, help="Items of each file.")
    parser.add_argument("--options", type=json.loads, default={}, help="Options of the scorer.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the leaks.")
    asked = parser.parse_args()
    random = Random(asked.seed)
    items = []
    for path in asked.items:
        texts = {str(line.get("question") or line.get("prompt")) for line in lines_of(path)}
        items += random.sample(sorted(texts), min(asked.most, len(texts)))
    rows = read([asked.rows])
    untouched = scores(rows, items, asked.options)
    for name, threshold in (("false alarms", each) for each in THRESHOLDS):
        count = int((untouched >= threshold).sum())
        print(f"{name} at {threshold}: {count} of {len(rows)}, {interval(count, len(rows))}")
    leaks: list[Row] = []
    kinds: dict[str, list[int]] = defaultdict(list)
    for kind, change in KINDS.items():
        for side in ("instruction", "output"):
            for item in random.sample(items, len(items) // 4):
                row = random.choice(rows)
                length = "short" if len(item.split()) < _SHORT else "long"
                kinds[f"{kind}, {side}, {length}"].append(len(leaks))
                kinds[f"all {length}"].append(len(leaks))
                kinds["all"].append(len(leaks))
                leaks.append({**row, "input": "", side: change(item, row, random)})
    found = scores(leaks, items, asked.options)
    for kind, places in sorted(kinds.items()):
        shares = [
            interval(int((found[places] >= threshold).sum()), len(places))
            for threshold in THRESHOLDS
        ]
        print(f"{kind:36}{len(places):5}  {'  '.join(shares)}")


def scores(rows: list[Row], items: list[str], options: Mapping[str, object]) -> np.ndarray:
    """The overlap of each row."""
    with tempfile.TemporaryDirectory() as folder:
        written: dict[str, list[Row]] = {
            "rows": rows,
            "items": [{"prompt": text} for text in items],
        }
        for name, lines in written.items():
            text = "".join(json.dumps(dict(line)) + "\n" for line in lines)
            Path(folder, f"{name}.jsonl").write_text(text, "utf-8")
        against = {"path": f"{folder}/items.jsonl", "format": "prompt_only"}
        scorer = build("curate.scorers", "contamination", {"against": against, **options})
        found = scorer(read_rows(f"{folder}/rows.jsonl")[0])
        shares: np.ndarray = found["contamination_overlap"].to_numpy()
        return shares


if __name__ == "__main__":
    main()
