"""What answers look like, a number an answer: length, repetition, marks, copies, foreign text.

Each is what a policy can raise without answering better. They are computed of the texts alone, by
plain string work that takes about a millisecond for 64 answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["FEATURES", "StartingAnswers", "features", "words_of"]

_SPACELESS: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD: Final = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")
_MARK: Final = re.compile(
    r"[*#`|>•_~=\u2190-\u21ff\u2600-\u27bf\U0001f300-\U0001faff]|^\s*[-+] ", re.M
)
_GRAM: Final = 3  # words of a repeated or copied piece
_BUCKETS: Final = 1 << 12
_NEARLY_ALL: Final = 0.95
_BITS: Final = 1.0

FEATURES: Final = {
    "length": "words of an answer",
    "repetition": "share of an answer's three-word pieces that occurred in it before",
    "marks": "formatting marks (bold, headings, bullets, tables, emoji) a hundred characters",
    "copied": "share of an answer's three-word pieces that are in its prompt",
    "same_answer": "answers that were also given to another prompt",
    "foreign": "answers of other letters than those at the start: gibberish, another language",
    "long": "answers of more than twice the words of nearly all at the start",
}
"""Features of answers by name, in words."""


def words_of(text: str) -> list[str]:
    """Words in lower case; of scripts without spaces each letter.

    >>> words_of("Don't stop 猫だ")
    ['don', 't', 'stop', '猫', 'だ']
    """
    return _WORD.findall(text.lower())


class StartingAnswers:
    """The answers that a run begins with: how long they are, and of what letters.

    A text is foreign where its mean bits a pair of letters are more than ``_BITS`` above nearly
    all of the answers at the start, each measured by the frequencies of the other half of them.
    """

    def __init__(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """``answers`` to ``prompts``, those of the first step."""
        halves = [[*prompts, *answers[at::2]] for at in (0, 1)]
        across = [_bits(_frequencies(halves[1 - at]), answers[at::2]) for at in (0, 1)]
        known = [one for half in across for one in half if one is not None]
        self._limit = float(np.quantile(known, _NEARLY_ALL)) + _BITS if known else np.inf
        self._table = _frequencies([*prompts, *answers])
        lengths = [len(words_of(answer)) for answer in answers]
        self._long = 2 * float(np.quantile(lengths, _NEARLY_ALL)) if lengths else np.inf

    def foreign(self, texts: Sequence[str]) -> list[float | None]:
        """1 where a text is foreign, else 0; None of fewer than two characters."""
        each = _bits(self._table, texts)
        return [None if bits is None else float(bits > self._limit) for bits in each]

    def long(self, words: Sequence[str]) -> float:
        """1 where an answer has over twice the words of nearly all at the start, else 0."""
        return float(len(words) > self._long)


def _frequencies(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Bits of each bucket of pieces."""
    counts = np.bincount(_pieces("\n".join(texts).lower()), minlength=_BUCKETS) + 0.1
    return np.asarray(-np.log2(counts / counts.sum()))


def _bits(table: npt.NDArray[np.float64], texts: Sequence[str]) -> list[float | None]:
    """Mean bits of the pairs of characters of each text; None where it has none."""
    lowered = [text.lower() for text in texts]
    summed = np.concatenate(([0.0], np.cumsum(table[_pieces("".join(lowered))])))
    found, start = list[float | None](), 0
    for text in lowered:
        pairs = len(text) - 1  # those across two texts are left out
        mean = (summed[start + pairs] - summed[start]) / pairs if pairs > 0 else None
        found.append(None if mean is None else float(mean))
        start += len(text)
    return found


def _pieces(text: str) -> npt.NDArray[np.int64]:
    """Bucket numbers of the pairs of adjacent characters of a text in lower case."""
    coded = text.encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(coded, dtype=np.uint32).astype(np.int64)
    return (codes[:-1] * 1009 + codes[1:]) * 2654435761 % (1 << 32) % _BUCKETS


def features(
    prompts: Sequence[str],
    answers: Sequence[str],
    words: Sequence[Sequence[str]],
    start: StartingAnswers,
    before: Sequence[tuple[str, str]] = (),
) -> dict[str, list[float | None]]:
    """`FEATURES` of each answer; None where an answer is too short to have one.

    ``words`` are those of the answers. ``before`` are prompts with the words of their answers in
    the last steps: an answer counts as the same as another's whether that was given now or then.
    """
    grams = [_grams(one) for one in words]
    asked = {prompt: set(_grams(words_of(prompt))) for prompt in {*prompts}}
    return {
        "length": [float(len(one)) for one in words],
        "repetition": [_repetition(one) for one in grams],
        "marks": [_marks(answer) for answer in answers],
        "copied": [_copied(asked[p], one) for p, one in zip(prompts, grams, strict=True)],
        "same_answer": _same(prompts, [" ".join(one) for one in words], before),
        "foreign": start.foreign(answers),
        "long": [start.long(one) for one in words],
    }


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(words[at:] for at in range(_GRAM)), strict=False))


def _repetition(grams: Sequence[tuple[str, ...]]) -> float | None:
    return 1 - len(set(grams)) / len(grams) if grams else None


def _copied(asked: set[tuple[str, ...]], grams: Sequence[tuple[str, ...]]) -> float | None:
    return sum(gram in asked for gram in grams) / len(grams) if grams else None


def _marks(answer: str) -> float | None:
    return 100 * len(_MARK.findall(answer)) / len(answer) if answer.strip() else None


def _same(
    prompts: Sequence[str], answers: Sequence[str], before: Sequence[tuple[str, str]]
) -> list[float | None]:
    asked: dict[str, set[str]] = {}
    for prompt, answer in [*zip(prompts, answers, strict=True), *before]:
        asked.setdefault(answer, set()).add(prompt)
    return [
        float(bool(asked[answer] - {prompt}))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
