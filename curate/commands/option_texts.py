"""One line of help for options that components share; an entry in a docstring comes before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["OPTION_TEXTS"]

OPTION_TEXTS: Final[Mapping[str, str]] = {
    "against": "A file or run folder, or {path, format, map}: rows like one of its rows go.",
    "bands": "Bands of the signature, of which two texts have to share one (candidates: minhash).",
    "by": "The column that ranks rows: of those alike the best one is kept.",
    "candidates": "How pairs to verify are found: all (exact), or by their signatures (minhash).",
    "descending": "Whether high values are the best.",
    "dtype": "What vectors are multiplied in.",
    "exact_to": "Rows up to which all pairs are compared.",
    "index": "A folder of what earlier runs kept: a reference, to which kept rows are added.",
    "ngram": "Words (or characters) of a shingle.",
    "normalise": "What is made alike before texts are compared.",
    "of": "What is compared.",
    "prefer_source": "Sources whose rows are kept before those of others, the first source first.",
    "rank_by": "The column that ranks rows: of those alike the best one is kept.",
    "recall": "Least share of the pairs that is found among more rows than exact_to.",
    "rows": "Positions of a band (candidates: minhash).",
    "threshold": "Similarity from which on two rows are duplicates.",
    "unit": "What shingles are made of.",
}
