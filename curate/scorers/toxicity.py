"""Toxicity of a text, by a classifier of the user's or a head fitted to labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.heads.head import ALONE, Head, is_head, load_head
from siftune.curate.judge_calls.types import Answer, Question
from siftune.curate.judges.classifier import Classifier
from siftune.curate.rows.chat import Part, part_of

__all__ = ["Toxicity"]


@dataclass(frozen=True)
class Toxicity:
    """``toxicity``: how likely a text is toxic, insulting or hateful, 0 to 1.

    There is no model that is right for every language and purpose, and none comes with this
    package. Either name a sequence classifier of `transformers` that was trained for it, and the
    ``label`` of its toxic class; or fit a head to labelled texts, which needs no network:

        siftune curate fit-quality comments.jsonl --label is_toxic --positive Toxic --out toxic
        siftune curate score rows.jsonl toxicity --model toxic

    ``comments.jsonl`` has a ``text`` and a label in each line. Each text is judged by itself,
    without its prompt. Word lists are not used: they flag a text about a group as much as one that
    insults it. Figures: docs/hygiene.md. A text that is missing, blank or beyond the model's window
    has null.

    Not for languages that its classifier was not trained on.

    Options:
        model: Folder of a sequence classifier, its name on the hub, or folder of a head of
            `siftune curate fit-quality`.
        label: Toxic class of a sequence classifier.
        of: Text that is judged: the prompt, the response, or both.
    """

    model: str
    label: str | None = None
    of: Part = "response"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"toxicity": pl.Float64}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score one text a row."""
        texts = part_of(batch["messages"], self.of).to_list()
        known = [at for at, text in enumerate(texts) if text is not None and text.strip()]
        scores = np.full(len(texts), np.nan)
        if known:
            scores[known] = self._score([texts[at] for at in known])
        return pl.DataFrame({"toxicity": scores}, nan_to_null=True)

    def describe(self) -> dict[str, Any]:
        """The model by its content, for keys and manifests."""
        if isinstance(self._model, Head):
            return {"model": self._model.identity}
        return self._model.describe()

    def _score(self, texts: list[str]) -> Any:
        if isinstance(self._model, Head):
            return self._model([ALONE] * len(texts), texts)
        answers = self._model.answer([Question((("user", text),), max_tokens=0) for text in texts])
        return [self._probability(one) if isinstance(one, Answer) else np.nan for one in answers]

    def _probability(self, answer: Answer) -> float:
        shares = answer.probabilities or {}
        if self.label is None or self.label not in shares:
            known = ", ".join(shares) or "one output without a name"
            raise UsageError(
                f"toxicity: label: name the toxic class of {self.model}, it has {known}"
            )
        return shares[self.label]

    @cached_property
    def _model(self) -> Head | Classifier:
        if is_head(self.model):
            if self.label is not None:
                raise UsageError(
                    "toxicity: label is for classifiers; a head has none: leave it out"
                )
            return load_head(self.model)
        return Classifier(self.model)
