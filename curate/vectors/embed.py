"""Text embeddings that depend on the text alone: in any batch, in any order, after any restart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from siftune.curate.core.progress import report_progress
from siftune.curate.files.atomic import digest_of
from siftune.curate.vectors.embed_model import declared_dimension, find_model, model_hash
from siftune.curate.vectors.embed_pool import Windows, check_devices, rows_on
from siftune.curate.vectors.encoder import Dtype, Encoder, load_encoder
from siftune.curate.vectors.vector_cache import VectorCache

__all__ = ["Dtype", "Embedded", "Embedder", "Long"]

Long: TypeAlias = Literal["cut", "pool"]

_SAVE_EVERY: Final = 512  # texts; what a kill can cost
_LAYOUT: Final = 2  # raise when a change here changes the vectors


class Embedded(NamedTuple):
    """Embeddings of ``n`` texts; NaN in both where a text has no tokens."""

    vectors: np.ndarray  # (n, dimension) float32, unit length
    cut: np.ndarray  # (n,) float32, share of the text's tokens that the model was not shown


@dataclass(frozen=True)
class Embedder:
    """Unit vectors of texts from a sentence-transformers model, each depending on its text alone.

    A batch holds texts of one token count, so nothing is padded and nothing masked. Where a row of
    a matrix product could have other bits beside other rows (`Encoder.fixed`; not so with oneDNN
    on a CPU) batches of one length also have one shape, free places holding copies. So on one kind
    of machine a text's vector is the same to the last bit, alone or among a million, and a cache
    that is half full changes nothing.

    Options:
        model: a model folder, a name of `siftune models list`, or a name on the hub; None is
            all-MiniLM-L6-v2.
        dtype: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes in it. Pooling and
            normalisation are in fp32 either way. `measured` tells what that costs.
        device: ``auto`` is CUDA where there is one, else the CPU.
        long: what happens to tokens beyond the model's window. ``cut`` drops them and says so;
            ``pool`` takes the mean of every window's unit vector, weighted by its tokens.
        cache: a folder in which vectors are kept by content.
        devices: several devices of one kind, each with a process of its own: ``cuda:0``,
            ``cuda:1``. The vectors are those that one of them gives.
    """

    model: str | None = None
    dtype: Dtype = "auto"
    device: str = "auto"
    long: Long = "cut"
    cache: str | None = None
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_devices(self.device, self.devices)

    @property
    def dimension(self) -> int:
        """Numbers in an embedding; read from the model's files, without loading it if possible."""
        declared = declared_dimension(find_model(self.model))
        return self._encoder.dimension if declared is None else declared

    def describe(self) -> dict[str, Any]:
        """What the options stand for, for keys and manifests; the model is not loaded for it."""
        return {
            "model": self.model or "all-MiniLM-L6-v2",
            "model_sha256": model_hash(find_model(self.model)),
            "dtype": self.dtype,
            "long": self.long,
            "layout": _LAYOUT,
        }

    def measured(self) -> dict[str, Any]:
        """What was chosen on this machine, and the least cosine to fp32 over a few fixed texts."""
        encoder = self._encoder
        return {
            "dtype": encoder.dtype,
            "device": encoder.device,
            "window": encoder.window,
            "min_cosine_to_fp32": encoder.min_cosine,
        }

    def encode(self, texts: Sequence[str]) -> Embedded:
        """Embed ``texts``; how many distinct ones are done is said (`core.progress`).

        Raises:
            UsageError: the model cannot be found or loaded, or the cache is damaged.
        """
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        distinct = dict(zip(keys, texts, strict=True))
        cache = self._cache
        known = cache.get(list(distinct)) if cache else {}
        total, new = len(distinct), [key for key in distinct if key not in known]
        for part, rows in self._embed(new, [distinct[key] for key in new]):
            known |= zip(part, rows, strict=True)
            if cache:
                cache.put(zip(part, rows, strict=True))
            report_progress(len(known), total, "texts")
        table = np.array([known[key] for key in keys], dtype=np.float32)
        table = table.reshape(len(keys), self.dimension + 1)
        return Embedded(table[:, :-1], table[:, -1])

    def _embed(
        self, keys: list[bytes], texts: list[str]
    ) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """Keys and their rows (vector, then cut share), longest first, in parts worth saving."""
        if not texts:
            return
        windows = self._encoder.tokenize(texts)
        order = sorted(range(len(texts)), key=lambda i: (-len(windows[i][0]), keys[i]))
        parts = [order[at : at + _SAVE_EVERY] for at in range(0, len(order), _SAVE_EVERY)]
        rows = self._rows([[windows[i] for i in part] for part in parts])
        for part, some in zip(parts, rows, strict=True):
            yield [keys[i] for i in part], some

    def _rows(self, parts: list[Windows]) -> Iterator[np.ndarray]:
        pool = self.long == "pool"
        if len(self.devices) < 2 or len(parts) < 2:
            return (self._encoder.rows(part, pool) for part in parts)
        return rows_on(self.devices, find_model(self.model), self.dtype, parts, pool)

    @property
    def _cache(self) -> VectorCache | None:
        if self.cache is None:
            return None
        encoder = self._encoder
        device = encoder.device if len(self.devices) < 2 else encoder.device.partition(":")[0]
        name = digest_of([self.describe(), encoder.dtype, device])
        return VectorCache(Path(self.cache) / f"embedding-{name}.sqlite", self.dimension + 1)

    @property
    def _encoder(self) -> Encoder:
        device = self.devices[0] if self.devices else self.device
        return load_encoder(find_model(self.model), self.dtype, device)
