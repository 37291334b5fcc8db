"""True pairs and figures of the data, computed by other means than the code that is measured.

Words and shingles are those that `curate.comparing.shingles` documents, made anew in Python; all
pairs come from an inverted index (each pair above ``t`` shares one of the rarest
``|x| - ⌈t |x|⌉ + 1`` shingles of both; sparse products), their similarities from exact counts.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

__all__ = [
    "Pairs",
    "cosine_pairs",
    "cosine_violations",
    "cover_violations",
    "near_pairs",
    "precision",
    "shares",
    "words_of",
]

_Ints = npt.NDArray[np.int64]
_NGRAM = 5
_BLOCK = 4096
_AT_ONCE = 100_000
_NO_SPACES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_IGNORED = ((0xAD, 0xAD), (0x200C, 0x200D), (0x2060, 0x2060), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF))


@dataclass(frozen=True)
class Pairs:
    """Pairs ``left > right`` with ``shared`` of ``union`` shingles, and every text's own set."""

    left: _Ints
    right: _Ints
    shared: _Ints
    union: _Ints
    sets: sparse.csr_matrix

    def above(self, threshold: float) -> npt.NDArray[np.bool_]:
        """Which pairs are at or above the threshold, decided in whole numbers."""
        ratio = Fraction(str(threshold))
        found: npt.NDArray[np.bool_] = (
            self.shared * ratio.denominator >= self.union * ratio.numerator
        )
        return found

    def save(self, path: Path) -> None:
        """Keep them in a file."""
        np.savez(
            path,
            left=self.left,
            right=self.right,
            shared=self.shared,
            union=self.union,
            indices=self.sets.indices,
            indptr=self.sets.indptr,
        )

    @classmethod
    def load(cls, path: Path) -> Pairs:
        """From a file that `save` wrote."""
        with np.load(path) as kept:
            indices, indptr = kept["indices"], kept["indptr"]
            shape = (len(indptr) - 1, int(indices.max(initial=0)) + 1)
            sets = sparse.csr_matrix((np.ones(len(indices), np.int32), indices, indptr), shape)
            return cls(kept["left"], kept["right"], kept["shared"], kept["union"], sets)


class _Fold(dict[int, str]):
    """Table for `str.translate`: a character's folded letter, a blank, or nothing."""

    def __missing__(self, code: int) -> str:
        self[code] = made = _folded(code)
        return made


def _folded(code: int) -> str:
    letter = chr(code)
    if _among(code, _IGNORED) or 0xE0100 <= code <= 0xE01EF:
        return ""
    if code < 0x20000 and unicodedata.category(letter)[0] not in "LNM" and letter != "_":
        return " "
    if code >= 0x40000:
        return " "
    folded = letter.casefold()
    one = folded if len(folded) == 1 else letter
    return f" {one} " if _among(code, _NO_SPACES) else one


