"""Lexical diversity of a text: MTLD, HD-D, and shares of distinct n-grams (distinct-n)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from siftune.curate.rows.chat import Part, part_of
from siftune.curate.text.word_pattern import WORD

__all__ = ["LexicalDiversity"]

_FACTOR: Final = 0.72
_DRAWN: Final = 42
_LONGEST: Final = 3


@dataclass(frozen=True)
class LexicalDiversity:
    """Variety of words, lower-cased, by measures that depend on length less, and one that does.

    * ``lexical_diversity_mtld``: mean number of words in a row until the share of distinct ones
      falls below .72, forwards and backwards averaged; the rest of the text counts as the share
      (1 - TTR) / (1 - .72) of a factor (McCarthy and Jarvis 2010, Behavior Research Methods 42)
    * ``lexical_diversity_hdd``: expected share of distinct words among 42 drawn without replacement
      (HD-D, the same paper): ``Σ_w (1 - C(N - f_w, 42) / C(N, 42)) / 42``
    * ``lexical_diversity_distinct_1``, ``_2``, ``_3``: share of distinct n-grams (Li et al.,
      arXiv:1510.03055); it falls with length whatever the text

    A value that is not defined is null: MTLD of a text in which no word is repeated, HD-D below 42
    words, distinct-n below n words. Words are those of `text.word_pattern.WORD`.

    Not for ranking texts of fewer than some hundred words by MTLD, nor for code.

    Options:
        of: Text that is measured: the response, the prompt, or both.
    """

    of: Part = "response"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {
        "lexical_diversity_mtld": pl.Float64,
        "lexical_diversity_hdd": pl.Float64,
        "lexical_diversity_distinct_1": pl.Float64,
        "lexical_diversity_distinct_2": pl.Float64,
        "lexical_diversity_distinct_3": pl.Float64,
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Measure one text a row."""
        words = part_of(batch["messages"], self.of).str.to_lowercase().str.extract_all(WORD)
        rows = [_measures(listed or ()) for listed in words.to_list()]
        return pl.DataFrame(rows, schema=self.adds, orient="row")


def _measures(words: Sequence[str]) -> tuple[float | None, ...]:
    distinct = (_distinct(words, n) for n in range(1, _LONGEST + 1))
    return (_mtld(words), _hdd(words), *distinct)


def _mtld(words: Sequence[str]) -> float | None:
    ways = [_factors(words), _factors(reversed(words))]
    return sum(len(words) / factors for factors in ways) / 2 if all(ways) else None


def _factors(words: Iterable[str]) -> float:
    """How often the share of distinct words falls below .72, the last part in proportion."""
    seen: set[str] = set()
    count, size, share = 0.0, 0, 1.0
    for word in words:
        seen.add(word)
        size += 1
        share = len(seen) / size
        if share < _FACTOR:
            count, size, share, seen = count + 1, 0, 1.0, set()
    return count + (1 - share) / (1 - _FACTOR)


def _hdd(words: Sequence[str]) -> float | None:
    total = len(words)
    if total < _DRAWN:
        return None
    sizes = Counter(Counter(words).values())
    found = sum(number * (1 - _absent(total, size)) for size, number in sorted(sizes.items()))
    return found / _DRAWN


def _absent(total: int, size: int) -> float:
    """Probability that none of ``size`` of ``total`` words is among those drawn."""
    found = 1.0
    for at in range(size):
        found *= max(0, total - _DRAWN - at) / (total - at)
    return found


def _distinct(words: Sequence[str], n: int) -> float | None:
    grams = list(zip(*(words[at:] for at in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else None
