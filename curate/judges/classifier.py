"""A reward model or sequence classifier in this process as a judge: it scores conversations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.chat.encoding import encode_unmasked
from siftune.curate.chat.templates import ENCODER
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.ranges import Count
from siftune.curate.judge_calls.trained import TRAINED, TrainedJudge, trained_judge
from siftune.curate.judge_calls.types import Answer, BackendError, Question
from siftune.curate.models.adapters import classifies, config_folder, load_merged
from siftune.curate.models.model_config import longest_input
from siftune.curate.models.precision import (
    NumberFormat,
    Precision,
    device_name,
    reason_for,
    resolve_precision,
)
from siftune.curate.models.pretrained import (
    load_config,
    narrow_all_but_head,
    pretrained_tokenizer,
)
from siftune.curate.models.resolve import folder_hash, model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Classifier"]

_TOKENS: Final = {"cpu": 4096, "cuda": 2**16}
"""Most tokens per batch; one conversation may have more."""


@dataclass(frozen=True)
class Classifier:
    """Answers questions that ask for no text (``max_tokens`` 0), as those of ``classifier_score``.

    Their messages are the conversation itself, without a rubric; a question with a rubric is an
    error, since its score would be that of the rubric. A model with one output answers with the
    number as text, one with several with the probabilities (softmax) of its classes, by the names
    in its ``config.json``. A model of `siftune finetune judge` answers with its calibrated score,
    of labels of yes and no with its probability. The conversation is written in the model's own
    chat template, or, for an encoder without one, with its separator after each turn.

    A conversation beyond the model's window has the error ``too_long``: nothing is cut. In fp32
    they run in batches, in bf16 one by one; the head is fp32.

    Options:
        model: Folder, or name on the hub, of a reward model or sequence classifier.
        precision: Number format of all but the head: fp32, bf16, or bf16 where the CPU multiplies
            it (auto).
        max_tokens: Largest number of tokens of a conversation; none takes the model's window.
    """

    model: str
    precision: Precision = "auto"
    max_tokens: Count | None = None

    @cached_property
    def identity(self) -> str:
        """Hash of weights, tokenizer, chat template and calibration, and the number format."""
        own = "" if self._trained is None else f" {self._trained.identity}"
        return f"classifier {folder_hash(self._folder)} {self.number_format}{own}"

    def answer(self, questions: Sequence[Question]) -> list[Answer | BackendError]:
        """One answer, or the failure, for each question, in order.

        Raises:
            UsageError: the model is no sequence classifier, or cannot be loaded.
        """
        found: dict[int, Answer | BackendError] = {}
        rows: dict[int, list[int]] = {}
        for at, question in enumerate(questions):
            ids = self._ids(question)
            if isinstance(ids, BackendError):
                found[at] = ids
            else:
                rows[at] = ids
        for batch in self._batches(rows):
            outputs = self._outputs([rows[at] for at in batch])
            for at, values in zip(batch, outputs, strict=True):
                found[at] = self._answer(values, len(rows[at]))
        return [found[at] for at in range(len(questions))]

    @property
    def number_format(self) -> NumberFormat:
        """The number format that ``precision`` means on this machine."""
        return resolve_precision(self.precision, device_name())

    def describe(self) -> dict[str, str]:
        """The options as resolved on this machine, for keys and manifests."""
        return {"precision": self.number_format}

    def notice(self) -> str:
        """The precision and its reason, in one line for the user."""
        return f"precision: {self.number_format} ({reason_for(self.precision, device_name())})"

    def _ids(self, question: Question) -> list[int] | BackendError:
        if question.max_tokens != 0:
            return BackendError(
                "no_rubrics",
                "a classifier scores a conversation and answers no question: take the task "
                "classifier_score",
                permanent=True,
            )
        turns = [{"role": role, "content": text} for role, text in question.messages]
        try:
            ids = encode_unmasked(self._tokenizer, [turns])[0]
        except DataError as error:
            return BackendError("template", str(error).partition(": ")[2], permanent=True)
        if len(ids) > self._window:
            detail = f"{len(ids):,} tokens; the window is {self._window:,}"
            return BackendError("too_long", detail, permanent=True)
        return ids

    def _batches(self, rows: dict[int, list[int]]) -> Iterator[list[int]]:
        """Numbers of rows of similar length, the longest first; in bf16 one by one."""
        most = 0 if self.number_format == "bf16" else _TOKENS[self._loaded.device.type]
        batch: list[int] = []
        for at in sorted(rows, key=lambda at: (-len(rows[at]), at)):
            if batch and (len(batch) + 1) * len(rows[batch[0]]) > most:
                yield batch
                batch = []
            batch.append(at)
        if batch:
            yield batch

    def _outputs(self, rows: list[list[int]]) -> list[list[float]]:
        """Outputs of the head for each row, in float64."""
        import torch

        batch = self._tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
        with torch.inference_mode():
            logits = self._loaded(**batch.to(self._loaded.device)).logits
        found: list[list[float]] = logits.double().cpu().tolist()
        return found

    def _answer(self, values: Sequence[float], tokens: int) -> Answer | BackendError:
        if not all(map(math.isfinite, values)):
            return BackendError("not_finite", "the score is not finite", permanent=True)
        if self._trained is not None:
            score = self._trained.score(values)
            if self._trained.scale.kind != "binary":
                return Answer(repr(score), input_tokens=tokens, output_tokens=0)
            return Answer(None, {"0": 1 - score, "1": score}, input_tokens=tokens, output_tokens=0)
        if len(values) == 1:
            return Answer(repr(values[0]), input_tokens=tokens, output_tokens=0)
        most = max(values)
        weights = [math.exp(value - most) for value in values]
        total = math.fsum(weights)
        shares = {
            str(self._loaded.config.id2label[at]): weight / total
            for at, weight in enumerate(weights)
        }
        return Answer(None, shares, input_tokens=tokens, output_tokens=0)

    @cached_property
    def _folder(self) -> Any:
        folder = model_folder(self.model)
        if not classifies(folder):
            raise UsageError(
                f"{self.model} is no reward model or sequence classifier: "
                "train one with `siftune finetune reward`, or name a chat model as the judge "
                "without `classifier:`"
            )
        return folder

    @cached_property
    def _trained(self) -> TrainedJudge | None:
        return trained_judge(self._folder)

    @cached_property
    def _loaded(self) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        loaded = load_merged(AutoModelForSequenceClassification, self._folder, torch.float32)
        if loaded.config.problem_type == "multi_label_classification":
            raise UsageError(
                f"{self.model} gives a yes or no for each of several labels: expected a model of "
                "one output, or of classes that exclude each other"
            )
        outputs = len(self._trained.classes) or 1 if self._trained else loaded.config.num_labels
        if outputs != loaded.config.num_labels:
            raise UsageError(
                f"{self.model}: {TRAINED} is of a model of {outputs} outputs, this one has "
                f"{loaded.config.num_labels}: train the judge again"
            )
        if self.number_format == "bf16":
            narrow_all_but_head(loaded, torch.bfloat16, loaded.config.num_labels)
        loaded.config.pad_token_id = self._tokenizer.pad_token_id  # heads find the last token by it
        return loaded.to(device_name())

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        found = pretrained_tokenizer(self._folder, load_config(config_folder(self._folder)))
        if found.pad_token_id is None:
            found.pad_token = found.eos_token
        if found.chat_template is None and found.sep_token is not None:
            found.chat_template = ENCODER
        if found.chat_template is None:
            raise UsageError(
                f"{self.model} has no chat template: it is not known how it reads a conversation"
            )
        return found

    @cached_property
    def _window(self) -> int:
        return longest_input(self._loaded.config, self._tokenizer, self.max_tokens)
