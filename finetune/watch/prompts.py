"""The fixed prompts that are answered at every checkpoint: few, and unlike each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Final

import numpy as np

from siftune.finetune.watch.answer_features import words_of

__all__ = ["diverse"]

_MOST: Final = 1000  # prompts that are compared
_WIDTH: Final = 512


def diverse(
    rows: Sequence[Mapping[str, Any]], count: int, seed: int = 0
) -> list[Mapping[str, Any]]:
    """``count`` rows with prompts unlike each other; the same ones whatever the order of the rows.

    Greedy k-center (Gonzalez 1985): after a first, the prompt whose nearest chosen one is farthest.
    Prompts are vectors of hashed words and pairs of words, of length 1; of more than a thousand, a
    thousand drawn by the hashes of their ids are compared. Equal prompts count once.
    """
    by_text = {_text(row): row for row in sorted(rows, key=lambda row: str(row["id"]))}
    order = sorted(by_text, key=lambda text: _hash(f"{seed}:{by_text[text]['id']}"))[:_MOST]
    if len(order) <= count or not count:
        return [by_text[text] for text in order[:count]]
    vectors = np.stack([_vector(text) for text in order])
    chosen, nearest = [0], 1 - vectors @ vectors[0]
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, 1 - vectors @ vectors[chosen[-1]])
    return [by_text[order[at]] for at in chosen]


def _text(row: Mapping[str, Any]) -> str:
    return "\n".join(str(turn.get("content") or "") for turn in row["prompt"])


def _vector(text: str) -> np.ndarray:
    words = words_of(text)
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    found = np.bincount([_hash(one) % _WIDTH for one in [*words, *pairs]], minlength=_WIDTH)
    scaled = np.log1p(found)
    return scaled / max(float(np.linalg.norm(scaled)), 1e-12)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
