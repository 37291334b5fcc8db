"""Text embeddings that depend on the text alone, not on batch, order, restart or devices."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import report_progress
from siftune.curate.files.atomic import digest_of
from siftune.curate.vectors.embed_model import declared_dimension, find_model, model_hash
from siftune.curate.vectors.encoder import Dtype, Encoder, load_encoder
from siftune.curate.vectors.vector_cache import VectorCache

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

__all__ = ["Dtype", "Embedded", "Embedder", "Long"]

Long: TypeAlias = Literal["cut", "pool"]
Windows: TypeAlias = list[list[list[int]]]
"""Token ids of several texts, window by window."""

_SAVE_EVERY: Final = 512  # texts: the most that are embedded again after a kill
_LAYOUT: Final = 2  # raise when a change here changes the vectors
_worker: Final[dict[str, tuple[Path, Dtype, str]]] = {}  # model of a worker process


class Embedded(NamedTuple):
    """Embeddings of ``n`` texts; NaN in both where a text has no tokens."""

    vectors: np.ndarray  # (n, dimension) float32, unit length
    cut: np.ndarray  # (n,) float32, share of the text's tokens that were cut off


@dataclass(frozen=True)
class Embedder:
    """Unit vectors of texts from a sentence-transformers model, each depending on its text alone.

    A batch has texts of one token count, so there is no padding and no mask. If a row of a matrix
    product may depend on the number of rows (`Encoder.fixed`; not with oneDNN on a CPU), batches of
    one length also have one shape, filled with copies. So on one kind of machine the vector of a
    text is bit-equal alone or among a million, and with any content of the cache.

    Options:
        model: a model folder, a name of `siftune models list`, or a name on the hub; None is
            all-MiniLM-L6-v2.
        dtype: ``fp32``, ``bf16``, or ``auto``: bf16 where the hardware computes in it. Pooling and
            normalisation are in fp32 either way. `measured` has the loss.
        device: ``auto`` is CUDA where there is one, else the CPU.
        long: what to do with tokens beyond the model's window. ``cut`` drops them and reports the
            share; ``pool`` takes the mean of the windows' unit vectors, weighted by tokens.
        cache: a folder in which vectors are stored by content.
        devices: several devices of one kind, each with its own process: ``cuda:0``, ``cuda:1``. The
            vectors are those of a single device.
    """

    model: str | None = None
    dtype: Dtype = "auto"
    device: str = "auto"
    long: Long = "cut"
    cache: str | None = None
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_devices(self.device, self.devices)

    @property
    def dimension(self) -> int:
        """Width of an embedding; read from the model's files, without loading it if possible."""
        declared = declared_dimension(find_model(self.model))
        return self._encoder.dimension if declared is None else declared

    def describe(self) -> dict[str, Any]:
        """The resolved options, for keys and manifests; does not load the model."""
        return {
            "model": self.model or "all-MiniLM-L6-v2",
            "model_sha256": model_hash(find_model(self.model)),
            "dtype": self.dtype,
            "long": self.long,
            "layout": _LAYOUT,
        }

    def measured(self) -> dict[str, Any]:
        """Settings chosen on this machine, and the least cosine to fp32 over a few fixed texts."""
        encoder = self._encoder
        return {
            "dtype": encoder.dtype,
            "device": encoder.device,
            "window": encoder.window,
            "min_cosine_to_fp32": encoder.min_cosine,
        }

    def encode(self, texts: Sequence[str]) -> Embedded:
        """Embed ``texts``; reports the number of distinct texts done (`core.progress`).

        Raises:
            UsageError: the model cannot be found or loaded, or the cache is damaged.
        """
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        distinct = dict(zip(keys, texts, strict=True))
        cache = self._cache
        rows_of = cache.get(list(distinct)) if cache else {}
        total, new = len(distinct), [key for key in distinct if key not in rows_of]
        for part, rows in self._embed(new, [distinct[key] for key in new]):
            rows_of |= zip(part, rows, strict=True)
            if cache:
                cache.put(zip(part, rows, strict=True))
            report_progress(len(rows_of), total, "texts")
        table = np.array([rows_of[key] for key in keys], dtype=np.float32)
        table = table.reshape(len(keys), self.dimension + 1)
        return Embedded(table[:, :-1], table[:, -1])

    def _embed(
        self, keys: list[bytes], texts: list[str]
    ) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """Keys and their rows (vector, then cut share), longest texts first, in parts to save."""
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
        return _rows_on(self.devices, find_model(self.model), self.dtype, parts, pool)

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


def _rows_on(
    devices: Sequence[str], folder: Path, dtype: Dtype, parts: Sequence[Windows], pool: bool
) -> Iterator[np.ndarray]:
    """`Encoder.rows` of each of ``parts``, in order, with one process per device.

    A free device takes the next part. The multi-process pool of sentence-transformers pads a batch
    to its longest text, so a vector depends on its batch; here it equals that of a single device,
    bit for bit if the devices are of one model.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    queue: Queue[str] = context.Queue()
    for device in devices:
        queue.put(device)
    with ProcessPoolExecutor(
        len(devices), context, _start_worker, (folder, dtype, queue)
    ) as workers:
        yield from workers.map(_worker_rows, parts, [pool] * len(parts))


def _check_devices(device: str, devices: Sequence[str]) -> None:
    """Refuse options that do not determine the kind of device.

    Raises:
        UsageError: ``device`` is given as well, or the devices are of several kinds.
    """
    if devices and device != "auto":
        raise UsageError("device and devices: expected one of the two; leave the other out")
    if len({name.partition(":")[0] for name in devices}) > 1:
        raise UsageError(f"devices {list(devices)}: expected devices of one kind")


def _start_worker(folder: Path, dtype: Dtype, devices: Queue[str]) -> None:
    _worker["model"] = (folder, dtype, devices.get())


def _worker_rows(windows: Windows, pool: bool) -> np.ndarray:
    return load_encoder(*_worker["model"]).rows(windows, pool)
