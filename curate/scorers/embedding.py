"""Embedding: the prompt, the answer or both as a unit vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.rows.chat import Part, part_of
from siftune.curate.vectors.embed import Dtype, Embedder, Long

__all__ = ["Embedding"]


@dataclass(frozen=True)
class Embedding:
    """``embedding``, a unit vector, and ``embedding_cut``, the share of the text beyond the window.

    The dot product of two embeddings is the cosine of their angle. Models have a window (256 word
    pieces for the packaged all-MiniLM-L6-v2, trained on English up to 2021): text beyond it is cut,
    and ``embedding_cut`` is its share, or pooled. A text without tokens has no embedding: null.

    Options:
        of: ``both`` (every turn), ``prompt`` (all before the last assistant turn) or ``response``
            (that turn). The columns have the same names for all three.
        model: a model folder, a name of `siftune models list`, or a name on the hub; by default
            all-MiniLM-L6-v2 (``minilm``), its files checked. Models that want their own code run
            are refused.
        long: ``cut`` what is beyond the window, or ``pool``: the text is split into windows that do
            not overlap, and the embedding is the mean of the windows' unit vectors, each weighted
            by its number of tokens, scaled to length 1. It does not depend on the other texts.
        dtype: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes in it. For the
            packaged model the cosine to fp32 stays above 0.9998 and it is twice as fast.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache: a folder in which embeddings are kept by content, so that no text is embedded twice.
        devices: several devices of one kind instead of ``device``, a process for each.
    """

    of: Part = "both"
    model: str | None = None
    long: Long = "cut"
    dtype: Dtype = "auto"
    device: str = "auto"
    cache: str | None = None
    devices: tuple[str, ...] = ()

    needs: ClassVar = ("messages",)

    @property
    def adds(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """Columns that are added; the width of the vectors is the model's."""
        width = self._embedder.dimension
        return {"embedding": pl.Array(pl.Float32, width), "embedding_cut": pl.Float32}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Embed one text a row."""
        texts = part_of(batch["messages"], self.of)
        present = texts.is_not_null().to_numpy()
        vectors = np.full((len(texts), self._embedder.dimension), np.nan, dtype=np.float32)
        cut = np.full(len(texts), np.nan, dtype=np.float32)
        vectors[present], cut[present] = self._embedder.encode(texts.drop_nulls().to_list())
        table = pl.DataFrame({"embedding": vectors, "embedding_cut": cut}, schema=dict(self.adds))
        embedded = pl.col("embedding_cut").is_not_nan()
        return table.select(pl.when(embedded).then(pl.all()).name.keep())

    def describe(self) -> dict[str, Any]:
        """The resolved options, for keys and manifests: the model by its content."""
        return self._embedder.describe()

    def measured(self) -> dict[str, Any]:
        """The precision chosen on this machine, and its measured cosine to fp32."""
        return self._embedder.measured()

    @property
    def _embedder(self) -> Embedder:
        return Embedder(self.model, self.dtype, self.device, self.long, self.cache, self.devices)
