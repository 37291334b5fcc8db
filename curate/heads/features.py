"""Features of a prompt and its answer: frozen embeddings and simple statistics of the text.

Few labels determine few weights, so the features lie in blocks of unequal variance: under one
penalty those of a larger variance are shrunk less. Most of it has the extent of an answer, the
characters of its distinct words, because a rater's length bias, and what loops, copies the prompt
or says nothing, all show there; the form of the text has less, the topic least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.text import text_statistics as statistics
from siftune.curate.text.non_answers import truncated
from siftune.curate.text.refusals import refusals
from siftune.curate.text.word_pattern import WORD
from siftune.curate.vectors.embed import Dtype, Embedder

__all__ = ["Block", "Features", "Kinds"]

Kinds: TypeAlias = Literal["both", "embedding", "simple"]

_LAYOUT: Final = 2  # raise when a change here changes the numbers


class Block(NamedTuple):
    """Features that belong together: their number, and their variance in all before a fit."""

    size: int
    variance: float


_VECTOR: Final = 0.2
_COSINE: Final = 0.1
_EXTENT: Final = 1.0
_FORM: Final = 0.3


@dataclass(frozen=True)
class Features:
    """Numbers of a prompt with an answer, in blocks of one kind each.

    ``embedding`` has the unit vectors of the answer and of the prompt, their products, dimension by
    dimension, and the sum of these, the cosine. ``simple`` has the extent of the answer, the
    logarithm of the characters of its distinct words, and its form: logarithms of characters,
    words, lines, sentences, paragraphs, list items, headings and bold text, the mean length of
    words, the shares of symbols, digits, capitals, code, repeated 3-grams, question marks and
    distinct words, the share of the prompt's words that it has, and whether it refuses, ends like a
    text, or is cut off; a share of nothing is 0.
    """

    kinds: Kinds = "both"
    model: str | None = None
    dtype: Dtype = "auto"
    cache: str | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the features, in their order."""
        simple = (Block(1, _EXTENT), Block(_FORMS, _FORM))
        if self.kinds == "simple":
            return simple
        vector = Block(self._embedder.dimension, _VECTOR)
        vectors = (vector, vector, vector, Block(1, _COSINE))
        return vectors if self.kinds == "embedding" else (*vectors, *simple)

    @property
    def width(self) -> int:
        """The number of features."""
        return sum(block.size for block in self.blocks)

    def __call__(self, prompts: Sequence[str | None], answers: Sequence[str | None]) -> Floats:
        """Features (rows, features); NaN without prompt or answer, or one without tokens."""
        texts = [
            (prompt, answer) if prompt and answer and prompt.strip() and answer.strip() else None
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        known = [one for one in texts if one is not None]
        blocks = []
        if self.kinds != "simple":
            asked, told = (self._vectors([one[at] for one in known]) for at in (0, 1))
            both = asked * told
            blocks += [told, asked, both, both.sum(1, keepdims=True)]
        if self.kinds != "embedding":
            blocks.append(_simple(*([one[at] for one in known] for at in (0, 1))))
        found = np.full((len(texts), self.width), np.nan)
        found[[one is not None for one in texts]] = np.concatenate(blocks, 1)
        return found

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on: the model by its content, and the number format."""
        found: dict[str, Any] = {"kinds": self.kinds, "layout": _LAYOUT}
        if self.kinds != "simple":
            known = self._embedder.describe()
            dtype = self._embedder.measured()["dtype"] if self.dtype == "auto" else self.dtype
            found |= {
                "model": self.model,
                "model_sha256": known["model_sha256"],
                "dtype": dtype,
                "embedding_layout": known["layout"],
            }
        return found

    @classmethod
    def of(cls, described: dict[str, Any], cache: str | None = None) -> Features:
        """The features that `describe` names.

        Raises:
            UsageError: they are of another version, or of another model of the same name.
        """
        found = cls(described["kinds"], described.get("model"), described.get("dtype", "auto"))
        now = found.describe()
        for name, value in described.items():
            if now.get(name) != value:
                raise UsageError(
                    f"the head was fitted on features with {name} {value}, and here it is "
                    f"{now.get(name)}: fit it again with `siftune curate fit-quality`"
                )
        return cls(found.kinds, found.model, found.dtype, cache)

    def _vectors(self, texts: Sequence[str]) -> Floats:
        vectors: Floats = self._embedder.encode(texts).vectors.astype(float)
        return vectors

    @property
    def _embedder(self) -> Embedder:
        return Embedder(self.model, self.dtype, cache=self.cache)


_TEXT: Final = pl.col("answer")
_COUNTED: Final = (
    r"(?s).",
    r"\S+",
    r"\n",
    r"[.!?](?:\s|$)",
    r"\n\s*\n",
    r"(?m)^\s*(?:[-*•]|\d+[.)])\s",
    r"(?m)^#+ ",
    r"\*\*",
)
_WORDS, _ASKED = (
    pl.col(name).str.to_lowercase().str.extract_all(WORD) for name in ("answer", "prompt")
)
_DISTINCT: Final = _WORDS.list.unique()
_SIMPLE: Final = (
    _DISTINCT.list.join("").str.len_chars().log1p(),
    *(_TEXT.str.count_matches(pattern).log1p() for pattern in _COUNTED),
    statistics.mean_word_length(_TEXT).log1p(),
    statistics.share(_TEXT, r"[^\p{L}\p{M}\p{N}\s.,;:!?'\"()’‘“”–-]"),
    statistics.share(_TEXT, r"\p{N}+"),
    statistics.share_of_letters(_TEXT, r"\p{Lu}"),
    statistics.share(_TEXT, r"(?s)```.*?(?:```|$)"),
    statistics.share(_TEXT, r"\?"),
    _TEXT.str.contains(r"[.!?\"'’”)`*:]\s*$"),
    truncated(_TEXT),
    _DISTINCT.list.len() / _WORDS.list.len().clip(1),
    _ASKED.list.set_intersection(_WORDS).list.len() / _ASKED.list.n_unique().clip(1),
)
_FORMS: Final = len(_SIMPLE) + 1  # all but the first, and two more


def _simple(prompts: Sequence[str], answers: Sequence[str]) -> Floats:
    texts = {"prompt": prompts, "answer": answers}
    table = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String))
    more = [statistics.repeated_ngrams(table["answer"]), refusals(table["prompt"], table["answer"])]
    columns: list[pl.Expr | pl.Series] = [*_SIMPLE, *more]
    numbers = table.select(
        column.cast(pl.Float64).alias(str(at)) for at, column in enumerate(columns)
    )
    return numbers.fill_null(0.0).to_numpy()
