"""Dynamic fine-tuning: the NLL of each token weighed by the token's own probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of

__all__ = ["DFT"]


@dataclass(frozen=True)
class DFT:
    """``-Σ_t sg(π(y_t | x, y_<t)) · log π(y_t | x, y_<t)``, sg without gradient.

    Wu et al. 2025, "On the Generalization of SFT", arXiv:2508.05629, equation 9; TRL has it as
    ``loss_type="dft"``. The gradient of NLL is a policy gradient whose reward is 1 over the
    probability of the token, so that unlikely tokens pull without bound; the weight takes that out,
    and ``-∇loss`` is ``Σ_t ∇π(y_t)``. It therefore moves to the likeliest answers, not to the law
    of the data: on rows drawn from a law, completions of one token, the population gradient is that
    of ``Σ_y law(y) π(y)``, which is largest with all probability on the most frequent one. So it is
    for clean answers that the model finds likely, not for prompts with many right answers. ``mean``
    as in ``nll``.

    >>> logps = torch.tensor([[-1.0, -2.0]])
    >>> batch = AnswerLogps.of(policy=logps, mask=[[1, 1]])
    >>> round(DFT()(batch).loss.item(), 4)  # (1 · e^-1 + 2 · e^-2) / 2
    0.3193
    """

    mean: Literal["token", "row"] = "token"

    needs_reference: ClassVar = False
    needs_tokens: ClassVar = ("policy",)
    couples_batch: ClassVar = True
    weighs_by_policy: ClassVar = True

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """``length``: tokens of each completion."""
        return {"length": logps.answers.length.to(logps.answers.policy.dtype)}

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        answers = logps.answers
        tokens = answers.token("policy")
        weighed = (tokens.detach().exp() * tokens * answers.mask).sum(-1)
        length = means_of(self, logps)["length"] if self.mean == "token" else answers.length
        return AnswerLoss(-weighed / length, answers.mean.detach())
