"""What counts as a word, in languages with spaces between words and without."""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["SPACELESS", "WORD", "count_words"]

SPACELESS: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー々"
"""Scripts written without spaces between words, for use inside a character class."""

_IN_WORD: Final = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{SPACELESS}]]"

WORD: Final = rf"[\p{{L}}&&[{SPACELESS}]]\p{{M}}*|{_IN_WORD}+(?:['’]{_IN_WORD}+|[.,]\p{{N}}+)*"
"""One word, in the syntax of polars (Rust's ``regex``: linear in the text, whatever the text).

A word is a run of letters, marks and digits, with the apostrophes inside it and the points and
commas inside a number. Where a script has no spaces between words (Chinese, Japanese, Thai, Lao,
Khmer, Burmese) each letter counts as one.
"""


def count_words(text: pl.Expr) -> pl.Expr:
    """Number of words of each text; null stays null.

    >>> texts = ["It isn't 1,000 km.", "你好世界", "สวัสดี", ""]
    >>> pl.select(count_words(pl.Series(texts))).to_series().to_list()
    [4, 4, 4, 0]
    """
    return text.str.count_matches(WORD)
