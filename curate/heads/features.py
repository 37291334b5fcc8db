"""Features of a prompt and its answer: frozen embeddings and simple statistics of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.text import text_statistics as statistics
from siftune.curate.vectors.embed import Dtype, Embedder

__all__ = ["Features", "Kinds"]

Kinds: TypeAlias = Literal["both", "embedding", "simple"]

_LAYOUT: Final = 1  # raise when a change here changes the numbers


@dataclass(frozen=True)
class Features:
    """Numbers of a prompt with an answer, in blocks of one kind each.

    ``embedding`` is the unit vector of the answer, and its products, dimension by dimension, with
    that of the prompt (their sum is the cosine). ``simple`` has the logarithms of characters, words
    and lines, the mean length of words, and the shares of symbols, digits, capitals, code,
    repeated 3-grams and question marks; a share of nothing is 0.
    """

    kinds: Kinds = "both"
    model: str | None = None
    dtype: Dtype = "auto"
    cache: str | None = None

    @property
    def blocks(self) -> tuple[int, ...]:
        """The number of features of each block."""
        width = 0 if self.kinds == "simple" else self._embedder.dimension
        simple = 0 if self.kinds == "embedding" else _SIMPLE
        return tuple(size for size in (width, width, simple) if size)

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
            blocks += [told, asked * told]
        if self.kinds != "embedding":
            blocks.append(_simple([answer for _, answer in known]))
        found = np.full((len(texts), sum(self.blocks)), np.nan)
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


_TEXT: Final = pl.col("text")
_COUNTS: Final = (
    _TEXT.str.len_chars(),
    _TEXT.str.count_matches(r"\S+"),
    _TEXT.str.count_matches(r"\n"),
)
_SHARES: Final = (
    statistics.mean_word_length(_TEXT).log1p(),
    statistics.share(_TEXT, r"[^\p{L}\p{M}\p{N}\s.,;:!?'\"()’‘“”–-]"),
    statistics.share(_TEXT, r"\p{N}+"),
    statistics.share_of_letters(_TEXT, r"\p{Lu}"),
    statistics.share(_TEXT, r"(?s)```.*?(?:```|$)"),
    statistics.share(_TEXT, r"\?"),
)
_SIMPLE: Final = len(_COUNTS) + len(_SHARES) + 1


def _simple(texts: Sequence[str]) -> Floats:
    told = pl.Series("text", texts, dtype=pl.String)
    columns = [*(count.cast(pl.Float64).log1p() for count in _COUNTS), *_SHARES]
    table = told.to_frame().select(
        [column.cast(pl.Float64).alias(str(at)) for at, column in enumerate(columns)]
    )
    repeated = statistics.repeated_ngrams(told).cast(pl.Float64).alias("repeated")
    return table.with_columns(repeated).fill_null(0.0).to_numpy()
