"""A classifier of rated answers: a number, a yes or no, or one of several ratings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from siftune.curate.chat.encoding import encode_unmasked
from siftune.curate.core.schema import kind_of
from siftune.curate.heads.calibrating import plain
from siftune.curate.judge_calls.trained import expected
from siftune.finetune.core.intervals import with_interval
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.collator import pad_of
from siftune.finetune.data.tool_checks import check_calls
from siftune.finetune.evaluation.pair_accuracy import outputs
from siftune.finetune.judge_training.labels import LABEL
from siftune.finetune.models import loading
from siftune.finetune.models.lora import with_adapter
from siftune.finetune.trainers.reward_model import RewardModel

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Ratings"]


@dataclass(frozen=True)
class Ratings(RewardModel):
    """Rows with a label (0 to 1, `labels.LABEL`) in place of pairs; the rest is as of rewards.

    Without ``classes`` the model gives one number: the label itself by least squares, or, of
    labels of yes and no (``binary``), its log-odds by logistic loss. With ``classes``, the
    different labels, it gives their probabilities by cross-entropy (softmax), and the number is
    their mean. ``width`` is the range of labels that 0 to 1 stands for.
    """

    classes: tuple[float, ...] = ()
    binary: bool = False
    width: float = 1.0

    def _load(self, dtype: loading.DType = "float32") -> Any:
        names = [f"{value:g}" for value in self.classes]
        return loading.load_reward(self.model, dtype, self.seed, names)

    def _check_head(self, config: Any) -> Sequence[preflight.Problem]:
        return ()  # `_load` makes it

    def _usable(
        self, table: pl.DataFrame, tokenizer: Any, length: int, rows: Path
    ) -> tuple[pl.DataFrame, training_rows.Dropped]:
        cpu = loading.device().type == "cpu"
        preflight.refuse(preflight.check_precision(self.options, cpu))
        preflight.refuse(preflight.check_padding(tokenizer))
        bad = training_rows.bad_rows(table)
        used = training_rows.drop_bad(table, bad, self.on_bad, rows)
        chats = _chats(used)
        calls = check_calls(tokenizer, chats, learned=False)
        preflight.refuse([*preflight.check_texts(tokenizer, chats), *calls])
        lengths = list(map(len, _encoded(tokenizer, chats)))
        preflight.refuse(preflight.check_cut([row["id"] for row in chats], lengths, length))
        return used, training_rows.dropped_of(bad)

    def _dataset(self, table: pl.DataFrame, tokenizer: Any, length: int) -> Dataset:
        from datasets import Dataset

        from siftune.finetune.runs.finite_steps import ROW

        ids = [text[:length] for text in _encoded(tokenizer, _chats(table))]
        labels = table[LABEL].to_list()
        if self.classes:
            low, high = self.classes[0], self.classes[-1]
            places = {(value - low) / (high - low): at for at, value in enumerate(self.classes)}
            labels = [min(places, key=lambda place: abs(place - label)) for label in labels]
            labels = [places[place] for place in labels]
        columns = {"input_ids": ids, "target": labels, ROW: list(range(len(ids)))}
        return Dataset.from_dict(columns)

    def _loop(self, model: Any, tokenizer: Any, rows: Dataset, args: Any, adapter: Any) -> Any:
        from siftune.finetune.judge_training.rating_loop import Collator, RatingLoop

        if adapter is not None:
            model = with_adapter(model, self.lora, self.lora_alpha, self.seed, task="SEQ_CLS")
        pad = Collator(pad_of(tokenizer))
        loop = RatingLoop(model=model, args=args, train_dataset=rows, data_collator=pad)
        loop.loss = "classes" if self.classes else "logistic" if self.binary else "squared"
        return loop

    def _config(self) -> tuple[Any, dict[str, Any]]:
        from transformers import TrainingArguments

        return TrainingArguments, {}

    @property
    def _summary(self) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, float]]:
        return _summary

    def scored(self, model: Any, tokenizer: Any, table: pl.DataFrame) -> list[dict[str, Any]]:
        """The number that the model gives each row (``raw``), its label, and how far they are."""
        ids = _encoded(tokenizer, _chats(table))
        given = outputs(model, tokenizer, [text[: tokenizer.model_max_length] for text in ids])
        raw = [expected(values, self.classes) for values in given]
        told = plain("binary" if self.binary else "rating")(raw)
        named = table.select("id", LABEL).rows()
        keys = training_rows.prompt_keys(table)
        return [
            {
                "id": name,
                "prompt_key": key,
                "raw": number,
                "label": label,
                "rating_error": self.width * abs(float(one) - label),
            }
            for (name, label), key, number, one in zip(named, keys, raw, told, strict=True)
        ]


def _chats(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "messages", "tools"}`` of each row: its prompt and its answer."""
    if kind_of(table) == "conversation":
        return training_rows.to_conversations(table)
    return [
        {**row, "messages": [*row["prompt"], *row["completion"]]}
        for row in training_rows.to_unpaired(table)
    ]


def _encoded(tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    tools, ids = [row["tools"] for row in rows], [row["id"] for row in rows]
    return encode_unmasked(tokenizer, [row["messages"] for row in rows], tools, ids)


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean distance of score and label, with its interval over prompts."""
    errors = [row["rating_error"] for row in rows]
    keys = [row["prompt_key"] for row in rows]
    return {"rows": len(rows), **with_interval("rating_error", errors, keys)}
