"""Options and losses that scorers under a causal language model share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from siftune.curate.core.ranges import Count
from siftune.curate.lm.answer_tokens import AnswerTokens, Template, each_answer
from siftune.curate.lm.forward_cache import ForwardCache
from siftune.curate.models.precision import Precision
from siftune.curate.text.language_model import CausalLM, TokenRow

__all__ = ["AnswerModel", "Answers"]

Answers: TypeAlias = Literal["last", "mean"]
Losses: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class AnswerModel:
    """A language model that reads conversations.

    Scorers with the same options share forward passes (`ForwardCache`): the second one reads what
    the first one stored.

    Options:
        model: Language model, as a folder, a name of `siftune models list`, or a name on the hub.
        template: How a conversation is written: its texts one after another (none), or in the
            model's own chat template (chat).
        between: Text between prompt and answer where no template is used.
        max_tokens: Largest number of tokens of a row that is scored; none takes the model's window.
        precision: Number format of the model: fp32, bf16 (rows run one by one, so that no score
            depends on others), or bf16 on a CPU that multiplies it (auto).
        cache: Folder in which forward passes are stored by content, so that no row runs twice.
    """

    model: str = "smollm2"
    template: Template = "none"
    between: str = "\n"
    max_tokens: Count | None = None
    precision: Precision = "auto"
    cache: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: another process loads the model itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def describe(self) -> dict[str, Any]:
        """The precision that scores were computed in, for keys and manifests."""
        return self._lm.describe()

    def notice(self) -> str:
        """The line about precision that a run prints before the first row."""
        return self._lm.notice()

    @property
    def forward_pass(self) -> tuple[Any, ...]:
        """Scorers for which this is equal run the same rows through the model."""
        return (self.model, self.template, self.between, self.precision)

    def losses(self, chats: pl.Series, answers: Answers) -> Losses:
        """Mean loss of the answer after its prompt, in nats a token; NaN where there is none.

        With ``mean`` of each of a conversation's answers, and then the mean of these.
        """
        return self._averaged(chats, answers, self._tokens.after_prompt)

    def losses_alone(self, chats: pl.Series, answers: Answers) -> Losses:
        """As `losses`, without the prompt."""
        return self._averaged(chats, answers, self._tokens.alone)

    def mean_nll(
        self, rows: Sequence[TokenRow | None], *, hidden: bool = True, report: bool = True
    ) -> Losses:
        """Mean loss of the scored tokens of each row; NaN where there is no row.

        ``hidden`` and ``report`` are those of `ForwardCache`.
        """
        passes = ForwardCache(self._lm, self.cache, hidden, report)(rows)
        return np.array([np.nan if one is None else one.mean_nll for one in passes], dtype=float)

    def _averaged(self, chats: pl.Series, answers: Answers, encode: Any) -> Losses:
        if answers == "last":
            return self.mean_nll(encode(chats))
        row, upto = each_answer(chats)
        losses, height = self.mean_nll(encode(upto)), len(chats)
        with np.errstate(invalid="ignore"):  # 0 / 0 where a row has no answer
            found: Losses = np.bincount(row, losses, height) / np.bincount(row, minlength=height)
        return found

    @cached_property
    def _lm(self) -> CausalLM:
        # loaded on first use, once in each worker
        return CausalLM(self.model, self.max_tokens, self.precision)

    @cached_property
    def _tokens(self) -> AnswerTokens:
        return AnswerTokens(self._lm, self.template, self.between)
