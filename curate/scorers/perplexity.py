"""Perplexity of an answer under a language model, after its prompt or alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.lm.answer_model import AnswerModel, Answers

__all__ = ["Perplexity"]


@dataclass(frozen=True)
class Perplexity(AnswerModel):
    """``exp(-1/n Σ log p(answer_t | prompt, answer_<t))`` of the last assistant turn.

    Low: the model predicts the answer. High: the answer is wrong, odd, in another language, or
    beyond the model. A high value is a reason against an answer only under a model trained on the
    subject.

    Every token of the answer counts, the first included; in a chat template the end of the turn
    too. With ``answers: mean`` the mean loss of each of a conversation's answers, given all before
    it, is averaged before the exponential, so that each answer counts once. A row without an
    answer, with an empty one, without a prompt where one is wanted, or longer than the model's
    window scores null.

    Not for comparing texts of different lengths or languages: short and rare texts have a high one.

    Options:
        given_prompt: Score the answer after its prompt; false scores the answer alone.
        answers: Answers that are scored: the last one, or all of them, averaged (mean).
    """

    given_prompt: bool = True
    answers: Answers = "last"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"perplexity": pl.Float32}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation."""
        score = self.losses if self.given_prompt else self.losses_alone
        found = np.exp(score(batch["messages"], self.answers))
        return pl.DataFrame({"perplexity": found}, schema=self.adds, nan_to_null=True)
