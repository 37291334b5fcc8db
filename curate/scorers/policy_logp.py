"""Policy log-probability: how likely a policy is to give an answer, and against a reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.lm.answer_model import AnswerModel
from siftune.curate.lm.answer_tokens import Template
from siftune.curate.lm.forward_cache import ForwardCache

__all__ = ["PolicyLogp"]


@dataclass(frozen=True)
class PolicyLogp(AnswerModel):
    """``policy_logp = 1/n Σ log π(y_t | x, y_<t)``, in nats a token, of the last assistant turn.

    It is the score of RRHF (arXiv:2304.05302, equation 1, exponent 1) and of SimPO without its
    factor; ``policy_logp_sum`` is the sum over the n tokens. With ``reference`` there is
    ``policy_logp_ratio = log π(y | x) - log π_ref(y | x)``, the sum over the tokens: DPO's implicit
    reward without β (arXiv:2305.18290, equation 5). Of pairs there are also the gaps, chosen minus
    rejected: ``policy_logp_gap``, and ``policy_logp_ratio_gap``, which is DPO's implicit margin.

    The default is the model's chat template, as in training; the end of the turn counts, and no
    token of the prompt or of padding does. A small sum may only mean a long answer: compare sums of
    answers to one prompt, or the mean. A row without prompt or answer, or too long for the window
    of either model, is null.

    Not for comparing policies with different tokenizers: the unit is a token of the policy.

    Options:
        reference: Reference model, as a folder or name; none gives no ratio.
    """

    template: Template = "chat"
    reference: str | None = None

    needs: ClassVar = ("messages",)

    @property
    def adds(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """Mean and sum, and the ratio where there is a reference."""
        names = ("policy_logp", "policy_logp_sum", *self._ratio)
        return dict.fromkeys(names, pl.Float64)

    @property
    def gaps(self) -> tuple[str, ...]:
        """Columns of which a pair has the difference of its sides, too."""
        return ("policy_logp", *self._ratio)

    @property
    def _ratio(self) -> tuple[str, ...]:
        return () if self.reference is None else ("policy_logp_ratio",)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        mean, total = _logps(self, batch["messages"])
        scores = {"policy_logp": mean, "policy_logp_sum": total}
        if self.reference is not None:
            of_reference = _logps(self._reference, batch["messages"])[1]
            scores["policy_logp_ratio"] = total - of_reference
        return pl.DataFrame(scores, schema=dict(self.adds), nan_to_null=True)

    @cached_property
    def _reference(self) -> PolicyLogp:
        return replace(self, model=str(self.reference), reference=None)


def _logps(scorer: PolicyLogp, chats: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sum of the answer's log-probabilities; NaN where there is none."""
    rows = scorer._tokens.after_prompt(chats)
    passes = ForwardCache(scorer._lm, scorer.cache)(rows)
    mean = [np.nan if one is None else -one.mean_nll for one in passes]
    total = [np.nan if one is None else one.logps.sum(dtype=np.float64) for one in passes]
    return np.array(mean), np.array(total)
