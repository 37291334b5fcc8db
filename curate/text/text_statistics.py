"""Statistics of texts: shares of symbols, code, links and scripts; word length; repetition."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from siftune.curate.text.word_pattern import WORD

__all__ = [
    "SCRIPTS",
    "duplicate_lines",
    "letters_in_script",
    "longest_run",
    "mean_word_length",
    "repeated_ngrams",
    "share",
    "share_of_letters",
]

SCRIPTS: Final = {
    "latin": r"\p{Latin}",
    "cyrillic": r"\p{Cyrillic}",
    "greek": r"\p{Greek}",
    "arabic": r"\p{Arabic}",
    "hebrew": r"\p{Hebrew}",
    "indic": r"\p{Devanagari}\p{Bengali}\p{Tamil}\p{Telugu}\p{Gujarati}\p{Kannada}\p{Malayalam}",
    "east_asian": r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}",
    "southeast_asian": r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}",
}
"""Groups of scripts, as contents of regex character classes."""

_COUNTED: Final = np.ones(0x25A0 + 1, dtype=bool)  # the last item is for all code points above
_COUNTED[[ord(char) for char in " \t\r\n\u00a0-_=*#.~|+/\\<>0123456789"]] = False
_COUNTED[0x2500:0x25A0] = False  # box drawing and blocks


def share(text: pl.Expr, pattern: str) -> pl.Expr:
    """Share of the characters in matches of ``pattern``; null for an empty text."""
    matched = text.str.extract_all(pattern).list.join("").str.len_chars()
    return _quotient(matched, text.str.len_chars())


def share_of_letters(text: pl.Expr, one_letter: str) -> pl.Expr:
    """Share of the letters that match ``one_letter``; null for a text without letters."""
    return _quotient(text.str.count_matches(one_letter), text.str.count_matches(r"\p{L}"))


def letters_in_script(text: pl.Expr, script: str) -> pl.Expr:
    """Number of letters that belong to one of `SCRIPTS`."""
    return text.str.count_matches(rf"[\p{{L}}&&[{SCRIPTS[script]}]]")


def mean_word_length(text: pl.Expr) -> pl.Expr:
    """Mean number of characters of a word; null for a text without words."""
    words = text.str.extract_all(WORD)
    return _quotient(words.list.join("").str.len_chars(), words.list.len())


def duplicate_lines(text: pl.Expr) -> pl.Expr:
    r"""Share of the lines with a letter or digit that repeat an earlier line, ignoring case.

    >>> pl.select(duplicate_lines(pl.Series(["a\nb\na\n\nA \n---"]))).item()  # a and A again
    0.5
    """
    lines = text.str.to_lowercase().str.extract_all(r"(?m)^.*[\p{L}\p{N}].*$")
    distinct = lines.list.eval(pl.element().str.strip_chars()).list.n_unique()
    return 1 - _quotient(distinct, lines.list.len())


def repeated_ngrams(texts: pl.Series, n: int = 3) -> pl.Series:
    """Share of the word ``n``-grams that occurred before; null for fewer than ``n`` words.

    >>> repeated_ngrams(pl.Series(["a b c a b c a", "all of it new"])).to_list()  # abc, bca again
    [0.4000000059604645, 0.0]
    """
    words = pl.DataFrame(
        {"row": np.arange(len(texts)), "word": texts.str.to_lowercase().str.extract_all(WORD)}
    ).explode("word", empty_as_null=False, keep_nulls=False)
    following = [pl.col("word").shift(-i).alias(f"w{i}") for i in range(n)]
    within = pl.col("row").shift(1 - n) == pl.col("row")
    grams = words.select("row", within.alias("within"), gram=pl.struct(following).hash())
    counted = (
        grams.filter("within")
        .group_by("row")
        .agg(share=1 - pl.col("gram").n_unique() / pl.len().cast(pl.Float64))
    )
    rows = pl.DataFrame({"row": np.arange(len(texts))})
    joined = rows.join(counted, on="row", how="left", maintain_order="left")
    return joined["share"].cast(pl.Float32)


def longest_run(texts: pl.Series) -> pl.Series:
    """Length of the longest run of one character; null stays null, an empty text has 0.

    White space, digits and the characters of tables, rules and blanks do not count.

    >>> longest_run(pl.Series(["so goooood", "-----", "", None])).to_list()
    [5, 0, 0, None]
    """
    ends = np.cumsum(texts.str.len_chars().fill_null(0).to_numpy(), dtype=np.int64)
    codes = np.frombuffer("".join(texts.drop_nulls()).encode("utf-32-le"), dtype=np.uint32)
    begins = np.ones(len(codes) + 1, dtype=bool)
    begins[1:-1] = codes[1:] != codes[:-1]
    begins[ends] = True
    starts = np.flatnonzero(begins)
    runs, first = np.diff(starts), codes[starts[:-1]]
    counted = np.flatnonzero(_COUNTED[np.minimum(first, len(_COUNTED) - 1)])
    owner = np.searchsorted(ends, starts[counted], side="right")
    longest = np.zeros(len(texts), dtype=np.uint32)
    np.maximum.at(longest, owner, runs[counted].astype(np.uint32))
    return pl.Series(longest, dtype=pl.UInt32).set(texts.is_null(), None)


def _quotient(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole.cast(pl.Float64))
