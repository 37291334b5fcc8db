"""Made-up rows in the layouts that the benchmarks read, for runs without data: from a seed alone.

Words are made of syllables and drawn by Zipf's law, sentences and answers have the lengths of real
ones. So sizes, duplicates and selections have a size like the real ones; what the texts mean does
not: figures from them are marked, and are not those of real data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

__all__ = ["WORDS", "table", "texts", "vocabulary"]

WORDS: Final = 20_000
_ROWS: Final = {"sft_alpaca_52k": 52_002, "text_openstax": 800, "text_books_public_domain": 200}
_USUAL: Final = 6_500  # rows of the others
_BOOK: Final = 300  # sentences
_ONSETS: Final = [*"bcdfghjklmnprstvw", "st", "tr", "pl"]
_VOWELS: Final = [*"aeiou", "ai", "ea", "oo"]
_CODAS: Final = ["", "n", "r", "s", "t", "l", "nd"]


def table(name: str, fields: tuple[str, ...]) -> pl.DataFrame:
    """Rows of the source ``name``: its text ``fields``, or one text of many sentences a row."""
    random = np.random.default_rng(list(name.encode()))
    rows = _ROWS.get(name, _USUAL)
    if fields == ("text",):
        return pl.DataFrame({"text": texts(rows, _BOOK, random)})
    sentences = {"instruction": 1, "question": 2, "input": 1}
    columns = {field: texts(rows, sentences.get(field, 4), random) for field in fields}
    if "input" in columns:  # most tasks have none
        given = pl.Series(random.random(rows) < 0.4)
        columns["input"] = columns["input"].zip_with(given, pl.Series([""]).new_from_index(0, rows))
    return pl.DataFrame(columns)


def texts(rows: int, sentences: int, random: np.random.Generator) -> pl.Series:
    """Texts of about as many sentences: at least one, the mean is ``sentences``."""
    counts = 1 + random.poisson(sentences - 1, rows)
    owner = np.repeat(np.arange(rows), counts)
    frame = pl.DataFrame({"row": owner, "sentence": _sentences(len(owner), random)})
    joined = frame.group_by("row", maintain_order=True).agg(pl.col("sentence").str.join(" "))
    return joined["sentence"]


def _sentences(count: int, random: np.random.Generator) -> pl.Series:
    sizes = 4 + random.poisson(8, count)
    chances = 1 / np.arange(1, WORDS + 1)
    drawn = random.choice(WORDS, int(sizes.sum()), p=chances / chances.sum())
    words = pl.Series(list(vocabulary())).gather(drawn)
    frame = pl.DataFrame({"sentence": np.repeat(np.arange(count), sizes), "word": words})
    joined = frame.group_by("sentence", maintain_order=True).agg(pl.col("word").str.join(" "))
    text = joined["word"]
    return text.str.slice(0, 1).str.to_uppercase() + text.str.slice(1) + "."


def vocabulary() -> Iterator[str]:
    """Distinct words of one to four syllables, the frequent ones short."""
    random = np.random.default_rng(0)
    seen: set[str] = set()
    while len(seen) < WORDS:
        parts = 1 + min(3, int(random.integers(0, 2 + len(seen) // 500)))
        word = "".join(
            str(random.choice(_ONSETS)) + str(random.choice(_VOWELS)) + str(random.choice(_CODAS))
            for _ in range(parts)
        )
        if word not in seen:
            seen.add(word)
            yield word
