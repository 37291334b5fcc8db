"""Instruction-Following Difficulty: perplexity of the answer with the prompt over without."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.models.precision import Precision
from siftune.curate.rows.chat import last_turn
from siftune.curate.text.language_model import CausalLM

__all__ = ["IFD"]


@dataclass(frozen=True)
class IFD:
    """Ratio of a model's loss on the last assistant turn with and without the prompt.

    With ``ratio: perplexity`` it is ``ppl(answer | prompt) / ppl(answer)`` (Superfiltering,
    arXiv:2402.00530), with ``ratio: loss`` the quotient of the two mean losses (the paper that
    named it, arXiv:2308.12032). Both are below 1 where the prompt helps; the values differ, and so
    does the order of rows. Near 0 the prompt determines the answer, above 1 the answer hardly
    belongs to the prompt; the papers drop what is above 1 and keep the largest of the rest.

    The same answer tokens are scored with and without the prompt (`CausalLM.mean_nll`). A row
    without prompt or answer, with an empty answer, or longer than the model's window scores null.

    Options:
        model: Language model, as a folder, a name of `siftune models list`, or a name on the hub;
            the papers use GPT-2 or larger.
        ratio: What is divided: perplexities, or mean losses as in the first paper.
        between: Text between prompt and answer.
        max_tokens: Largest number of tokens of a row that is scored; none takes the model's window.
        precision: Number format of the model: fp32, bf16 (rows run one by one, so that no score
            depends on others), or bf16 on a CPU that multiplies it (auto).
    """

    model: str
    ratio: Literal["perplexity", "loss"] = "perplexity"
    between: str = "\n"
    max_tokens: Count | None = None
    precision: Precision = "auto"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"ifd": pl.Float32, "ifd_answer_nll": pl.Float32, "ifd_alone_nll": pl.Float32}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        prompts, answers = last_turn(batch["messages"])
        after_prompt = self._lm.mean_nll((prompts + self.between).to_list(), answers.to_list())
        alone = self._lm.mean_nll([""] * len(answers), answers.to_list())
        ifd = np.exp(after_prompt - alone) if self.ratio == "perplexity" else after_prompt / alone
        scores = {"ifd": ifd, "ifd_answer_nll": after_prompt, "ifd_alone_nll": alone}
        return pl.DataFrame(scores, schema=self.adds, nan_to_null=True)

    def describe(self) -> dict[str, Any]:
        """The precision that scores were computed in, for keys and manifests."""
        return self._lm.describe()

    def notice(self) -> str:
        """The line about precision that a run prints before the first row."""
        return self._lm.notice()

    @cached_property
    def _lm(self) -> CausalLM:
        # loaded on first use, once in each worker
        return CausalLM(self.model, self.max_tokens, self.precision)
