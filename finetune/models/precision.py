"""Number formats of training and evaluation: bf16 for frozen models, fp32 for all that is trained.

A policy and its reference have one format, so that they start equal: bf16 under an adapter, fp32
where all weights are trained, unless ``bf16`` is asked for.

On a CPU the weights of a frozen model are bf16 themselves. On a GPU bf16 is autocast over fp32
weights, as transformers does it; ``bf16`` in place of ``auto`` halves the frozen weights there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from siftune.curate.models.precision import (
    Precision,
    multiplies_bf16,
    reason_for,
    resolve_precision,
)
from siftune.finetune.core import distributed
from siftune.finetune.models.loading import DType, device

__all__ = [
    "REFERENCE",
    "Precision",
    "formats",
    "frozen_dtype",
    "machine_arguments",
    "precision_used",
    "reference_dtype",
    "report",
]

REFERENCE: Final = "the reference"
"""Its name in ``frozen`` of `formats`, where it is a model of its own in the frozen format."""


def precision_used(precision: Precision) -> str:
    """The number format of ``precision`` on this machine, for keys of runs and caches."""
    where = device().type
    return precision if where != "cpu" else resolve_precision(precision, where)


def frozen_dtype(precision: Precision) -> DType:
    """Dtype of the weights of a reference, a base under an adapter, or an evaluated model."""
    return "bfloat16" if precision_used(precision) == "bf16" else "float32"


def reference_dtype(precision: Precision, adapter: bool) -> DType:
    """Dtype of a policy's reference: that of the policy's own weights, unless it is ``bf16``.

    With ``adapter`` those are frozen, else trained and so fp32. In another format than the policy a
    reference differs from it before the first step: the log-ratios, rewards and KL are not 0.
    """
    return frozen_dtype(precision) if adapter or precision == "bf16" else "float32"


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
    """Print one line on stderr: what runs in which number format, and why (see `formats`)."""
    apart = ""
    if REFERENCE in frozen and "the frozen base" not in frozen and _narrow(precision, frozen):
        apart = (
            "; the policy starts apart from its reference by the rounding: rewards, accuracies and "
            "KL are not those of equal models at step 0"
        )
    used, why = formats(precision, frozen, trained), _reason(precision, frozen, trained)
    distributed.progress(f"precision: {used} ({why}){apart}")


def formats(precision: Precision, frozen: Sequence[str], trained: str = "") -> str:
    """What runs in which number format on this machine, for reports, cards and keys of runs.

    ``frozen`` names the models in the frozen format, ``trained`` what is trained, if anything.
    """
    if _narrow(precision, frozen):
        rest = f"{trained}, optimiser and loss" if trained else "log-softmax"
        return f"bf16 for {' and '.join(frozen)}, fp32 for {rest}"
    if trained and machine_arguments(precision)["bf16"]:
        return "bf16 autocast over fp32 weights"
    return "fp32"


def _narrow(precision: Precision, frozen: Sequence[str]) -> bool:
    return precision_used(precision) == "bf16" and len(frozen) > 0


def _reason(precision: Precision, frozen: Sequence[str], trained: str) -> str:
    where = device().type
    if _narrow(precision, frozen) or (trained and machine_arguments(precision)["bf16"]):
        return reason_for(precision, where)
    if precision_used(precision) == "bf16":
        return "all weights are trained: small steps would vanish in bf16"
    if where != "cpu" and precision == "auto" and multiplies_bf16(where):
        return "on a GPU --precision bf16 halves the weights"
    return reason_for(precision, where)
