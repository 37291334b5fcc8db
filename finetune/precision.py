"""Number formats of training and evaluation: bf16 for frozen models, fp32 for all that is trained.

On a CPU the weights of a frozen model are bf16 themselves. On a GPU bf16 is autocast over fp32
weights, as transformers does it; ``bf16`` in place of ``auto`` halves the frozen weights there too.
"""

from __future__ import annotations

from collections.abc import Sequence

from curate.core.precision import Precision, multiplies_bf16, reason_for, resolve_precision
from finetune import ranks
from finetune.models import DType, device

__all__ = ["Precision", "frozen_dtype", "machine_arguments", "precision_used", "report"]


def precision_used(precision: Precision) -> str:
    """What ``precision`` comes to on this machine, for keys of runs and caches."""
    where = device().type
    return precision if where != "cpu" else resolve_precision(precision, where)


def frozen_dtype(precision: Precision) -> DType:
    """Of the weights of a reference, of a base under an adapter, of a model that is evaluated."""
    return "bfloat16" if precision_used(precision) == "bf16" else "float32"


def machine_arguments(precision: Precision = "auto") -> dict[str, bool]:
    """Training arguments of this machine: bf16 autocast on a GPU that has it, never on a CPU.

    On a CPU weights that are trained are fp32, and so is what is computed with them: steps of a
    small learning rate vanish in bf16 weights.
    """
    import torch

    if not torch.cuda.is_available():
        return {"use_cpu": True, "bf16": False, "fp16": False}
    autocast = precision != "fp32" and torch.cuda.is_bf16_supported()
    return {"use_cpu": False, "bf16": autocast, "fp16": False}


def report(precision: Precision, frozen: Sequence[str], trained: str = "") -> None:
    """Print one line on stderr: what runs in which number format, and why.

    ``frozen`` names the models that are not trained, ``trained`` what is, if anything.
    """
    ranks.tell(f"precision: {_formats(precision, frozen, trained)}")


def _formats(precision: Precision, frozen: Sequence[str], trained: str) -> str:
    where = device().type
    if precision_used(precision) == "bf16" and frozen:
        rest = f"{trained}, optimiser and loss" if trained else "log-softmax"
        return f"bf16 for {' and '.join(frozen)}, fp32 for {rest} ({reason_for(precision, where)})"
    if trained and machine_arguments(precision)["bf16"]:
        return f"bf16 autocast over fp32 weights ({reason_for(precision, where)})"
    if precision_used(precision) == "bf16":
        return "fp32 (all weights are trained: small steps would vanish in bf16)"
    if where != "cpu" and precision == "auto" and multiplies_bf16(where):
        return "fp32 (on a GPU --precision bf16 halves the weights)"
    return f"fp32 ({reason_for(precision, where)})"
