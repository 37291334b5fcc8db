"""Instruction-Following Difficulty: perplexity of the answer with the prompt over without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from siftune.curate.lm.answer_model import AnswerModel, Answers

__all__ = ["IFD"]


@dataclass(frozen=True)
class IFD(AnswerModel):
    """Ratio of a model's loss on the last assistant turn with and without the prompt.

    With ``ratio: perplexity`` it is ``ppl(answer | prompt) / ppl(answer)`` (Superfiltering,
    arXiv:2402.00530, which takes GPT-2 or another small model), with ``ratio: loss`` the quotient
    of the two mean losses (the paper that named it, arXiv:2308.12032). Both are below 1 where the
    prompt helps; the values differ, and so does the order of rows. Near 0 the prompt determines the
    answer, above 1 the answer hardly belongs to the prompt; the papers drop what is above 1 and
    keep the largest of the rest.

    The same answer tokens are scored with and without the prompt, the first included. In a chat
    template the answer alone follows what opens an answer (``<|im_start|>assistant``). With
    ``answers: mean`` both losses are the mean over a conversation's answers, each given all before
    it, and the ratio is of these. A row without prompt or answer, with an empty answer, or longer
    than the model's window scores null.

    Not for short labels as answers, whose ratio is mostly noise, nor for code and tables under a
    small model.

    Options:
        ratio: What is divided: perplexities, or mean losses as in the first paper.
        answers: Answers that are scored: the last one, or all of them, averaged (mean).
    """

    ratio: Literal["perplexity", "loss"] = "perplexity"
    answers: Answers = "last"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"ifd": pl.Float32, "ifd_answer_nll": pl.Float32, "ifd_alone_nll": pl.Float32}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation."""
        after_prompt = self.losses(batch["messages"], self.answers)
        alone = self.losses_alone(batch["messages"], self.answers)
        ifd = np.exp(after_prompt - alone) if self.ratio == "perplexity" else after_prompt / alone
        scores = {"ifd": ifd, "ifd_answer_nll": after_prompt, "ifd_alone_nll": alone}
        return pl.DataFrame(scores, schema=self.adds, nan_to_null=True)
