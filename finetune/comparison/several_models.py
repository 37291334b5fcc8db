"""Several models on the same held-out rows: one table, differences paired by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from siftune.curate.core.errors import UsageError
from siftune.curate.core.terminal import echo
from siftune.curate.files.atomic import write_json, write_text
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.finetune.core.intervals import HIGH, LOW, with_interval
from siftune.finetune.core.types import TrainResult
from siftune.finetune.models import loading
from siftune.finetune.tools.evaluate import MEASURES, Evaluate

__all__ = ["SeveralModels", "difference", "table_lines"]

_COMMAND: Final = "finetune evaluate"
_OF_PAIRS: Final = ("correct", "margin")


@dataclass(frozen=True)
class SeveralModels:
    """Evaluates each of ``models`` as ``evaluate`` does, which names one of them.

    Every other model is compared with the first one, row by row on the prompts that both have a
    value for: the mean difference has the 95 % interval of a bootstrap over prompts, which is
    narrower than two intervals side by side, as easy and hard prompts are the same for both.
    """

    models: tuple[str, ...]
    evaluate: Evaluate

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Write ``rows-N.jsonl`` of each model and ``models.json`` to the folder ``out``.

        Raises:
            UsageError: a model is named twice, or they are of two kinds.
        """
        check_folder(out, _COMMAND)
        twice = next((one for one in self.models if self.models.count(one) > 1), None)
        if twice is not None:
            raise UsageError(f"--model {twice}: it is named twice; name each model once")
        if len({loading.is_reward_model(one) for one in self.models}) > 1:
            raise UsageError("--model: reward models and language models cannot be compared")
        found = [replace(self.evaluate, model=one).measured(rows) for one in self.models]
        listed = [
            {
                "model": loading.shown(name),
                "hash": loading.model_hash(name),
                "rows": f"rows-{number}.jsonl",
                "means": means,
                **({} if number == 1 else {"less_first": difference(own, found[0][0])}),
            }
            for number, (name, (own, means)) in enumerate(zip(self.models, found, strict=True), 1)
        ]
        with whole_folder(out, _COMMAND) as part:
            for number, (own, _) in enumerate(found, 1):
                lines = "".join(orjson.dumps(row).decode() + "\n" for row in own)
                write_text(part / f"rows-{number}.jsonl", lines)
            write_json(part / "models.json", {"models": listed})
        echo("\n".join(table_lines(listed)))
        return TrainResult(out, len(found[0][0]), found[0][1])


def difference(
    own: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Mean differences of each measure over the rows that both have, with their intervals.

    A loss is weighed by the tokens of the known answer, as its mean is. Of pairs, the accuracy is
    compared on those that neither model ties: its mean leaves ties out too.

    >>> difference([{"id": 1, "tokens": 4}, {"id": 2}], [{"id": 1, "tokens": 9}, {"id": 2}])
    {'tokens': -5.0}
    """
    there = {row["id"]: row for row in first}
    both = [(row, there[row["id"]]) for row in own if row["id"] in there]
    found: dict[str, float] = {}
    rewards = dict.fromkeys(key for row in own for key in row if key.startswith("reward/"))
    for name in (*MEASURES, *rewards, *_OF_PAIRS):
        having = [
            (one, two)
            for one, two in both
            if one.get(name) is not None
            and two.get(name) is not None
            and not (name == "correct" and 0.5 in (one[name], two[name]))
        ]
        if not having:
            continue
        values = [float(one[name]) - float(two[name]) for one, two in having]
        weights = [one["loss_tokens"] for one, _ in having] if name == "loss" else None
        prompts = [str(one.get("prompt_key", one.get("prompt", one["id"]))) for one, _ in having]
        called = "accuracy" if name == "correct" else name
        found |= with_interval(called, np.asarray(values).tolist(), prompts, weights)
    return found


def table_lines(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One block a measure, one line a model: its mean, and its difference from the first model."""
    names = [
        name
        for name in dict.fromkeys(name for one in models for name in one["means"])
        if not name.endswith((LOW, HIGH))
    ]
    width = max(len(one["model"]) for one in models)
    for name in names:
        yield f"{name}"
        for one in models:
            line = f"  {one['model']:<{width}}  {_with_ends(one['means'], name)}"
            less = one.get("less_first", {})
            if name in less:
                low, high = less.get(f"{name}{LOW}"), less.get(f"{name}{HIGH}")
                sure = low is not None and high is not None and (low > 0 or high < 0)
                words = "" if low is None else " differs" if sure else " not significant"
                line += f"  {_with_ends(less, name, '+')} from the first:{words}"
            yield line
    if any(name.endswith(LOW) for one in models for name in one.get("less_first", {})):
        yield "intervals are 95 % each: they are not corrected for the number of comparisons"


def _with_ends(means: Mapping[str, float], name: str, sign: str = "") -> str:
    if name not in means:
        return "none"
    low, high = means.get(f"{name}{LOW}"), means.get(f"{name}{HIGH}")
    ends = "" if low is None or high is None else f" ({low:.4g} … {high:.4g})"
    return f"{means[name]:{sign}.4g}{ends}"
