"""Perplexity of an answer under a language model, after its prompt or alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.models.precision import Precision
from siftune.curate.rows.chat import last_turn
from siftune.curate.text.language_model import CausalLM

__all__ = ["Perplexity"]


@dataclass(frozen=True)
class Perplexity:
    """``exp(-1/n Σ log p(answer_t | prompt, answer_<t))`` of the last assistant turn.

    Low: the model predicts the answer. High: the answer is wrong, odd, in another language, or
    beyond the model. A high value is a reason against an answer only under a model trained on the
    subject.

    Every token of the answer counts, the first included (`CausalLM.mean_nll`). A row without an
    answer, with an empty one, without a prompt where one is wanted, or longer than the model's
    window scores null.

    Options:
        model: Language model, as a folder, a name of `siftune models list`, or a name on the hub.
        given_prompt: Score the answer after its prompt; false scores the answer alone.
        between: Text between prompt and answer.
        max_tokens: Largest number of tokens of a row that is scored; none takes the model's window.
        precision: Number format of the model: fp32, bf16 (rows run one by one, so that no score
            depends on others), or bf16 on a CPU that multiplies it (auto).
    """

    model: str
    given_prompt: bool = True
    between: str = "\n"
    max_tokens: Count | None = None
    precision: Precision = "auto"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"perplexity": pl.Float32}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        prompts, answers = last_turn(batch["messages"])
        before = prompts + self.between if self.given_prompt else pl.Series([""] * len(answers))
        nll = self._lm.mean_nll(before.to_list(), answers.to_list())
        return pl.DataFrame({"perplexity": np.exp(nll)}, schema=self.adds, nan_to_null=True)

    def describe(self) -> dict[str, Any]:
        """The precision that scores were computed in, for keys and manifests."""
        return self._lm.describe()

    def notice(self) -> str:
        """The line about precision that a run prints before the first row."""
        return self._lm.notice()

    @cached_property
    def _lm(self) -> CausalLM:
        return CausalLM(self.model, self.max_tokens, self.precision)
