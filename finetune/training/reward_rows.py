"""Rows of reward models: pairs of answers, or answers in steps; read, checked, encoded, scored."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import polars as pl
import torch

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.finetune.core.intervals import with_interval
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.collator import pad_of
from siftune.finetune.data.comparisons import (
    ComparisonCollator,
    columns_of,
    comparisons,
    length_balance,
    pairs_in,
    rows_without,
)
from siftune.finetune.data.process_rows import StepIds, encode_steps, read_steps
from siftune.finetune.data.prompt_truncation import TOO_LONG
from siftune.finetune.data.tool_checks import check_calls
from siftune.finetune.evaluation.pair_accuracy import (
    accuracy,
    encode_sides,
    scored_pairs,
    uncomparable,
)
from siftune.finetune.losses.reward_types import RewardObjective
from siftune.finetune.runs.finite_steps import ROW
from siftune.finetune.scoring.step_scores import check_reads_forward, step_scores

__all__ = ["PairRows", "RewardRows", "StepRows", "objective_of", "rows_of"]

_BATCH: Final = 16


class RewardRows(Protocol):
    """How a training reads, checks, encodes and evaluates its rows."""

    @property
    def heads(self) -> Mapping[str, float]:
        """Outputs of the model by their names, each with its weight in the total; empty: one."""

    def load(self, source: Path | str) -> pl.DataFrame:
        """The rows of a file or a run folder."""

    def facts(self, table: pl.DataFrame) -> Any:
        """Numbers that decide the result and are no part of `training_rows.data_hash`."""

    def read(
        self, table: pl.DataFrame, tokenizer: Any, length: int
    ) -> tuple[pl.DataFrame, list[str]]:
        """Rows that cannot be used (``id, reason``), and the ids of those whose prompt is cut."""

    def elements(self, table: pl.DataFrame, tokenizer: Any, length: int) -> list[dict[str, Any]]:
        """The examples of the training."""

    def loop(self, model: Any, tokenizer: Any, args: Any, **named: Any) -> Any:
        """The training loop."""

    def scored(
        self, model: Any, tokenizer: Any, table: pl.DataFrame, on_bad: training_rows.OnBad
    ) -> list[dict[str, Any]]:
        """One object a row with what the model makes of it."""

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Means of what `scored` gives."""


@dataclass(frozen=True)
class PairRows:
    """Pairs, or the pairs of ranked lists; the options are those of the trainer."""

    loss: RewardObjective
    by_prompt: bool = False
    use_margin: bool = False
    win_rates: bool = False
    length_matched: bool = False
    length_head: bool = False

    @property
    def heads(self) -> Mapping[str, float]:
        """The score, and beside it the length where there is an output for it."""
        return {"quality": 1.0, "length": 0.0} if self.length_head else {}

    def load(self, source: Path | str) -> pl.DataFrame:
        """`comparisons.pairs_in`."""
        return pairs_in(source)

    def facts(self, table: pl.DataFrame) -> Any:
        """Numbers of the answers that the objective reads."""
        return columns_of(table, self.loss.needs)

    def read(
        self, table: pl.DataFrame, tokenizer: Any, length: int
    ) -> tuple[pl.DataFrame, list[str]]:
        """Pairs without a number or an answer, with answers that do not fit or have equal ids."""
        numbers = ["margin"] * self.use_margin + ["win_probability"] * self.win_rates
        lacking = rows_without(table, numbers, self.loss.needs)
        empty = pl.concat([training_rows.bad_rows(table), lacking]).unique(
            "id", keep="first", maintain_order=True
        )
        pairs = training_rows.to_pairs(
            table.join(empty, on="id", how="anti", maintain_order="left")
        )
        calls = check_calls(tokenizer, pairs, learned=False)
        preflight.refuse([*preflight.check_texts(tokenizer, pairs), *calls])
        sides = encode_sides(tokenizer, pairs, length)
        cut = [
            row["id"]
            for row, both in zip(pairs, sides, strict=True)
            if any(one.cut and one.ids for one in both)
        ]
        return pl.concat([empty, uncomparable(pairs, sides)]), cut

    def elements(self, table: pl.DataFrame, tokenizer: Any, length: int) -> list[dict[str, Any]]:
        """`comparisons.comparisons`."""
        pairs = training_rows.to_pairs(table)
        sides = [
            (chosen.ids, rejected.ids)
            for chosen, rejected in encode_sides(tokenizer, pairs, length)
        ]
        shares = table["win_probability"].to_list() if self.win_rates else [1.0] * table.height
        return comparisons(
            table,
            sides,
            ROW,
            by_prompt=self.by_prompt or self.loss.by_prompt,
            shares=shares,
            margins=table["margin"].to_list() if self.use_margin else None,
            balance=length_balance(table, shares) if self.length_matched else (1.0, 1.0),
            columns=columns_of(table, self.loss.needs),
        )

    def loop(self, model: Any, tokenizer: Any, args: Any, **named: Any) -> Any:
        """`RewardLoop`."""
        from siftune.finetune.training.reward_loop import RewardLoop

        collator = ComparisonCollator(pad_of(tokenizer), self.loss, args.pad_to_multiple_of)
        return RewardLoop(model, args=args, data_collator=collator, **named)

    def scored(
        self, model: Any, tokenizer: Any, table: pl.DataFrame, on_bad: training_rows.OnBad
    ) -> list[dict[str, Any]]:
        """Both rewards of each pair, cut to what the tokenizer's model takes."""
        most = tokenizer.model_max_length
        return scored_pairs(model, tokenizer, table, max_length=most, on_bad=on_bad)

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """`pair_accuracy.accuracy`."""
        return accuracy(rows)


