"""How a judge is related to the models whose answers it compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from siftune.curate.judge_calls.types import Item
from siftune.curate.models.lineage import KIN, Kinship, kinship
from siftune.finetune.tools.sample import SAMPLED_LINEAGE

__all__ = ["kin_facts", "kin_of_pairs", "own_answers"]

_Kin: TypeAlias = tuple[Kinship, Kinship]


def kin_of_pairs(judge: Sequence[str] | None, items: Iterable[Item]) -> list[_Kin] | None:
    """Of each pair how the judge (its lineage) is related to the models of both answers.

    None where the rows do not say which two models answered (`row_steps.versus`).
    """
    found: list[_Kin] = []
    for item in items:
        models = item.extra.get(SAMPLED_LINEAGE)
        if not isinstance(models, list) or [type(one) for one in models] != [list, list]:
            return None  # a field of the raw rows with this name
        first, second = (kinship(judge, one) for one in models)
        found.append((first, second))
    return found or None


def kin_facts(kin: Sequence[_Kin] | None) -> dict[str, Any]:
    """How many pairs the judge is so related to, of the first and of the second answers."""
    if kin is None:
        return {}
    sides = zip(("first", "second"), zip(*kin, strict=True), strict=True)
    return {"kin": {side: dict(Counter(found)) for side, found in sides}}


def own_answers(kin: Sequence[_Kin]) -> Any:
    """1 where the first answer is of the judge's own or nearer model, 0 the second, NaN neither.

    >>> own_answers([("same", "kin"), ("not known", "kin"), ("kin", "kin")]).tolist()
    [1.0, 0.0, nan]
    """
    sides = [(KIN.index(first), KIN.index(second)) for first, second in kin]
    return np.array([np.nan if a == b else float(a < b) for a, b in sides], float)
