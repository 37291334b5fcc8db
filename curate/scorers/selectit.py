"""SelectIT: how sure a model is of the rating it gives an answer, over prompts and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, NonNegative
from siftune.curate.judge_calls.types import Answer, BackendError, Question
from siftune.curate.judges.local_model import LocalModel
from siftune.curate.models.precision import Precision
from siftune.curate.rows.chat import last_turn
from siftune.curate.text.language_model import CausalLM

__all__ = ["SelectIT"]

_RATINGS: Final = ("1", "2", "3", "4", "5")
_PROMPTS: Final = (
    "Rate how well the response follows the instruction, from 1 (not at all) to 5 (completely).",
    "Give the response a grade from 1 to 5 for being correct and doing what is asked.",
    "How accurate and helpful is this response? Score it from 1 (useless) to 5 (excellent).",
    "Judge the response against the instruction. 1 is the worst score, 5 the best.",
    "Decide how good the answer below is for the task, with a number between 1 and 5.",
)
_END: Final = "Answer with the number alone."


@dataclass(frozen=True)
class SelectIT:
    """``selectit``: ratings from 1 to 5, weighted by how sure the model is (arXiv:2402.16705).

    Token level: P are the probabilities of the K = 5 ratings as the next token, with **one**
    softmax, b the most probable; ``S_token = b · 1/(K-1) Σ_i |P_i - P_b|`` (equations 1 and 2).
    Sentence level: over the rating prompts ``S = mean(S_token) / (1 + alpha · std(S_token))``, the
    standard deviation that of the population (equation 3). Model level: the mean of S over the
    models, weighted by their numbers of parameters, whose sum is the divisor (equation 4).
    ``selectit_rating`` is the mean of b. The paper keeps the best 20 % under Llama-2.

    The rating prompts are our own wordings, in the system turn, so that each runs through the model
    once; a number of ratings that differs from that of prompts is no trap here. An answer that
    cannot be rated is null with its reason in ``selectit_error`` (no_answer, too_long ...), never
    left out, so that no score moves to another row.

    Not for small models, whose ratings hardly depend on the answer: look at selectit_rating first.

    Options:
        model: Chat model, as a folder, a name of `siftune models list`, or a name on the hub.
        more_models: Further chat models, for the model level.
        prompts: Number of rating prompts, 1 to 5; one gives the token level alone.
        alpha: Weight of the spread between rating prompts.
        max_tokens: Largest number of tokens of a question; none takes the model's window.
        precision: Number format of the models: fp32, bf16 (rows run one by one, so that no score
            depends on others), or bf16 on a CPU that multiplies it (auto).
    """

    model: str = "smollm2"
    more_models: tuple[str, ...] = ()
    prompts: Count = 5
    alpha: NonNegative = 0.2
    max_tokens: Count | None = None
    precision: Precision = "auto"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {
        "selectit": pl.Float64,
        "selectit_rating": pl.Float64,
        "selectit_error": pl.String,
    }

    def __post_init__(self) -> None:
        if not 1 <= self.prompts <= len(_PROMPTS):
            raise UsageError(f"selectit: prompts: expected 1 to {len(_PROMPTS)}")

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Rate each conversation's last assistant turn."""
        pairs = list(zip(*(one.to_list() for one in last_turn(batch["messages"])), strict=True))
        usable = [at for at, (prompt, answer) in enumerate(pairs) if prompt and answer]
        questions = [one for at in usable for one in self._questions(*pairs[at])]
        rated = [model.answer(questions) for model in self._models]
        rows: list[tuple[float | None, float | None, str | None]]
        rows = [(None, None, "no_prompt" if answer else "no_answer") for _, answer in pairs]
        for place, at in enumerate(usable):
            part = slice(place * self.prompts, (place + 1) * self.prompts)
            rows[at] = self._row([answers[part] for answers in rated])
        return pl.DataFrame(rows, schema=self.adds, orient="row")

    def describe(self) -> dict[str, Any]:
        """The models by their content, with the precision."""
        return {"models": [model.identity for model in self._models]}

    def notice(self) -> str:
        """The line about precision that a run prints before the first row."""
        return self._models[0].notice()

    def _questions(self, prompt: str, answer: str) -> list[Question]:
        asked = f"Instruction:\n{prompt}\n\nResponse:\n{answer}"
        return [
            Question((("system", f"{rubric} {_END}"), ("user", asked)), labels=_RATINGS)
            for rubric in _PROMPTS[: self.prompts]
        ]

    def _row(
        self, rated: Sequence[Sequence[Answer | BackendError]]
    ) -> tuple[float | None, float | None, str | None]:
        """Score, rating and error of one row from the answers of each model to each prompt."""
        shares = np.empty((len(rated), self.prompts, len(_RATINGS)))
        for model, answers in enumerate(rated):
            for at, answer in enumerate(answers):
                if isinstance(answer, BackendError):
                    return None, None, answer.reason
                shares[model, at] = [(answer.probabilities or {})[label] for label in _RATINGS]
        best = shares.argmax(-1) + 1
        sure = (shares.max(-1, keepdims=True) - shares).sum(-1) / (len(_RATINGS) - 1)
        token = best * sure
        sentence = token.mean(-1) / (1 + self.alpha * token.std(-1))
        return float(np.average(sentence, weights=self._sizes)), float(best.mean()), None

    @cached_property
    def _models(self) -> list[LocalModel]:
        names = (self.model, *self.more_models)
        return [LocalModel(name, self.precision, self.max_tokens) for name in names]

    @cached_property
    def _sizes(self) -> list[int]:
        if not self.more_models:
            return [1]
        names = (self.model, *self.more_models)
        return [CausalLM(name, None, self.precision).loaded.num_parameters() for name in names]