@dataclass(frozen=True)
class StepRows:
    """Answers in steps with labels (`process_rows.read_steps`)."""

    loss: RewardObjective

    heads: ClassVar[Mapping[str, float]] = {}

    def load(self, source: Path | str) -> pl.DataFrame:
        """`process_rows.read_steps`."""
        return read_steps(source)

    def facts(self, table: pl.DataFrame) -> Any:
        """Steps and their labels."""
        return table.select("steps", "step_labels").to_dict(as_series=False)

    def read(
        self, table: pl.DataFrame, tokenizer: Any, length: int
    ) -> tuple[pl.DataFrame, list[str]]:
        """Answers without a label or a text, and those that do not fit."""
        known = pl.col("step_labels").list.drop_nulls().list.len() > 0
        lacking = table.filter(~known).select("id", reason=pl.lit("no_label"))
        blank = pl.col("steps").list.eval(pl.element().str.strip_chars() == "").list.any()
        hollow = table.filter(blank).select("id", reason=pl.lit("empty_step"))
        empty = pl.concat([training_rows.bad_rows(table), lacking, hollow]).unique(
            "id", keep="first", maintain_order=True
        )
        rest = table.join(empty, on="id", how="anti", maintain_order="left")
        encoded = list(zip(rest["id"], self._encoded(rest, tokenizer, length), strict=True))
        long = [(key, TOO_LONG) for key, one in encoded if not one.ids]
        bad = pl.DataFrame(long, schema=training_rows.BAD_ROWS, orient="row")
        return pl.concat([empty, bad]), [key for key, one in encoded if one.cut and one.ids]

    def elements(self, table: pl.DataFrame, tokenizer: Any, length: int) -> list[dict[str, Any]]:
        """Ids, ends of steps and labels of each answer."""
        encoded = self._encoded(table, tokenizer, length)
        return [
            {"texts": one.ids, "ends": one.ends, "labels": labels, ROW: at}
            for at, (one, labels) in enumerate(zip(encoded, table["step_labels"], strict=True))
        ]

    def loop(self, model: Any, tokenizer: Any, args: Any, **named: Any) -> Any:
        """`StepLoop`."""
        from siftune.finetune.training.step_loop import StepCollator, StepLoop

        check_reads_forward(model)
        collator = StepCollator(pad_of(tokenizer), self.loss)
        return StepLoop(model, args=args, data_collator=collator, **named)

    @torch.no_grad()
    def scored(
        self, model: Any, tokenizer: Any, table: pl.DataFrame, on_bad: training_rows.OnBad
    ) -> list[dict[str, Any]]:
        """The score and the label of each step, and the share of labelled ones classified right."""
        keys = training_rows.prompt_keys(table)
        encoded = self._encoded(table, tokenizer, tokenizer.model_max_length)
        found = []
        for key, prompt, labels, one in zip(
            table["id"], keys, table["step_labels"].to_list(), encoded, strict=True
        ):
            made = {"id": key, "prompt_key": prompt, "labels": labels}
            if not one.ids:
                found.append(made | {"scores": None, "reason": TOO_LONG})
                continue
            ids = torch.tensor([one.ids], device=model.device)
            ends = torch.tensor([one.ends], device=model.device)
            scores = step_scores(model, ids, torch.ones_like(ids), ends)[0].double().tolist()
            found.append(made | {"scores": scores})
        return found

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Share of labelled steps classified right, of all, of right ones and of wrong ones.

        ``…_low`` and ``…_high`` are the 95 % interval of a bootstrap over prompts.
        """
        steps = [
            (row["prompt_key"], label, float((score > 0) == bool(label)))
            for row in rows
            if row["scores"] is not None
            for label, score in zip(row["labels"], row["scores"], strict=True)
            if label is not None
        ]
        unscored = sum(row["scores"] is None for row in rows)
        found: dict[str, float] = {"rows": len(rows), "steps": len(steps), "unscored": unscored}
        if steps:
            keys, _, right = zip(*steps, strict=True)
            found |= with_interval("accuracy", right, keys)
        for name, wanted in (("right_steps", 1), ("wrong_steps", 0)):
            own = [right for _, label, right in steps if label == wanted]
            if own:
                found[f"{name}_accuracy"] = statistics.fmean(own)
        return found

    def _encoded(self, table: pl.DataFrame, tokenizer: Any, length: int) -> list[StepIds]:
        prompts = [row["prompt"] for row in training_rows.to_prompts(table)]
        return encode_steps(tokenizer, prompts, table["steps"].to_list(), length)


def objective_of(name: str, options: Mapping[str, Any], given: Sequence[str]) -> RewardObjective:
    """The loss called ``name``; ``given`` are the options of the trainer that are set.

    Raises:
        UsageError: there is no such objective, or it cannot use an option.
    """
    loss: RewardObjective = build("finetune.losses.reward", name, options)
    used = {"use_margin": "margins", "win_rates": "win_rates", "length_matched": "weights"}
    if getattr(loss, "reads", "pairs") != "pairs":
        used |= dict.fromkeys(("by_prompt", "length_head", "center", "domain"), "pairs")
    for option, needed in used.items():
        if option in given and needed not in loss.takes:
            raise UsageError(
                f"{option}: {name} has no place for it; leave it out, or take bradley_terry"
            )
    return loss


def rows_of(loss: Any, **options: bool) -> RewardRows:
    """The rows that an objective reads; ``options`` are those of `PairRows`."""
    reads = getattr(loss, "reads", "pairs")
    if reads == "steps":
        return StepRows(loss)
    if reads == "attributes":
        from siftune.finetune.training.attribute_rows import AttributeRows

        return AttributeRows(loss)
    return PairRows(loss, **options)
