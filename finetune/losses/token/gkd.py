"""Generalised knowledge distillation: the divergence from a teacher at each token of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss, means_of
from siftune.finetune.losses.ranges import within

__all__ = ["GKD"]

_STATISTIC = {"reverse": "kl", "forward": "ref_kl"}


@dataclass(frozen=True)
class GKD:
    """``Σ_t D(p_T ‖ p_S)(· | x, y_<t)``, the whole vocabulary of teacher and student at each token.

    Agarwal et al. 2023, "On-Policy Distillation of Language Models", arXiv:2306.13649, equation 1.
    The reference (``ref_model``) is the teacher T, the policy the student S, and the answers are
    the student's own samples (``siftune finetune sample``, in rounds); on answers of the teacher or
    of a data set it is word-level distillation. No gradient passes through the sampling, as there.

    * ``reverse``: ``KL(p_S ‖ p_T)``, whose gradient at a token is that of the policy gradient with
      the reward ``log p_T - log p_S``: MiniLLM (Gu et al. 2023, arXiv:2306.08543, equation 3) with
      its single-step part alone, the later tokens' rewards left out.
    * ``forward``: ``KL(p_T ‖ p_S)``, the mean-covering one.
    * ``jsd``: ``β KL(p_T ‖ m) + (1 - β) KL(p_S ‖ m)`` with ``m = β p_T + (1 - β) p_S``. By β it
      tends to ``forward`` as β tends to 0; by ``1 - β``, to ``reverse`` as β tends to 1.

    All are 0 exactly where the student is the teacher. ``jsd`` with .5 is bounded by ``ln 2``; the
    paper finds it and ``reverse`` best, by task. ``mean`` as in ``nll``. Teacher and student have
    one vocabulary. The logits are made in tiles and not kept (`scoring.lm_head`).

    Options:
        divergence: Divergence of the two distributions at a token, in nats.
        beta: Weight of the teacher in the mixture m, for ``jsd``.

    >>> from siftune.finetune.losses.types import Answers
    >>> tokens = {"policy": torch.zeros(1, 2), "kl": torch.tensor([[0.5, 1.0]])}
    >>> answer = Answers(torch.zeros(1), torch.tensor([2.0]), torch.zeros(1), tokens)
    >>> GKD(divergence="reverse")(AnswerLogps(answer)).loss.item()  # (0.5 + 1) / 2
    0.75
    """

    divergence: Literal["reverse", "forward", "jsd"] = "jsd"
    beta: float = 0.5
    mean: Literal["token", "row"] = "token"

    needs_reference: ClassVar = True
    needs_teacher: ClassVar = True
    needs_tokens: ClassVar = ("jsd",)  # of an instance, the one of its divergence
    couples_batch: ClassVar = True
    on_policy: ClassVar = True

    def __post_init__(self) -> None:
        within(self, beta="(0, 1)")
        named = _STATISTIC.get(self.divergence, f"jsd:{self.beta}")
        object.__setattr__(self, "needs_tokens", (named,))

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """``length``: tokens of each completion."""
        return {"length": logps.answers.length.to(logps.answers.policy.dtype)}

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion; the reward is the teacher's mean log-ratio of its tokens."""
        answers = logps.answers
        length = means_of(self, logps)["length"] if self.mean == "token" else answers.length
        total = answers.summed(self.needs_tokens[0])
        return AnswerLoss(total / length, (-answers.ratio / answers.length).detach())
