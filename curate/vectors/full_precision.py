"""Products by torch as exact as their type: whatever the process has allowed torch elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["full_precision"]


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, float32 is multiplied as float32 and bfloat16 is summed in float32.

    ``torch.set_float32_matmul_precision("medium")``, which a trainer or a library may have called,
    lets products of float32 be made in bfloat16 or TF32; and cuBLAS may add up parts of a bfloat16
    product in bfloat16 unless it is told not to. Error bounds and exact modes count on neither. The
    settings are the process's: they are put back at the end.
    """
    backends: tuple[Any, ...] = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced
