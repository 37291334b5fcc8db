"""The pattern of a word, for scripts with and without spaces, and word counts by it."""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["IN_WORD", "SPACELESS", "WORD", "WORD_ALONE", "count_words", "words_of"]

SPACELESS: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー々"
"""Scripts written without spaces between words, for use inside a character class."""

IN_WORD: Final = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{SPACELESS}]]"
"""A letter, mark or digit of a script with spaces."""

WORD_ALONE: Final = rf"[\p{{L}}&&[{SPACELESS}]]"
"""A letter that is a word by itself."""

WORD: Final = rf"{WORD_ALONE}\p{{M}}*|{IN_WORD}+(?:['’]{IN_WORD}+|[.,]\p{{N}}+)*"
"""One word, in the syntax of polars (Rust's ``regex``: linear in the text, whatever the text).

A word is a run of letters, marks and digits, with the apostrophes inside it and the points and
commas inside a number. Where a script has no spaces between words (Chinese, Japanese, Thai, Lao,
Khmer, Burmese) each letter is a word.
"""


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
