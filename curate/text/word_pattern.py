"""The pattern of a word, for scripts with and without spaces."""

from __future__ import annotations

from typing import Final

__all__ = ["IN_WORD", "SPACELESS", "WORD", "WORD_ALONE"]

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
