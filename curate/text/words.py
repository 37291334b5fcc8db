"""Numbers of words of texts, by the pattern of a word."""

from __future__ import annotations

from typing import Final

import polars as pl

from siftune.curate.text.word_pattern import WORD

__all__ = ["count_words", "words_of"]

_MIN_COMPILED: Final = 1 << 20  # bytes of text; below, loading numba (0.3 s) takes longer


def count_words(text: pl.Expr) -> pl.Expr:
    """Number of words of each text; null stays null.

    >>> texts = ["It isn't 1,000 km.", "你好世界", "สวัสดี", ""]
    >>> pl.select(count_words(pl.Series(texts))).to_series().to_list()
    [4, 4, 4, 0]
    """
    return text.str.count_matches(WORD)


def words_of(text: pl.Series) -> pl.Series:
    """Number of words of each text as `count_words` gives it, by compiled code where it pays."""
    if (text.str.len_bytes().sum() or 0) >= _MIN_COMPILED:
        from siftune.curate.native.jit import PLAIN_REASON

        if PLAIN_REASON is None:
            from siftune.curate.text.word_counts import word_counts

            return word_counts(text)
    return text.to_frame().select(count_words(pl.col(text.name))).to_series()
