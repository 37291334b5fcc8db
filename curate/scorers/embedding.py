"""Embedding: the prompt, the answer or both as a unit vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.models.precision import Precision
from siftune.curate.rows.chat import Part, part_of
from siftune.curate.vectors.embed import Embedder, Long

__all__ = ["Embedding"]


@dataclass(frozen=True)
class Embedding:
    """``embedding``, a unit vector, and ``embedding_cut``, the share of the text beyond the window.

    The dot product of two embeddings is the cosine of their angle. Models have a window (256 word
    pieces for the packaged all-MiniLM-L6-v2, trained on English up to 2021): text beyond it is cut,
    and ``embedding_cut`` is its share, or pooled. A text without tokens has no embedding: null.

    Not for languages or code that the model was not trained on, whose vectors lie close together.

    Options:
        of: Text that is embedded: every turn (both), all before the last assistant turn (prompt),
            or that turn (response).
        model: Embedding model, as a folder, a name of `siftune models list`, or a name on the hub;
            none takes all-MiniLM-L6-v2 (``minilm``), its files checked.
        long: How text beyond the model's window is treated: left out (cut), or embedded window by
            window and averaged, weighted by tokens (pool).
        precision: Number format of the model: fp32, bf16 (twice as fast; cosine to fp32 above
            0.9998 for ``minilm``), or bf16 where the hardware computes in it (auto).
        device: Device to compute on: auto, cpu, cuda, or cuda:N.
        cache: Folder in which embeddings are stored by content, so that no text is embedded twice.
        devices: Several devices of one kind, with commas between, each with a process of its own,
            in place of ``device``.
    """

    of: Part = "both"
    model: str | None = None
    long: Long = "cut"
    precision: Precision = "auto"
    device: str = "auto"
    cache: str | None = None
    devices: tuple[str, ...] = ()

    renamed: ClassVar = (("dtype", "precision"),)

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
        return Embedder(
            self.model, self.precision, self.device, self.long, self.cache, self.devices
        )
