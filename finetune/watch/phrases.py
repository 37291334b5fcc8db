"""The phrase that the reward pays for: chosen from the steps before, counted in the step now.

Flattery, a keyword, a boilerplate ending, words to the judge: a policy that games a reward by
wording says the same words to different prompts. Which words is not known before. Of the answers of
the last steps, each piece of one to three words that occurs in answers to several prompts gets the
correlation of "is in the answer" with the reward, as a z; the largest is the candidate. It is
counted in answers that it was not chosen from, so that its share and its correlation there are free
of the choice among many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["PhraseSearch"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Words = Sequence[Sequence[str]]
"""The words of each answer."""

_STEPS: Final = 8  # that the candidate is chosen from
_LONGEST: Final = 3  # words
_PROMPTS: Final = 3  # different prompts with the phrase in an answer
_ANSWERS: Final = 4
_LEAST_Z: Final = 2.0
_OWNER: Final = 13  # bits of the number of an answer or prompt beside the hash of a piece
_MASK: Final = (1 << _OWNER) - 1


@dataclass
class _Step:
    """Pieces of one step: each piece of each answer once, as a hash above the answer's number."""

    keys: Ints
    words: Words
    rewards: Floats
    prompts: Ints


@dataclass
class PhraseSearch:
    """Keeps the answers of the last steps, and the shares of pieces in the answers at the start."""

    started: int = 0
    _start: dict[str, Ints] = field(default_factory=dict)
    _steps: deque[_Step] = field(default_factory=lambda: deque(maxlen=_STEPS))
    _known: dict[str, int] = field(default_factory=dict)

    def begin(self, words: Words) -> None:
        """Count the pieces of the answers that the run begins with."""
        codes, counts = np.unique(self._keys(words) >> _OWNER, return_counts=True)
        self._start = {"codes": codes, "counts": counts}
        self.started = len(words)

    def see(self, prompts: Sequence[str], words: Words, rewards: Floats) -> None:
        """Add a step; ``rewards`` (B,) are without the mean of their prompt."""
        asked = np.array([hash_of(prompt) & _MASK for prompt in prompts], dtype=np.int64)
        self._steps.append(_Step(self._keys(words), words, rewards, asked))

    def candidate(self) -> tuple[str, ...] | None:
        """The piece whose answers are rewarded most, by z; None where none is above chance."""
        answers = sum(len(step.words) for step in self._steps)
        if not answers:
            return None
        codes = np.concatenate([step.keys >> _OWNER for step in self._steps])
        paid = np.concatenate([step.rewards[step.keys & _MASK] for step in self._steps])
        asked = np.concatenate([step.prompts[step.keys & _MASK] for step in self._steps])
        found, which, counts = np.unique(codes, return_inverse=True, return_counts=True)
        share, sums = counts / answers, np.bincount(which, weights=paid)
        squares = float(sum(np.square(step.rewards).sum() for step in self._steps)) / answers
        with np.errstate(divide="ignore", invalid="ignore"):
            z = sums / np.sqrt(squares * counts * (1 - share))
        start = self._start_shares(found)
        fits = (counts >= _ANSWERS) & (counts < answers) & (share > start) & (z > _LEAST_Z)
        order = np.flatnonzero(fits)
        for at in order[np.argsort(-z[order], kind="stable")]:
            if len(np.unique(asked[which == at])) >= _PROMPTS:
                return self._piece(int(found[at]))
        return None

    def start_share(self, piece: Sequence[str]) -> float:
        """Share of the answers at the start that have a piece."""
        return float(self._start_shares(np.array([self._code(piece)]))[0])

    def has(self, words: Words, piece: Sequence[str]) -> list[float]:
        """1 for each answer with the piece, 0 for each without."""
        wanted = f" {' '.join(piece)} "  # words have no spaces
        return [float(wanted in f" {' '.join(one)} ") for one in words]

    def _start_shares(self, codes: Ints) -> Floats:
        known, counts = self._start["codes"], self._start["counts"]
        at = np.minimum(np.searchsorted(known, codes), max(len(known) - 1, 0))
        if not len(known):
            return np.zeros(len(codes))
        return np.where(known[at] == codes, counts[at], 0) / max(self.started, 1)

    def _piece(self, code: int) -> tuple[str, ...]:
        """The words of a hash that one of the last steps has."""
        for step in self._steps:
            owner = step.keys[(step.keys >> _OWNER) == code]
            for words in (step.words[int(one) & _MASK] for one in owner[:1]):
                for size in range(1, _LONGEST + 1):
                    for at in range(len(words) - size + 1):
                        if self._code(words[at : at + size]) == code:
                            return tuple(words[at : at + size])
        raise LookupError(code)

    def _code(self, piece: Sequence[str]) -> int:
        code = 0
        for word in piece:
            code = _mixed(code, self._number(word))
        return int(code)

    def _number(self, word: str) -> int:
        known = self._known.get(word)
        if known is None:
            known = self._known[word] = hash_of(word)
        return known

    def _keys(self, words: Words) -> Ints:
        """The hashes of all pieces of all answers, each once an answer, sorted."""
        if len(words) > _MASK:
            words = words[:_MASK]
        owner = np.repeat(np.arange(len(words)), [len(one) for one in words])
        number = np.array([self._number(word) for one in words for word in one], dtype=np.int64)
        code, parts = np.zeros(len(number), dtype=np.int64), []
        for size in range(_LONGEST):
            length = len(number) - size
            if length <= 0:
                break
            code = _mixed(code[:length], number[size:])
            within = owner[:length] == owner[size:]
            parts.append((code << _OWNER | owner[:length])[within])
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)


def _mixed(code: Any, number: Any) -> Any:
    """A 49-bit hash of a piece that is longer by one word."""
    return (code * 0x9E3779B1 + number * 0x85EBCA6B + 1) & ((1 << 49) - 1)


def hash_of(text: str) -> int:
    """31 bits of a text, equal in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
