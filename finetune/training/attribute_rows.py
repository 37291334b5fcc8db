"""Answers with ratings of several attributes: rows of a reward model, and the training on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch.nn.utils.rnn import pad_sequence

from siftune.curate.core.errors import DataError
from siftune.finetune.core.intervals import with_interval
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.collator import Batch, pad_of, slices_of
from siftune.finetune.data.prompt_truncation import TOO_LONG, Scored, encode_scored
from siftune.finetune.evaluation.pair_accuracy import outputs
from siftune.finetune.losses.reward.attributes import Attributes
from siftune.finetune.losses.reward_types import Compared
from siftune.finetune.runs.finite_steps import ROW
from siftune.finetune.training.reward_loop import RewardLoop

__all__ = ["AttributeRows"]


@dataclass(frozen=True)
class AttributeRows:
    """The answers of ranked rows, each with its ``attributes``, such as HelpSteer2's."""

    loss: Attributes

    @property
    def heads(self) -> Mapping[str, float]:
        """The outputs of the model, and the weight of each in the total."""
        return self.loss.weights

    def load(self, source: Path | str) -> pl.DataFrame:
        """One row an answer: ``prompt``, ``completion``, and ``ratings`` in the order of `heads`.

        Raises:
            DataError: no answer has a rating of the attributes.
            UsageError: the rows are no ranked lists.
        """
        table = training_rows.load(source, ("ranked",))
        rows = [
            {
                "id": f"{row['id']}#{at + 1}",
                "source": row.get("source"),
                "row": row.get("row"),
                "kind": "unpaired",
                "extra": row.get("extra"),
                "prompt": row["prompt"],
                "completion": answer,
                "label": True,  # it is not read; without one a row would be refused
                "ratings": self._ratings(row, at),
            }
            for row in table.iter_rows(named=True)
            for at, answer in enumerate(row["completions"] or [])
        ]
        turns = table.schema["prompt"]
        made = pl.DataFrame(rows, schema_overrides={"completion": turns, "extra": pl.String})
        if all(rating is None for row in rows for rating in row["ratings"]):
            names = ", ".join(self.loss.weights)
            raise DataError(f"{source}: no answer has a rating of {names}")
        return made

    def _ratings(self, row: Mapping[str, Any], at: int) -> list[float | None]:
        listed = (row.get("attributes") or [])[at : at + 1]
        known = {one["name"]: one["value"] for one in (listed[0] or [])} if listed else {}
        return [known.get(name) for name in self.loss.weights]

    def facts(self, table: pl.DataFrame) -> Any:
        """The ratings."""
        return table["ratings"].to_list()

    def read(
        self, table: pl.DataFrame, tokenizer: Any, length: int
    ) -> tuple[pl.DataFrame, list[str]]:
        """Answers without a text or a rating, and those that do not fit."""
        unrated = table.filter(pl.col("ratings").list.drop_nulls().list.len() == 0)
        lacking = unrated.select("id", reason=pl.lit("no_rating"))
        empty = pl.concat([training_rows.bad_rows(table), lacking]).unique(
            "id", keep="first", maintain_order=True
        )
        rest = table.join(empty, on="id", how="anti", maintain_order="left")
        preflight.refuse(preflight.check_texts(tokenizer, training_rows.to_unpaired(rest)))
        encoded = list(zip(rest["id"], self._encoded(rest, tokenizer, length), strict=True))
        long = [(key, TOO_LONG) for key, one in encoded if not one.ids]
        bad = pl.DataFrame(long, schema=training_rows.BAD_ROWS, orient="row")
        return pl.concat([empty, bad]), [key for key, one in encoded if one.cut and one.ids]

    def elements(self, table: pl.DataFrame, tokenizer: Any, length: int) -> list[dict[str, Any]]:
        """Ids and ratings of each answer."""
        encoded = self._encoded(table, tokenizer, length)
        return [
            {"texts": one.ids, "values": ratings, ROW: at}
            for at, (one, ratings) in enumerate(
                zip(encoded, table["ratings"].to_list(), strict=True)
            )
        ]

    def loop(self, model: Any, tokenizer: Any, args: Any, **named: Any) -> Any:
        """`RewardLoop` on rated answers."""
        return _AttributeLoop(
            model, args=args, data_collator=_Collator(pad_of(tokenizer), self.loss), **named
        )

    def scored(
        self, model: Any, tokenizer: Any, table: pl.DataFrame, on_bad: training_rows.OnBad
    ) -> list[dict[str, Any]]:
        """The outputs for each answer, its ratings, and the distance of each of the two."""
        encoded = self._encoded(table, tokenizer, tokenizer.model_max_length)
        fits = [one.ids for one in encoded if one.ids]
        given = iter(outputs(model, tokenizer, fits))
        found = []
        for key, prompt, ratings, one in zip(
            table["id"],
            training_rows.prompt_keys(table),
            table["ratings"].to_list(),
            encoded,
            strict=True,
        ):
            made = {"id": key, "prompt_key": prompt, "ratings": ratings}
            found.append(made | {"outputs": next(given) if one.ids else None})
        return found

    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Mean distance of output and rating, of all (``rating_error``) and of each attribute."""
        errors = [
            (row["prompt_key"], name, abs(output - rating))
            for row in rows
            if row["outputs"] is not None
            for name, output, rating in zip(self.heads, row["outputs"], row["ratings"], strict=True)
            if rating is not None
        ]
        found: dict[str, float] = {"rows": len(rows)}
        if errors:
            keys, _, values = zip(*errors, strict=True)
            found |= with_interval("rating_error", values, keys)
        for name in self.heads:
            own = [value for _, attribute, value in errors if attribute == name]
            if own:
                found[f"rating_error/{name}"] = sum(own) / len(own)
        return found

    def _encoded(self, table: pl.DataFrame, tokenizer: Any, length: int) -> list[Scored]:
        rows = training_rows.to_unpaired(table)
        return encode_scored(tokenizer, rows, [row["completion"] for row in rows], length)


@dataclass(frozen=True)
class _Collator:
    """B answers, padded on the right; ``value`` ``(B, H)`` is NaN where there is no rating."""

    pad: int
    loss: Attributes

    def __call__(self, elements: Sequence[Mapping[str, Any]]) -> Batch:
        texts = [torch.tensor(one["texts"]) for one in elements]
        values = [[math.nan if v is None else v for v in one["values"]] for one in elements]
        batch = {
            "input_ids": pad_sequence(texts, batch_first=True, padding_value=self.pad),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in texts], True),
            "value": torch.tensor(values),
        }
        return batch | {
            "count": self.loss.count(_compared(torch.zeros(batch["value"].shape), batch))
        }


def _compared(scores: torch.Tensor, batch: Batch) -> Compared:
    """Outputs in place of answers, none of which is compared with another."""
    none = scores.new_zeros((*scores.shape, scores.shape[1]))
    there = torch.ones_like(scores, dtype=torch.bool)
    return Compared(scores, none, none, there, {"value": batch["value"].to(scores)})


class _AttributeLoop(RewardLoop):
    """`RewardLoop` on single answers with ratings."""

    columns = ("texts", "values")

    def parts(self, batch: Batch) -> list[Batch]:
        """The batch in parts of at most ``micro_tokens`` tokens (one answer at the least)."""
        lengths = batch["attention_mask"].sum(1).tolist()
        found = []
        for rows in slices_of(lengths, self.micro_tokens):
            part = {name: value[rows] for name, value in batch.items()}
            for name in ("input_ids", "attention_mask"):
                part[name] = part[name][:, : max(lengths[rows])]
            found.append(part)
        return found

    def compared(self, model: Any, batch: Batch) -> tuple[torch.Tensor, Compared]:
        """The outputs for each answer."""
        texts = {name: batch[name] for name in ("input_ids", "attention_mask")}
        given = model(**texts, use_cache=False).logits.float()
        return given[:, None], _compared(given, batch)

    @torch.no_grad()
    def measure(self, mode: str, compared: Compared) -> None:
        """Mean distance of output and rating, for the next log."""
        value = compared.columns["value"]
        known = ~value.isnan()
        distance = (compared.scores - value)[known].abs()
        self._totals[mode].add("rating_error", distance)