def _among(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(low <= code <= high for low, high in ranges)


_FOLD = _Fold()


def words_of(text: str) -> list[str]:
    """The words of a text.

    >>> words_of("Don't stop: été 東京")
    ['don', 't', 'stop', 'été', '東', '京']
    """
    return text.translate(_FOLD).split()


def near_pairs(texts: pl.Series, threshold: float) -> Pairs:
    """All pairs of texts with a Jaccard similarity of their word 5-grams at or above it."""
    sets = _sets(texts)
    sizes = np.diff(sets.indptr).astype(np.int64)
    rare = _prefixes(sets, Fraction(str(threshold)))
    found = [_verify(sets, sizes, *pair, threshold) for pair in _meeting(rare, sizes, threshold)]
    left, right, shared, union = (
        np.concatenate([np.zeros(0, np.int64), *(part[at] for part in found)]) for at in range(4)
    )
    return Pairs(left, right, shared, union, sets)


def shares(pairs: Pairs, gone: npt.NDArray[np.bool_], threshold: float) -> float | None:
    """Of the pairs at or above the threshold, the share of which one at least is gone."""
    some = pairs.above(threshold)
    if not some.any():
        return None
    return float((gone[pairs.left[some]] | gone[pairs.right[some]]).mean())


def precision(pairs: Pairs, gone: npt.NDArray[np.bool_], threshold: float) -> float | None:
    """Of the texts that are gone, the share that have a neighbour at or above the threshold."""
    some = pairs.above(threshold)
    near = np.zeros(len(gone), bool)
    near[pairs.left[some]] = near[pairs.right[some]] = True
    return float(near[gone].mean()) if gone.any() else None


def cover_violations(pairs: Pairs, survivor: _Ints, threshold: float) -> tuple[int, int]:
    """Dropped texts without a kept survivor at or above the threshold; pairs above it both kept.

    ``survivor`` names each dropped text's, -1 stands for a kept one.
    """
    gone = survivor >= 0
    dropped = np.flatnonzero(gone)
    named = survivor[dropped]
    shared = _overlaps(pairs.sets, dropped, named)
    sizes = np.diff(pairs.sets.indptr).astype(np.int64)
    ratio = Fraction(str(threshold))
    near = shared * ratio.denominator >= (sizes[dropped] + sizes[named] - shared) * ratio.numerator
    some = pairs.above(threshold)
    left = (~gone[pairs.left[some]] & ~gone[pairs.right[some]]).sum()
    return int((~near | gone[named]).sum()), int(left)


def cosine_violations(
    vectors: npt.NDArray[np.float32], survivor: _Ints, threshold: float, margin: float = 1e-6
) -> tuple[int, int]:
    """The same by cosine in float64; what is within ``margin`` of the threshold is not judged."""
    units = vectors.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    dropped = np.flatnonzero(survivor >= 0)
    near = np.einsum("ij,ij->i", units[dropped], units[survivor[dropped]]) >= threshold - margin
    uncovered = ~near | (survivor[survivor[dropped]] >= 0)
    surviving, _ = cosine_pairs(vectors[survivor < 0], threshold + margin)
    return int(uncovered.sum()), len(surviving)


def cosine_pairs(vectors: npt.NDArray[np.float32], threshold: float) -> tuple[_Ints, _Ints]:
    """All pairs of rows whose cosine, in float64, is at least ``threshold``."""
    units = vectors.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    single = units.astype(np.float32)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for start in range(0, len(single), 1024):
        block = single[start : start + 1024] @ single[: start + 1024].T
        row, column = np.nonzero(block >= threshold - 1e-4)
        row, column = row[column < row + start] + start, column[column < row + start]
        near = np.einsum("ij,ij->i", units[row], units[column]) >= threshold
        found.append((row[near], column[near]))
    left, right = map(np.concatenate, zip(*found, strict=True))
    return left, right


def _sets(texts: pl.Series) -> sparse.csr_matrix:
    """A row a text, a column a shingle, ones."""
    lists = [words_of(text) for text in texts]
    sizes = np.array([len(words) for words in lists], np.int64)
    flat = pl.Series("word", [word for words in lists for word in words], dtype=pl.String)
    word = flat.cast(pl.Categorical).to_physical().to_numpy().astype(np.int64) + 1
    doc = np.repeat(np.arange(len(lists)), sizes)
    starts = np.concatenate([[0], sizes.cumsum()])[:-1]
    at = np.arange(len(word)) - np.repeat(starts, sizes)
    here = at < np.repeat(np.maximum(sizes - _NGRAM + 1, np.minimum(sizes, 1)), sizes)
    columns = {f"w{i}": _following(word, doc, i)[here] for i in range(_NGRAM)}
    hashed = pl.DataFrame(columns).select(pl.struct(pl.all()).hash()).to_series().to_numpy()
    known, gram = np.unique(hashed, return_inverse=True)
    shape = (len(lists), len(known))
    found = sparse.csr_matrix((np.ones(len(gram), np.int32), (doc[here], gram)), shape)
    found.sum_duplicates()
    found.data[:] = 1
    return found


def _following(word: _Ints, doc: _Ints, places: int) -> _Ints:
    """The word so many places on in the same text, 0 beyond its end."""
    found = np.zeros(len(word), np.int64)
    if places < len(word):
        stop = len(word) - places
        same = doc[places:] == doc[:stop]
        found[:stop] = np.where(same, word[places:], 0)
    return found


def _prefixes(sets: sparse.csr_matrix, threshold: Fraction) -> sparse.csr_matrix:
    """The rarest shingles of each text, enough that two near texts share one."""
    count = np.bincount(sets.indices, minlength=sets.shape[1])
    doc = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    order = np.lexsort((sets.indices, count[sets.indices], doc))
    gram = sets.indices[order]
    sizes = np.diff(sets.indptr)
    length = np.array([size - math.ceil(threshold * int(size)) + 1 for size in sizes])
    at = np.arange(len(gram)) - np.repeat(sets.indptr[:-1], sizes)
    leading = (at < np.repeat(length, sizes)) & (count[gram] > 1)
    ones = np.ones(int(leading.sum()), np.int32)
    return sparse.csr_matrix((ones, (doc[leading], gram[leading])), sets.shape)


def _meeting(
    rare: sparse.csr_matrix, sizes: _Ints, threshold: float
) -> Iterator[tuple[_Ints, _Ints]]:
    other = rare.T.tocsr()
    for start in range(0, rare.shape[0], _BLOCK):
        block = (rare[start : start + _BLOCK] @ other).tocoo()
        left, right = block.row.astype(np.int64) + start, block.col.astype(np.int64)
        least, most = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        some = (right < left) & (least >= threshold * most - 1e-6)
        for at in range(0, int(some.sum()), _AT_ONCE):
            yield left[some][at : at + _AT_ONCE], right[some][at : at + _AT_ONCE]


def _verify(
    sets: sparse.csr_matrix, sizes: _Ints, left: _Ints, right: _Ints, threshold: float
) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    shared = _overlaps(sets, left, right)
    union = sizes[left] + sizes[right] - shared
    ratio = Fraction(str(threshold))
    near = shared * ratio.denominator >= union * ratio.numerator
    return left[near], right[near], shared[near], union[near]


def _overlaps(sets: sparse.csr_matrix, left: _Ints, right: _Ints) -> _Ints:
    found = np.zeros(len(left), np.int64)
    for at in range(0, len(left), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        product = sets[left[part]].multiply(sets[right[part]])
        found[part] = np.asarray(product.sum(axis=1)).ravel()
    return found
