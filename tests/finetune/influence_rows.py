"""Rows that tests of scorers with gradients share: chats, targets and pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from tests.curate.lm_reference import BOT, USER

__all__ = ["CHATS", "PAIRS", "TARGETS", "jsonl", "pairs_table"]

CHATS = [
    [(USER, f"What is the {word}?"), (BOT, f"The {word} is {text}")]
    for word, text in (
        ("cat", "on the mat."),
        ("sea", "blue and good, yes."),
        ("king", "bad."),
        ("colour", "red"),
        ("capital", "Paris, Paris"),
    )
]
TARGETS = [
    {"prompt": "Name a colour.", "completion": "Blue is a colour.", "task": "colour"},
    {"prompt": "Say hello.", "completion": "Hello, king!", "task": "hello"},
    {"prompt": "Name another colour.", "completion": "Red.", "task": "colour"},
]
PAIRS = [
    {"prompt": f"Name a {word}.", "chosen": f"The {word}.", "rejected": text}
    for word, text in (("cat", "No."), ("king", "I am bad, yes."), ("sea", "Two plus two"))
]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def pairs_table(rows: list[dict[str, str]]) -> pl.DataFrame:
    sides = {"prompt": USER, "chosen": BOT, "rejected": BOT}
    return pl.DataFrame(
        {
            side: pl.Series([[turn(role, row[side])] for row in rows], dtype=TURNS)
            for side, role in sides.items()
        }
    )
