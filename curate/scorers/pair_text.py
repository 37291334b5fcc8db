"""Comparison of a pair's answers: lengths, edit distance, overlap, refusals, copied prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.comparing.shingles import shingle
from siftune.curate.rows.chat import contents
from siftune.curate.text.refusals import refusals
from siftune.curate.text.words import words_of

__all__ = ["PairText"]

_LEAST: Final = 5
"""Words that a prompt has, at least, for its copy in an answer to mean something."""
_CELLS: Final = 200_000_000
"""Words of one answer times words of the other, beyond which no edit distance is computed."""


@dataclass(frozen=True)
class PairText:
    """What can be read off the two answers of a pair without a model.

    * ``pair_text_gap_words``: words of the chosen answer less those of the rejected one
    * ``pair_text_longer_won``: whether the chosen answer has more words; null where they have as
      many. Its mean is the length bias of a set: .5 is none
    * ``pair_text_edit``: Levenshtein distance in words, divided by the longer answer's words: 0 for
      equal, 1 for wholly different ones. Pairs that differ in little teach that little, or are
      noise. Null where it would take more than 2·10⁸ steps
    * ``pair_text_overlap``: Jaccard similarity of the sets of words
    * ``pair_text_equal``: whether both are the same but for case, punctuation and spaces
    * ``pair_text_both_refuse``: whether both refuse (English): such a pair teaches manners alone
    * ``pair_text_prompt_in_chosen``, ``pair_text_prompt_in_rejected``: whether the answer contains
      the whole prompt, of five words or more: a sign of a wrong split, or of an echo

    Words are runs of letters and digits, without case; a letter each in scripts without spaces. A
    pair that lacks the text of an answer scores null.

    Not for ranking answers by quality: it compares their surfaces.
    """

    content: ClassVar = ("prompt", "chosen", "rejected")
    needs: ClassVar = ("prompt", "chosen", "rejected")
    adds: ClassVar = {
        "pair_text_gap_words": pl.Int64,
        "pair_text_longer_won": pl.Boolean,
        "pair_text_edit": pl.Float64,
        "pair_text_overlap": pl.Float64,
        "pair_text_equal": pl.Boolean,
        "pair_text_both_refuse": pl.Boolean,
        "pair_text_prompt_in_chosen": pl.Boolean,
        "pair_text_prompt_in_rejected": pl.Boolean,
    }

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Compare the answers of each pair."""
        prompt, chosen, rejected = (contents(batch[name]) for name in self.needs)
        words = {
            name: _words(text)
            for name, text in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected))
        }
        pairs = list(zip(words["chosen"], words["rejected"], strict=True))
        gap = words_of(chosen).cast(pl.Int64) - words_of(rejected).cast(pl.Int64)
        asked = [one if one is not None and len(one) >= _LEAST else None for one in words["prompt"]]
        frame = pl.DataFrame(
            {
                "gap_words": gap,
                "longer_won": pl.Series(gap > 0).set(gap == 0, None),
                "edit": pl.Series([edit_distance(*one) for one in pairs], dtype=pl.Float64),
                "overlap": pl.Series([_overlap(*one) for one in pairs], dtype=pl.Float64),
                "equal": pl.Series([np.array_equal(*one) for one in pairs], dtype=pl.Boolean),
                "both_refuse": _both_refuse(prompt, chosen, rejected),
                **{
                    f"prompt_in_{side}": pl.Series(
                        [
                            None if one is None or told is None else _contains(told, one)
                            for one, told in zip(asked, words[side], strict=True)
                        ],
                        dtype=pl.Boolean,
                    )
                    for side in ("chosen", "rejected")
                },
            }
        )
        known = chosen.is_not_null() & rejected.is_not_null()
        return frame.select(
            pl.when(known).then(pl.col(name.removeprefix("pair_text_"))).alias(name)
            for name in self.adds
        ).cast(pl.Schema(self.adds))


def _both_refuse(prompt: pl.Series, chosen: pl.Series, rejected: pl.Series) -> pl.Series:
    """Whether both answers refuse; the rejected ones are read where the chosen ones do."""
    found = refusals(prompt, chosen)
    refused = found.fill_null(False)
    if not refused.any():
        return found
    return found.scatter(
        refused.arg_true(), refusals(prompt.filter(refused), rejected.filter(refused))
    )


_Words = Any  # hashes of a text's words, or None


def _words(texts: pl.Series) -> Sequence[_Words]:
    hashes, offsets = shingle(texts, 1)
    parts = np.split(hashes, offsets[1:-1]) if len(texts) else []
    return [part if there else None for part, there in zip(parts, texts.is_not_null(), strict=True)]


def edit_distance(one: _Words, other: _Words) -> float | None:
    """Levenshtein distance over the length of the longer; two empty texts are equal.

    A row of the table at a time: insertions along it are a running minimum of ``cost - position``.
    """
    if one is None or other is None or len(one) * len(other) > _CELLS:
        return None
    longest = max(len(one), len(other))
    if not longest:
        return 0.0
    start = _shared(one, other)
    one, other = one[start:], other[start:]
    end = _shared(one[::-1], other[::-1])
    one, other = one[: len(one) - end], other[: len(other) - end]
    if len(one) > len(other):
        one, other = other, one
    place = np.arange(len(other) + 1)
    cost = place.copy()
    for at, word in enumerate(one, 1):
        kept = np.minimum(cost[1:] + 1, cost[:-1] + (other != word))
        cost = np.minimum.accumulate(np.concatenate([[at], kept]) - place) + place
    return float(cost[-1] / longest)


def _shared(one: Any, other: Any) -> int:
    """How many words both begin with."""
    size = min(len(one), len(other))
    differs = np.flatnonzero(one[:size] != other[:size])
    return int(differs[0]) if len(differs) else size


def _overlap(one: _Words, other: _Words) -> float | None:
    if one is None or other is None or not (len(one) or len(other)):
        return None
    whole = len(np.union1d(one, other))
    return len(np.intersect1d(one, other)) / whole


def _contains(text: Any, part: Any) -> bool:
    """Whether ``text`` contains the words of ``part`` one after another."""
    starts = np.flatnonzero(text[: len(text) - len(part) + 1] == part[0]) if len(part) else ()
    return any(np.array_equal(text[at : at + len(part)], part) for at in starts)
