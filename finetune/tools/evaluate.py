"""Evaluate a model on held-out rows: its answers, or its pair accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, Natural, NonNegative, Seed
from siftune.curate.core.schema import KINDS
from siftune.curate.files.atomic import write_json, write_text
from siftune.curate.files.outputs import check_folder, whole_folder
from siftune.finetune.core.intervals import with_interval
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import training_rows
from siftune.finetune.data.system_prompts import SystemPrompts
from siftune.finetune.evaluation.generation_eval import GenerationEval, number_of
from siftune.finetune.models import loading
from siftune.finetune.models.precision import (
    Precision,
    frozen_dtype,
    precision_used,
    reference_dtype,
    report,
)
from siftune.finetune.rewards.types import Reward, check_fields, folders_of, reward_of

__all__ = ["MEASURES", "Evaluate", "chosen_rows", "summary", "write_step", "write_summary"]

_COMMAND: Final = "finetune evaluate"
_Means: TypeAlias = dict[str, float]
_Found: TypeAlias = tuple[list[dict[str, Any]], _Means]  # one object a row, and means
MEASURES: Final = (
    "exact_match",
    "contains",
    "loss",
    "tokens",
    "ended",
    "kl_k1",
    "kl_k3",
    "reward",
)


@dataclass(frozen=True)
class Evaluate:
    """Answers of ``model`` to held-out prompts, or its ranking of held-out pairs.

    A causal model answers prompts; ``loss`` is its cross-entropy on the answers that the rows have,
    in nats a token. A reward model is asked which side of each pair is better, and so is a causal
    model with ``judge_pairs``: by its implicit reward, the log-ratio of an answer to ``reference``
    (its log-probability where none is given). Each mean has the 95 % interval of a bootstrap over
    prompts.

    Pairs are ranked by the implicit reward in fp32 unless ``bf16`` is asked for. In bf16 an answer
    can depend on the prompts that share its batch, by rounding: for the same answers keep
    ``batch_size``.

    A prompt that is too long for a reward model loses its start, which ``cut`` counts; an answer is
    never cut. Pairs whose rewards are equal are counted as ``ties``, and are neither right nor
    wrong in ``accuracy``.

    Options:
        model: Model to evaluate: a folder, a name of `siftune models list`, or a name on the hub.
        reference: Model that the KL of the answers, and the log-ratios of pairs, are measured from.
        reward: Reward of the answers: a folder, a name, a user's own, or several with weights.
        judge_pairs: Have a causal model rank held-out pairs by its implicit reward, in place of
            answering prompts.
        by: Column, or field of the raw rows, with a category of each pair: the accuracy is shown
            for each of them as well.
        on_bad: Pairs that a model cannot compare, as an answer does not fit: end the command
            (refuse), or list them without a reward and count them as ``unscored`` (drop).
        batch_size: Number of prompts answered at once.
        precision: Number format of all models: fp32, bf16, or bf16 where the processor multiplies
            it (auto).
    """

    model: str
    reference: str | None = None
    reward: str | Mapping[str, Any] | None = None
    reward_options: Mapping[str, Any] = field(default_factory=dict)
    temperature: NonNegative = 0.0
    max_new_tokens: Count = 64
    limit: Natural = 0
    judge_pairs: bool = False
    by: str | None = None
    on_bad: training_rows.OnBad = "drop"
    batch_size: Count = 16
    seed: Seed = 0
    precision: Precision = "auto"

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Write ``rows.jsonl`` and ``evaluation.json`` to the folder ``out``.

        Raises:
            UsageError: a model cannot be used, or ``out`` is not of an earlier evaluation.
        """
        check_folder(out, _COMMAND)
        found, means = self.measured(rows)
        facts = {
            "model": {"path": loading.shown(self.model), "hash": loading.model_hash(self.model)},
            "options": {key: value for key, value in asdict(self).items() if key != "model"},
            "precision": self._format(self._by_ratio),
            "last": means,
        }
        with whole_folder(out, _COMMAND) as part:
            write_text(part / "rows.jsonl", _lines(found))
            write_json(part / "evaluation.json", facts)
        return TrainResult(out, len(found), means)

    def measured(self, rows: Path) -> _Found:
        """One object a row, and their means.

        Raises:
            UsageError: the model cannot be used.
        """
        judges, by_ratio = loading.is_reward_model(self.model), self._by_ratio
        report(self.precision, ["the models"] if not by_ratio or self.precision == "bf16" else [])
        if self.by is not None and not (judges or by_ratio):
            raise UsageError("by: only pairs have an accuracy by category; give a reward model")
        how = self._ranked if judges else self._ranked_by_ratio if by_ratio else self._asked
        return how(rows)

    @property
    def _by_ratio(self) -> bool:
        return self.judge_pairs and not loading.is_reward_model(self.model)

    def _format(self, by_ratio: bool) -> str:
        if by_ratio:
            return "bf16" if self.precision == "bf16" else "fp32"
        return precision_used(self.precision)

    def _asked(self, rows: Path) -> _Found:
        table = chosen_rows(training_rows.load(rows, KINDS), self.limit, self.seed)
        dtype = frozen_dtype(self.precision)
        reference = None if self.reference is None else loading.load_causal(self.reference, dtype)
        asked = training_rows.to_prompts(table)
        reward = self._made_reward()
        if reward is not None:
            check_fields(reward, asked)
        generation_eval = GenerationEval(
            tuple(asked),
            loading.load_tokenizer(self.model),
            None if reference is None else loading.placed(reference),
            reward,
            self.temperature,
            self.max_new_tokens,
            self.batch_size,
            self.seed,
            self.precision,
        )
        found = generation_eval(loading.placed(loading.load_causal(self.model, dtype)))
        return found, summary(found)

    def _made_reward(self) -> Reward | None:
        if self.reward is None:
            return None
        one = folders_of(self.reward) == [self.reward]
        own = {"batch_size": self.batch_size} if one else {}
        return reward_of(self.reward, {**own, **self.reward_options}, self.precision)

    def _ranked_by_ratio(self, rows: Path) -> _Found:
        from siftune.finetune.evaluation.implicit_reward import pairs_by_log_ratio
        from siftune.finetune.evaluation.implicit_reward import summary as of_pairs

        table = chosen_rows(training_rows.load(rows, ("preference",)), self.limit, self.seed)
        dtype = reference_dtype(self.precision, adapter=False)
        model, reference = (
            None if name is None else loading.placed(loading.load_causal(name, dtype))
            for name in (self.model, self.reference)
        )
        tokenizer = loading.load_tokenizer(self.model)
        found = pairs_by_log_ratio(
            model, reference, tokenizer, table, self.batch_size, rows, self.on_bad
        )
        return self._by_category(found, table, of_pairs)

    def _ranked(self, rows: Path) -> _Found:
        from siftune.finetune.data.comparisons import pairs_in
        from siftune.finetune.evaluation.pair_limits import pairs_with_limits, with_limits

        table = chosen_rows(pairs_in(rows), self.limit, self.seed)
        model = loading.placed(loading.load_reward(self.model, frozen_dtype(self.precision)))
        tokenizer = loading.load_tokenizer(self.model)
        folder = loading.resolve(self.model)
        domains = SystemPrompts.of_model(folder)
        read = table if domains is None else domains.table(table, rows)
        found = pairs_with_limits(
            folder, model, tokenizer, read, self.batch_size, self.on_bad, rows
        )
        return self._by_category(found, table, with_limits)

    def _by_category(
        self, found: list[dict[str, Any]], table: pl.DataFrame, summarise: Callable[..., _Means]
    ) -> _Found:
        if self.by is None:
            return found, summarise(found)
        from siftune.finetune.evaluation.pair_accuracy import by_category

        values = training_rows.values_of(table, self.by)
        categories = [None if value is None else str(value) for value in values]
        if all(one is None for one in categories):
            raise UsageError(f"by: no row has the column or field {self.by!r}")
        found = [row | {"category": one} for row, one in zip(found, categories, strict=True)]
        return found, summarise(found) | by_category(found)


