"""Number format of a frozen model: float32, or bfloat16 where the hardware multiplies it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias

__all__ = [
    "NumberFormat",
    "Precision",
    "device_name",
    "multiplies_bf16",
    "reason_for",
    "resolve_precision",
]

Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
NumberFormat: TypeAlias = Literal["fp32", "bf16"]


def device_name() -> str:
    """Where models run: ``cuda``, the first such device, or else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_precision(precision: Precision, device: str) -> NumberFormat:
    """``precision`` itself, or for ``auto`` bf16 where `multiplies_bf16`, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if multiplies_bf16(device) else "fp32"


def multiplies_bf16(device: str) -> bool:
    """Whether ``device`` (cpu, cuda, cuda:1) has instructions for products of bfloat16 matrices.

    On a CPU those are AVX512-BF16 and AMX. Elsewhere the products are correct, but slower than
    those of float32.
    """
    if find_spec("torch") is None:
        return False
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def reason_for(precision: Precision, device: str) -> str:
    """Reason for the result of `resolve_precision`, for the line that reports it.

    >>> reason_for("fp32", "cpu")
    'as asked for'
    """
    name = "GPU" if device.startswith("cuda") else "CPU"
    if precision == "fp32":
        return "as asked for"
    if multiplies_bf16(device):
        return f"this {name} multiplies bf16"
    if precision == "bf16":
        return f"as asked for; this {name} emulates bf16, and fp32 is faster"
    return f"this {name} does not multiply bf16"
