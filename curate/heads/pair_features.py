"""Features of answers for models of preference pairs: style of the text, and its words.

Cheaper than an embedding, and about form: which answer of a pair a judge takes follows from length,
structure and wording more than from the topic, which both answers share.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from siftune.curate.comparing.shingles import shingle
from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.text import text_statistics as statistics
from siftune.curate.text.non_answers import truncated

__all__ = ["style_columns", "style_features", "word_features"]

_WORDS: Final = 1 << 14
"""Columns that words are hashed to, at most."""
_KNOTS: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles of the log length where its slope may change."""
_TEXT: Final = pl.col("text")
_COUNTS: Final = (
    r"(?s).",  # characters; its position is that of the knots
    r"\S+",
    r"\n",
    r"[.!?](?:\s|$)",
    r"\n\s*\n",
    r"(?m)^\s*(?:[-*•]|\d+[.)])\s",
    r"(?m)^#+ ",
    r"\*\*",
    r"```",
    r"!",
    r"\?",
    r":",
    r'["“]',
    r"(?i)\b(?:I|my|me)\b",
    r"(?i)\byou\b",
)
_SHARES: Final = (r"\p{N}", r"\p{Lu}", ",", r"[^\p{L}\p{M}\p{N}\s.,;:!?'\"()’‘“”–-]")
_MARKS: Final = (
    r"(?i)\bas an ai\b",
    r"(?i)\b(?:sorry|unfortunately|apolog)",
    r"[.!?\"'’”)`*:]\s*$",
)


def style_features(texts: pl.Series) -> Floats:
    """Style of each text (rows, features), in units of a standard deviation, as one block.

    Logarithms of counts (characters, words, lines, sentences, paragraphs, list items, headings,
    bold, code, marks, first and second person), shares of characters, signs of a refusal or a cut
    end, word length and variety; the log length also piecewise linear between its quantiles. The
    block has a variance of 1 in all.
    """
    plain = style_columns(texts)
    length = plain[:, :1]
    knots = np.quantile(length, _KNOTS) if len(length) else np.zeros(len(_KNOTS))
    bent = np.maximum(length - knots, 0.0)
    found: Floats = np.concatenate([_standardised(plain), _standardised(bent)], 1) / np.sqrt(2)
    return found


def style_columns(texts: pl.Series) -> Floats:
    """The numbers of `style_features` (rows, features) as counted, the log length first."""
    frame = texts.alias("text").to_frame()
    size = _TEXT.str.len_chars()
    columns = [
        *(_TEXT.str.count_matches(pattern).log1p() for pattern in _COUNTS),
        *(_TEXT.str.count_matches(pattern) / size.clip(1) for pattern in _SHARES),
        *(_TEXT.str.contains(pattern).cast(pl.Float64) for pattern in _MARKS),
        (_TEXT.str.strip_chars() == "").cast(pl.Float64),
        truncated(_TEXT).cast(pl.Float64),
        statistics.mean_word_length(_TEXT).log1p(),
        statistics.duplicate_lines(_TEXT),
        _TEXT.str.to_lowercase().str.extract_all(r"\w+").list.n_unique()
        / _TEXT.str.count_matches(r"\w+").clip(1),
    ]
    numbered = [one.cast(pl.Float64).alias(str(at)) for at, one in enumerate(columns)]
    found: Floats = frame.select(numbered).fill_null(0.0).to_numpy()
    return found


def _standardised(block: Floats) -> Floats:
    """Columns with mean 0 and equal variance, whose sum is 1."""
    spread = block.std(0) if len(block) else np.ones(block.shape[1])
    centred = block - (block.mean(0) if len(block) else 0.0)
    scaled: Floats = centred / (np.where(spread > 1e-9, spread, 1.0) * np.sqrt(block.shape[1]))
    return scaled


def word_features(texts: pl.Series) -> Any:
    """Words of each text as a sparse matrix (rows, words) of tf-idf with unit rows.

    ``log(1 + count) · (1 + log((1 + n) / (1 + df)))``; words of `comparing.shingles`, hashed
    to at most 16,384 columns, of which those that no text has are left out.
    """
    from scipy.sparse import csr_matrix

    hashes, offsets = shingle(texts, 1)
    row = np.repeat(np.arange(len(texts)), np.diff(offsets))
    known, column = np.unique(hashes % np.uint64(_WORDS), return_inverse=True)
    counted = csr_matrix((np.ones(len(row)), (row, column)), shape=(len(texts), len(known)))
    counted.sum_duplicates()
    counted.data = np.log1p(counted.data)
    seen = np.bincount(counted.indices, minlength=len(known))
    counted.data *= (1 + np.log((1 + len(texts)) / (1 + seen)))[counted.indices]
    size = np.sqrt(np.asarray(counted.multiply(counted).sum(1)).ravel())
    counted.data /= np.repeat(np.where(size > 0, size, 1.0), np.diff(counted.indptr))
    return counted
