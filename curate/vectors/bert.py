"""BERT encoder on the CPU: a forward pass for texts of one length, with fused oneDNN layers."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from siftune.curate.native.jit import compiled
from siftune.curate.vectors.full_precision import full_precision

__all__ = ["Bert", "Linear"]

_LOG2_E: Final = math.log2(math.e)
_ROWS: Final = 256  # the layout of the weights is chosen for so many; any number can come

# oneDNN compiles a kernel per shape and caches 1,024 of them, a megabyte each. Texts are run by
# length, so old shapes do not come back soon. The variable is read once, before the first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


class Linear:
    """``x @ weight.T + bias`` for ``x`` (n, d) by oneDNN, with the next operation fused into it.

    The weights are packed once. MKL, torch's default for float32, uses 256-bit instructions on
    processors that are not Intel's; oneDNN, which torch includes, uses the widest: twice as fast.
    These are the operators that ``torch.compile`` replaces linear layers by; where they are
    missing, torch's own layers are used.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._bias = bias
        self._packed = _can_use(weight)
        self._weight = _pack(weight) if self._packed else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer, (n, m)."""
        return self._fused(x, "none") if self._packed else F.linear(x, self._weight, self._bias)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """``gelu(layer(x))``, the exact form with the error function."""
        if self._packed:
            return self._fused(x, "gelu")
        return F.gelu(F.linear(x, self._weight, self._bias))

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """``layer(x) + other``."""
        if not self._packed:
            return F.linear(x, self._weight, self._bias) + other
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other, self._weight, self._bias, "add"
        )
        return result

    def _fused(self, x: torch.Tensor, operation: str) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, operation, [], "none" if operation == "gelu" else ""
        )
        return result


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


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (len(self.weight),), self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class _Layer:
    qkv: Linear
    mixed: Linear
    after_mixed: _Norm
    wide: Linear
    narrow: Linear
    after_narrow: _Norm


class Bert:
    """Token embeddings of a `transformers` ``BertModel``, equal to rounding, several times as fast.

    Devlin et al., arXiv:1810.04805. All texts of a call have one length, so there is no mask.
    Queries, keys and values are one product; biases, GELU and residual sums are fused into the
    products (`Linear`). In bfloat16 the softmax is a kernel of its own, in float32 and to the base
    2 (log2 e is folded into the weights of the queries).
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        config, embeddings = model.config, model.embeddings
        self._dtype, self._heads = dtype, int(config.num_attention_heads)
        self._words = embeddings.word_embeddings.weight.detach()
        kinds = embeddings.token_type_embeddings.weight.detach()
        self._places = embeddings.position_embeddings.weight.detach() + kinds[0]
        self._first = _norm(embeddings.LayerNorm, torch.float32)
        self._layers = [self._layer(layer) for layer in model.encoder.layer]

    @staticmethod
    def can_run(model: Any) -> bool:
        """Whether ``model`` has the architecture that this class runs."""
        config = model.config
        return (
            type(model).__name__ == "BertModel"
            and config.hidden_act == "gelu"
            and getattr(config, "position_embedding_type", "absolute") == "absolute"
            and not (config.is_decoder or config.add_cross_attention)
        )

    def __call__(self, ids: Tensor) -> Tensor:
        """Token ids (texts, length) to embeddings (texts, length, width), float32."""
        texts, length = ids.shape
        x = self._first(self._words[ids] + self._places[:length])
        x = x.view(texts * length, -1).to(self._dtype)
        for layer in self._layers:
            heads = self._attend(layer.qkv(x), texts, length)
            x = layer.after_mixed(layer.mixed.plus(heads, x))
            x = layer.after_narrow(layer.narrow.plus(layer.wide.gelu(x), x))
        return x.float().view(texts, length, -1)

    def keeps_bits(self) -> bool:
        """Whether embeddings are bit-equal in any batch, tested on a few token ids.

        With oneDNN they are: it sums a row in the same order for any number of rows.
        """
        count = len(self._words)
        with torch.inference_mode(), full_precision():
            for length in (4, 16, 31):
                ids = (torch.arange(8 * length) * 7919 % count).view(8, length)
                together, half = self(ids), self(ids[:4])
                if not (
                    torch.equal(together[:4], half) and torch.equal(self(ids[5:]), together[5:])
                ):
                    return False
        return True

    def _attend(self, qkv: Tensor, texts: int, length: int) -> Tensor:
        split = qkv.view(texts, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        if self._dtype == torch.bfloat16:
            q, k, v = split.reshape(3, texts * self._heads, length, -1)
            logits = torch.bmm(q, k.transpose(1, 2))
            _softmax_base_2(logits.view(torch.int16).numpy().reshape(-1, length))
            mixed = torch.bmm(logits, v).view(texts, self._heads, length, -1)
        else:
            mixed = F.scaled_dot_product_attention(*split)
        return mixed.transpose(1, 2).reshape(texts * length, -1)

    def _layer(self, layer: Any) -> _Layer:
        attention, output = layer.attention, layer.attention.output
        return _Layer(
            self._qkv(attention.self),
            self._linear(output.dense),
            _norm(output.LayerNorm, self._dtype),
            self._linear(layer.intermediate.dense),
            self._linear(layer.output.dense),
            _norm(layer.output.LayerNorm, self._dtype),
        )

    def _qkv(self, part: Any) -> Linear:
        weights = [p.weight.detach() for p in (part.query, part.key, part.value)]
        biases = [p.bias.detach() for p in (part.query, part.key, part.value)]
        if self._dtype == torch.bfloat16:
            scale = _LOG2_E / math.sqrt(len(biases[0]) / self._heads)
            weights[0], biases[0] = weights[0] * scale, biases[0] * scale
        return Linear(torch.cat(weights).to(self._dtype), torch.cat(biases).to(self._dtype))

    def _linear(self, part: Any) -> Linear:
        return Linear(part.weight.detach().to(self._dtype), part.bias.detach().to(self._dtype))


def _norm(part: Any, dtype: torch.dtype) -> _Norm:
    return _Norm(part.weight.detach().to(dtype), part.bias.detach().to(dtype), part.eps)


def _softmax_in_numpy(logits: npt.NDArray[np.int16]) -> None:
    x = (logits.astype(np.int32) << 16).view(np.float32)
    exponents = np.maximum(x - x.max(axis=1, keepdims=True), np.float32(-126))
    powers = np.exp2(exponents)
    bits = (powers / powers.sum(axis=1, keepdims=True)).view(np.int32)
    logits[:] = ((bits + 0x8000) >> 16).astype(np.int16)


@compiled(fastmath=True, plain=_softmax_in_numpy)
def _softmax_base_2(logits: npt.NDArray[np.int16]) -> None:  # pragma: no cover - compiled
    """Softmax to the base 2 of each row (n, m) of bfloat16 numbers, given as bits, in place.

    2**x is 2**floor(x), written into the exponent bits, times a polynomial of the fraction (largest
    relative error 2e-7). Every loop compiles to vector instructions: so the maximum is taken over
    integers that are ordered as the numbers are.
    """
    size = logits.shape[1]
    x, powers = np.empty(size, np.float32), np.empty(size, np.float32)
    x_bits, power_bits = x.view(np.int32), powers.view(np.int32)
    for i in range(logits.shape[0]):
        top = np.int32(-(2**31))
        for j in range(size):
            bits = np.int32(logits[i, j])
            x_bits[j] = bits << np.int32(16)
            top = max(top, bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFF)))
        power_bits[0] = (top ^ ((top >> np.int32(31)) & np.int32(0x7FFF))) << np.int32(16)
        largest = powers[0]
        for j in range(size):
            t = x[j] - largest
            t = t if t > np.float32(-126) else np.float32(-126)
            whole = np.floor(t)
            t -= whole
            found = np.float32(1.8775767e-3) * t + np.float32(8.9893397e-3)
            found = found * t + np.float32(5.5826318e-2)
            found = found * t + np.float32(2.4015361e-1)
            found = found * t + np.float32(6.9315308e-1)
            x[j] = found * t + np.float32(9.9999994e-1)
            power_bits[j] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        total = np.float32(0)
        for j in range(size):
            x[j] *= powers[j]
            total += x[j]
        share = np.float32(1) / total
        for j in range(size):
            x[j] *= share
        for j in range(size):  # round to the nearest; all are positive and finite
            logits[i, j] = np.int16((x_bits[j] + np.int32(0x8000)) >> np.int32(16))
