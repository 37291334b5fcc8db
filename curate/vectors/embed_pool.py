"""Embedding on several devices at once: a process for each, with the model loaded there."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.vectors.encoder import Dtype, load_encoder

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

__all__ = ["Windows", "check_devices", "rows_on"]

Windows: TypeAlias = list[list[list[int]]]
"""Token ids of some texts, window by window."""

_mine: Final[dict[str, tuple[Path, Dtype, str]]] = {}  # in a worker: what it embeds with, and where


def rows_on(
    devices: Sequence[str], folder: Path, dtype: Dtype, parts: Sequence[Windows], pool: bool
) -> Iterator[np.ndarray]:
    """`Encoder.rows` of each of ``parts``, in order, by one process a device.

    Whichever device is free takes the next part. The pool of sentence-transformers pads a batch to
    its longest text, so that a vector depends on its neighbours; here it is the one that a single
    device gives, to the last bit where the devices are alike.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free: Queue[str] = context.Queue()
    for device in devices:
        free.put(device)
    with ProcessPoolExecutor(len(devices), context, _start, (folder, dtype, free)) as workers:
        yield from workers.map(_rows, parts, [pool] * len(parts))


def check_devices(device: str, devices: Sequence[str]) -> None:
    """Refuse what would leave open which device, or which kind of device, a vector comes from.

    Raises:
        UsageError: ``device`` is named as well, or the devices differ in kind.
    """
    if devices and device != "auto":
        raise UsageError("device and devices: expected one of the two; leave the other out")
    if len({name.partition(":")[0] for name in devices}) > 1:
        raise UsageError(f"devices {list(devices)}: expected devices of one kind")


def _start(folder: Path, dtype: Dtype, free: Queue[str]) -> None:
    _mine["model"] = (folder, dtype, free.get())


def _rows(windows: Windows, pool: bool) -> np.ndarray:
    return load_encoder(*_mine["model"]).rows(windows, pool)
