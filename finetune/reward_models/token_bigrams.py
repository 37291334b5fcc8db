"""Bigram model of the token ids of known answers: surprise of each token, and of its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import Floats

__all__ = ["TokenBigrams"]

_NAMES: Final = ("keys", "counts", "vocabulary")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenBigrams:
    """Counts of neighbouring token ids, with the probabilities that they give.

    With absolute discounts D (Ney, Essen and Kneser 1994; interpolated as in Chen and Goodman 1996,
    cmp-lg/9606011, equation 7) a token b after a has

        p(b)     = (max(c(b) - D₁, 0) + D₁ · types / V) / N
        p(b | a) = max(c(a, b) - D₂, 0) / c(a) + D₂ · followers(a) / c(a) · p(b)

    and p(b | a) = p(b) where a was never seen. N tokens of so many types were counted, V is the
    size of the vocabulary, D = n₁ / (n₁ + 2 n₂) with the numbers of counts that are 1 and 2. A
    text's first token follows a start of its own.

    `values` gives -log p(b), which is large in another language, and log (p(b) / p(b | a)), which
    rises where words are in disorder, whichever they are: the likelihood ratio of Ren et al. 2019
    (arXiv:1906.02845) with tokens without order as the background.

    >>> of = TokenBigrams.fit([[0, 1, 0, 1, 2]], vocabulary=4)  # D₁ = ⅕, D₂ = ⅗
    >>> ratios = np.exp(of.values([0, 1, 0]))[:, 1]
    >>> p0 = (2 - 0.2 + 0.2 * 3 / 4) / 5  # 0 follows 1 in one of two places
    >>> [round(float(x), 4) for x in (p0 / ratios[2], (1 - 0.6) / 2 + 0.6 * 2 / 2 * p0)]
    [0.434, 0.434]
    """

    keys: Ints  # (pairs,) a · (V + 1) + b, sorted
    counts: Ints  # (pairs,)
    vocabulary: int

    @classmethod
    def fit(cls, texts: Sequence[Sequence[int]], vocabulary: int) -> TokenBigrams:
        """Count the neighbours in ``texts`` of ids below ``vocabulary``."""
        found = [_keys(text, vocabulary) for text in texts]
        keys, counts = np.unique(np.concatenate(found), return_counts=True)
        return cls(keys, counts, vocabulary)

    def values(self, text: Sequence[int]) -> Floats:
        """(tokens, 2): -log p(b) and log (p(b) / p(b | a)) of each token."""
        own, keys = self._sums, _keys(text, self.vocabulary)
        before, after = np.divmod(keys, self.vocabulary + 1)
        unseen = own.discount * own.types / self.vocabulary
        alone = (np.maximum(own.tokens[after] - own.discount, 0) + unseen) / own.tokens.sum()
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        together = np.where(self.keys[at] == keys, self.counts[at], 0)
        times = np.maximum(own.contexts[before], 1)
        left = np.where(own.contexts[before] > 0, own.pairs * own.followers[before] / times, 1.0)
        ratio = np.maximum(together - own.pairs, 0) / times / alone + left
        return np.stack([-np.log(alone), -np.log(ratio)], 1)

    @cached_property
    def _sums(self) -> _Sums:
        size = self.vocabulary + 1
        before, after = np.divmod(self.keys, size)
        tokens: Floats = np.bincount(after, self.counts, size).astype(float)
        seen = tokens[tokens > 0]
        return _Sums(
            tokens,
            np.bincount(before, self.counts, size).astype(float),
            np.bincount(before, minlength=size),
            len(seen),
            _discount(seen),
            _discount(self.counts),
        )

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All numbers by name."""
        counts = self.counts.astype(np.int32)
        return dict(zip(_NAMES, (self.keys, counts, np.array([self.vocabulary])), strict=True))

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> TokenBigrams:
        """The model whose `arrays` these are.

        Raises:
            ValueError: the arrays do not fit together.
        """
        keys, counts, vocabulary = (arrays[name].astype(np.int64) for name in _NAMES)
        size = int(vocabulary[0]) + 1
        whole = len(keys) == len(counts) > 0 and (np.diff(keys) > 0).all() and (counts > 0).all()
        if not whole or keys[0] < 0 or keys[-1] >= size**2:
            raise ValueError("its counts of tokens do not fit together")
        return cls(keys, counts, size - 1)


@dataclass(frozen=True)
class _Sums:
    tokens: Floats  # (V + 1,) how often each id was counted
    contexts: Floats  # (V + 1,) how often each came before another; the start is the last
    followers: Ints  # (V + 1,) how many different ids came after each
    types: int
    discount: float  # of single tokens
    pairs: float  # discount of pairs


def _keys(text: Sequence[int], vocabulary: int) -> Ints:
    """A number for each token of a text with the one before it; the start's is ``vocabulary``."""
    ids = np.asarray(text, np.int64)
    return np.append(vocabulary, ids)[:-1] * (vocabulary + 1) + ids


def _discount(counts: npt.NDArray[Any]) -> float:
    """n₁ / (n₁ + 2 n₂), kept off 0 and 1 where there are no counts of 1 or of 2."""
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    return float(np.clip(once / max(once + 2 * twice, 1), 0.1, 0.9))
