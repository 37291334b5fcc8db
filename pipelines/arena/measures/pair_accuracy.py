"""Pair accuracy: whether the model's implicit reward prefers the chosen answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from siftune.curate.files.atomic import digest_of
from siftune.pipelines.arena.measures.types import MEASURED_IN, Asked, Better, Values

__all__ = ["PairAccuracy"]


@dataclass(frozen=True)
class PairAccuracy:
    """1 where ``log π/π_base`` of the chosen answer is above that of the rejected one, ties 0.5.

    DPO's implicit reward without its factor (arXiv:2305.18290, equation 5), summed over the answer,
    from the model that all arms start from. ``against: nothing`` takes ``log π`` alone, which
    prefers short answers. A pair that does not fit into the window has no value.

    Not for held-out pairs by the annotator whose pairs were trained on alone: it measures that
    annotator.

    Options:
        against: Model that log-ratios are measured from: the base, or nothing.
    """

    against: Literal["base", "nothing"] = "base"

    better: ClassVar[Better] = "higher"
    kinds: ClassVar = ("preference",)

    def __call__(self, asked: Asked) -> Values:
        """1, 0.5, 0 or None for each pair."""
        from siftune.finetune.data.training_rows import data_hash

        own = _margins(asked, asked.model)
        if self.against == "base":
            name = digest_of(["base margins", asked.base, data_hash(asked.table)])
            if name not in asked.memory:
                asked.memory[name] = _margins(asked, _base(asked))
            base = asked.memory[name]
        else:
            base = [0.0] * len(own)
        return Values([_right(one, other) for one, other in zip(own, base, strict=True)])


def _right(own: float | None, base: float | None) -> float | None:
    if own is None or base is None:
        return None
    return 0.5 if own == base else float(own > base)


def _margins(asked: Asked, model: Any) -> list[float | None]:
    """Log-probability of the chosen answer less that of the rejected one."""
    from siftune.finetune.evaluation.implicit_reward import pairs_by_log_ratio

    found = pairs_by_log_ratio(
        model, None, asked.tokenizer, asked.table, asked.batch_size, "held-out pairs"
    )
    return [one.get("margin") for one in found]


def _base(asked: Asked) -> Any:
    from siftune.finetune.models import loading

    if "base" not in asked.memory:
        model = loading.load_causal(asked.base, MEASURED_IN)
        asked.memory["base"] = loading.placed(model)
    return asked.memory["base"]
