"""Pairs of a ranked list: best and worst, all, neighbours, or the sweet spot below the mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.files.source_spec import Pairing
from siftune.curate.rows.convert import content_digest, fill_margin
from siftune.curate.rows.turn_fields import put_fields

__all__ = ["below_mean", "distinct_scores", "pair_of", "pairs_of", "places_of"]

_DEVIATIONS: Final = 2.0


def below_mean(scores: Any, deviations: float = _DEVIATIONS) -> float:
    """``μ - deviations · σ`` of the scores, σ that of the population; arXiv:2502.16825.

    >>> round(below_mean([1.0, 2.0, 3.0, 6.0], 1.0), 9)  # 3 - √3.5
    1.129171307
    """
    known = np.asarray(scores, float)
    scale = math.ldexp(1.0, math.frexp(float(np.abs(known).max()))[1] - 1)  # no sum overflows
    known = known / scale
    return float(known.mean() - deviations * known.std()) * scale


def distinct_scores(row: Row) -> list[float | None]:
    """The scores of a ranked row's answers, None for one that repeats an earlier scored one.

    >>> turns = [[{"role": "assistant", "content": text}] for text in "xxz"]
    >>> distinct_scores({"completions": turns, "scores": [3.0, 2.0, 1.0]})
    [3.0, None, 1.0]
    """
    scores = list[float | None](row.get("scores") or [])
    seen: set[str] = set()
    for at, score in enumerate(scores):
        if score is not None:
            text = repr(row["completions"][at])
            scores[at] = None if text in seen else score
            seen.add(text)
    return scores


def places_of(
    scores: Sequence[float | None], pairing: Pairing, key: str = ""
) -> list[tuple[int, int]]:
    """Places of the better and the worse answer of each pair; equal scores make none.

    * ``best_worst``: the highest and the lowest score; the first of equal ones
    * ``best_random``: the highest, and one of the lower ones, drawn by a hash of ``key``
    * ``all``: each two answers whose scores differ, the largest margin last
    * ``adjacent``: neighbours in the order of the scores, one answer of each score
    * ``sweet_spot``: the highest, and of the lower ones the nearest to μ - 2σ, ties the lower one

    >>> places_of([2.0, 5.0, None, 1.0], "all")
    [(0, 3), (1, 0), (1, 3)]
    >>> places_of([2.0, 5.0, 5.0, 1.0], "adjacent")
    [(1, 0), (0, 3)]

    Raises:
        BadRow: no two answers have different scores.
    """
    known = [(score, at) for at, score in enumerate(scores) if score is not None]
    if len({score for score, _ in known}) < 2:
        raise BadRow("no_pair", "a pair needs two answers with different scores and texts")
    high = max(score for score, _ in known)
    best = next(at for score, at in known if score == high)
    lower = [(score, at) for score, at in known if score < high]
    match pairing:
        case "best_worst":
            return [(best, min(lower)[1])]
        case "best_random":
            drawn = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")
            return [(best, lower[drawn % len(lower)][1])]
        case "sweet_spot":
            target = below_mean([score for score, _ in known])
            return [(best, min(lower, key=lambda one: (abs(one[0] - target), *one))[1])]
        case "adjacent":
            first = dict(reversed(known))
            order = [first[score] for score in sorted(first, reverse=True)]
            return list(itertools.pairwise(order))
    return sorted(_all_pairs(known), key=lambda one: (scores_gap(scores, one), one))


def scores_gap(scores: Sequence[float | None], places: tuple[int, int]) -> float:
    """The margin of a pair of places."""
    return (scores[places[0]] or 0.0) - (scores[places[1]] or 0.0)


def _all_pairs(known: Sequence[tuple[float, int]]) -> Iterator[tuple[int, int]]:
    for (one, at), (other, place) in itertools.permutations(known, 2):
        if one > other:
            yield at, place


def pairs_of(row: Row, pairing: Pairing) -> Iterator[Row]:
    """The pairs of a ranked row, without base columns; ``extra`` is an object.

    Equal answers count once, with the score of the first.

    Raises:
        BadRow: no two different answers have different scores.
    """
    key = content_digest("ranked", row) if pairing == "best_random" else ""
    for better, worse in places_of(distinct_scores(row), pairing, key):
        yield pair_of(row, better, worse)


def pair_of(row: Row, better: int, worse: int) -> Row:
    """A ranked row as the pair of two of its answers, with their scores and the margin.

    Fields of the two answers stay in ``extra`` as those of the sides, those of others are left out.
    """
    listed = {key: row["extra"][key] for key in row["extra"] if key.startswith("completions[")}
    extra = {key: row["extra"][key] for key in row["extra"] if key not in listed}
    picked = {"chosen": better, "rejected": worse}
    for side, at in picked.items():
        put_fields(extra, side, listed.get(f"completions[{at}].fields", ()))
    answers = {side: row["completions"][at] for side, at in picked.items()}
    scores = {f"score_{side}": row["scores"][at] for side, at in picked.items()}
    pair = row | answers | scores | {"margin": None, "win_probability": None, "extra": extra}
    fill_margin(pair)
    return pair