def chosen_rows(table: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    """At most ``limit`` rows (0: all), drawn by the hashes of their ids, not by their order."""
    if not limit or table.height <= limit:
        return table
    ranks = [number_of(f"{seed}:{key}") for key in table["id"]]
    return table[sorted(np.argsort(ranks, kind="stable")[:limit].tolist())]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the rows that have a value; ``rows`` counts all, ``unanswered`` those with none.

    ``…_low`` and ``…_high`` are the 95 % interval of a bootstrap over prompts. ``loss`` is a mean
    over the tokens of all known answers.

    >>> summary([{"completion": "a", "exact_match": True}, {"completion": None}])
    {'rows': 2, 'unanswered': 1, 'exact_match': 1.0}
    """
    unanswered = sum(row["completion"] is None for row in rows)
    found: dict[str, float] = {"rows": len(rows), "unanswered": unanswered}
    parts = dict.fromkeys(key for row in rows for key in row if key.startswith("reward/"))
    for name in (*MEASURES, *parts):
        having = [row for row in rows if row.get(name) is not None]
        if having:
            values = [float(row[name]) for row in having]
            weights = [row["loss_tokens"] for row in having] if name == "loss" else None
            found |= with_interval(name, values, [_prompt_of(row) for row in having], weights)
    return found


def _prompt_of(row: Mapping[str, Any]) -> str:
    return str(row.get("prompt", row.get("id")))


def write_step(
    folder: Path, step: int, rows: Sequence[Mapping[str, Any]], name: str = "evaluation"
) -> None:
    """Write the rows of an evaluation at ``step`` as ``NAME/step-NNNNNN.jsonl``."""
    write_text(folder / name / f"step-{step:06}.jsonl", _lines(rows))


def write_summary(
    folder: Path,
    summarise: Callable[[Sequence[Mapping[str, Any]]], dict[str, float]] = summary,
    name: str = "evaluation",
    kept: int | None = None,
) -> dict[str, float]:
    """Write ``NAME.json``: a summary of every ``NAME/step-*.jsonl``; that of the step ``kept``.

    By default that is the last one, the step whose weights are written.
    It is made from the files alone, so a resumed run has all steps in it.
    """
    steps = {
        int(path.stem.removeprefix("step-")): summarise(
            [orjson.loads(line) for line in path.read_bytes().splitlines()]
        )
        for path in sorted((folder / name).glob("step-*.jsonl"))
    }
    listed = [{"step": step, **values} for step, values in steps.items()]
    step = max(steps) if kept is None else kept
    write_json(folder / f"{name}.json", {"steps": listed, "last": {"step": step, **steps[step]}})
    return steps[step]


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(orjson.dumps(row).decode() + "\n" for row in rows)
