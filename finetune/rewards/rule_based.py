"""Rule-based rewards: weighted probabilities that propositions are true of an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.answer_judge import AnswerJudge
from siftune.curate.judging.criteria import Given, criteria_of
from siftune.curate.judging.judge_task import judge_task

__all__ = ["RuleBased"]


@dataclass(frozen=True, kw_only=True)
class RuleBased(AnswerJudge):
    """``sum of w_i * p_i`` over propositions; Mu et al. 2024, RBR, arXiv:2411.01111.

    The paper adds it to the score of a reward model, ``R = R_rm + sum of w_i φ_i``: name both, each
    with weight 1. ``φ_i`` is the probability that the proposition is true of the answer: of yes
    among yes and no where the judge is a model in this process, 1 or 0 where it writes. Weights are
    fitted by a hinge loss on answers whose order is known, with `siftune curate agree
    --fit-weights`, which writes their file, or `fit_proposition_weights`. What a prompt asks for
    decides which rules count (hard refusal, soft refusal, comply in the paper): ``by_kind`` has
    weights for each value of ``kind_field``, a field of the raw row.

    An answer without a verdict on one of the propositions has no score, and neither has one to a
    row whose field has another value.

    Options:
        propositions: Texts such as "the answer apologises", or mappings of text and weight.
        weights: A weight for each proposition, in place of those in the mappings.
        weights_file: File of the weights that `siftune curate agree --fit-weights` writes.
        by_kind: Weights by values of a field, such as ``{refuse: [1, -1], comply: [-1, 1]}``.
        kind_field: Field of the raw row whose value chooses among the weights by kind.
    """

    propositions: Given
    weights: tuple[float, ...] | None = None
    weights_file: str | None = None
    by_kind: Mapping[str, Any] = field(default_factory=dict)
    kind_field: str | None = None

    def __post_init__(self) -> None:
        """Refuse weights that are not one for each proposition."""
        super().__post_init__()
        if bool(self.by_kind) != (self.kind_field is not None):
            raise ValueError("by_kind: expected weights by kind exactly where kind_field is set")
        if sum(map(bool, (self.weights, self.weights_file, self.by_kind))) > 1:
            raise ValueError("weights: expected one of weights, weights_file and by_kind")
        count = len(criteria_of(self.propositions))
        for kind, own in self.by_kind.items():
            numbers = isinstance(own, list | tuple) and all(map(_is_number, own))
            if not numbers or len(own) != count:
                raise ValueError(f"by_kind: {kind}: expected {count} numbers, got {own!r}")
        _ = self._task

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The weighted sum for each answer, or None."""
        chosen = [self._weights(row) for row in rows]
        scores: list[float | None] = [None] * len(rows)
        asked = [at for at, own in enumerate(chosen) if own is not None or not self.by_kind]
        items = self.items([completions[at] for at in asked], [rows[at] for at in asked])
        for at, verdict in zip(asked, self.verdicts(self._task, items), strict=True):
            if verdict.values is not None:
                scores[at] = _sum(chosen[at], verdict.values)
        return scores

    def describe(self) -> dict[str, Any]:
        """The judge, and the weights of a file."""
        task: Any = self._task
        of_task: dict[str, Any] = task.describe()
        return super().describe() | of_task

    def _weights(self, row: Mapping[str, Any]) -> Sequence[float] | None:
        """The weights by the row's field; None where they are those of all rows, or unknown."""
        kind = (row.get("extra") or {}).get(self.kind_field)
        return {str(key): own for key, own in self.by_kind.items()}.get(str(kind))

    @cached_property
    def _task(self) -> Task:
        weights = self.weights_file if self.weights is None else self.weights
        return judge_task("propositions", {"propositions": self.propositions, "weights": weights})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _sum(weights: Sequence[float] | None, values: Mapping[str, Any]) -> float:
    if weights is None:
        return float(values["reward"])
    return math.fsum(w * p for w, p in zip(weights, values["probabilities"], strict=True))
