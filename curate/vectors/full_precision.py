"""Context manager: torch matrix products in full precision, whatever the process has set."""

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
    allows products of float32 in bfloat16 or TF32; by default cuBLAS may sum parts of a bfloat16
    product in bfloat16. The error bounds and exact modes here allow neither. The settings are
    global to the process and are restored at the end.
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
