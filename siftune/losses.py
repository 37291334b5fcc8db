"""The training objectives as classes, such as ``DPO(beta=0.1)``, and what they take and return.

A loss is called with log-probabilities, summed over the tokens of an answer, as tensors or numbers:
``DPO()(policy=(chosen, rejected), ref=(chosen, rejected)).loss`` is ``(B,)``, in the dtype of the
policy's. Losses of means per token need ``length=(chosen, rejected)`` too, the tokens in each sum.
Losses on single completions (``KTO``) and on lists take ``policy=..., ref=...`` of these.
Those that read single tokens take ``(B, T)`` log-probabilities of tokens, a ``mask`` of the same
shape, and the other values that `siftune finetune losses` names:
``TDPO2()(policy=..., ref=..., mask=(chosen, rejected), tokens={"ref_kl": (chosen, rejected)})``.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from siftune.components import LOSSES, component_class, exported

_TYPES: Final = {
    "Answers": "types",
    "AnswerLogps": "answer_types",
    "AnswerLoss": "answer_types",
    "ListLogps": "list_types",
    "ListLoss": "list_types",
    "PairLogps": "types",
    "PairLoss": "types",
}


def __getattr__(name: str) -> Any:
    if name in _TYPES:
        return getattr(importlib.import_module(f"siftune.finetune.losses.{_TYPES[name]}"), name)
    return component_class(__name__, LOSSES, name)


def __dir__() -> list[str]:
    return sorted([*_TYPES, *exported(LOSSES)])
