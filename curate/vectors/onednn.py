"""Linear layers by oneDNN: the processor's widest instructions, in float32 too."""

from __future__ import annotations

import os
from typing import Final

import torch
import torch.nn.functional as F

__all__ = ["Linear"]

_ROWS: Final = 256  # what the weights' layout is chosen for; any number can come

# oneDNN compiles a kernel for each shape and keeps 1,024 of them, a megabyte each. Texts come by
# length, so a shape that has passed is not seen again soon. Read once, before the first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


class Linear:
    """``x @ weight.T + bias`` for ``x`` (n, d), with what follows it in the same pass over memory.

    The weights are laid out once as the kernels read them. What torch multiplies float32 with by
    default (MKL) keeps to 256 bits on processors of other makers than Intel; oneDNN, which torch
    carries as well, does not: twice as fast. These are the operators that ``torch.compile`` puts in
    place of linear layers; where they are missing, torch's own are used.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._bias = bias
        self._packed = _can_use(weight)
        self._weight = _pack(weight) if self._packed else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer, (n, m)."""
        return self._then(x, "none") if self._packed else F.linear(x, self._weight, self._bias)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """``gelu(layer(x))``, by the error function."""
        if self._packed:
            return self._then(x, "gelu")
        return F.gelu(F.linear(x, self._weight, self._bias))

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """``layer(x) + other``."""
        if not self._packed:
            return F.linear(x, self._weight, self._bias) + other
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other, self._weight, self._bias, "add"
        )
        return found

    def _then(self, x: torch.Tensor, what: str) -> torch.Tensor:
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, what, [], "none" if what == "gelu" else ""
        )
        return found


def _can_use(matrix: torch.Tensor) -> bool:
    if matrix.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if matrix.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return matrix.dtype == torch.float32


def _pack(weight: torch.Tensor) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
    return packed
