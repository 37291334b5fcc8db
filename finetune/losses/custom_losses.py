"""Losses of users: a function of log-probabilities that returns one loss a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any, ClassVar

import torch

from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.finetune.losses.answer_types import AnswerLogps, AnswerLoss
from siftune.finetune.losses.list_types import ListLogps, ListLoss
from siftune.finetune.losses.types import Answers, PairLogps, PairLoss

__all__ = ["CheckedAnswerLoss", "CheckedListLoss", "CheckedPairLoss"]


class _LossFunction(FunctionComponent):
    """A loss from a function of `PairLogps`, `AnswerLogps` or `ListLogps`.

    What it needs are attributes of the function, as they are class variables of our losses. Without
    ``needs_reference`` it is given the reference.
    """

    declared: ClassVar[Sequence[str]] = (
        *("needs_reference", "needs_tokens", "needs_columns", "needs_value", "needs_mismatched"),
        *(
            "needs_label",
            "needs_reward_tokens",
            "needs_teacher",
            "couples_batch",
            "on_policy",
            "shared",
        ),
    )
    needs_reference: Any = True

    def __call__(self, logps: Any) -> Any:
        """The result of the function."""
        return self._function(logps, **self._options)


class _CheckedLoss(Checked):
    """The check of a loss's result, for all kinds of batches."""

    required: ClassVar[Sequence[str]] = ("__call__",)
    function: ClassVar[type[FunctionComponent]] = _LossFunction

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        """Ours are dataclasses, and have a reference only where they declare one."""
        return is_dataclass(own) or hasattr(own, "needs_reference")

    def _loss(self, logps: Any, policy: torch.Tensor, kind: type[Any]) -> Any:
        """The answer: losses ``(B,)``, or the ``kind`` of result with rewards beside them.

        Raises:
            UsageError: it is neither, or has another shape.
        """
        own: Any = super().__call__  # type: ignore[misc]
        answer = self._call(own, logps)
        loss = answer.loss if isinstance(answer, kind) else answer
        if not isinstance(loss, torch.Tensor):
            raise self._refused(
                f"expected a tensor of losses, one a row, or a {kind.__name__}, got "
                f"{type(answer).__name__}"
            )
        if loss.shape != (len(policy),):
            raise self._refused(
                f"expected one loss for each of the {len(policy)} rows, got the shape "
                f"{tuple(loss.shape)}; do not reduce it"
            )
        if not loss.is_floating_point():
            raise self._refused(f"expected losses of floats, got {loss.dtype}")
        if torch.is_grad_enabled() and policy.requires_grad and not loss.requires_grad:
            raise self._refused(
                "the loss has no gradient, so nothing would be learned: compute it of the policy's "
                "log-probabilities, without detach(), item() or numpy()"
            )
        return answer


def _reward(answers: Answers) -> torch.Tensor:
    """The reward of metrics where a loss returns none: the log-ratio, or the log-probability."""
    reward = answers.policy if answers.reference is None else answers.ratio
    return reward.detach()


class CheckedPairLoss(_CheckedLoss):
    """A loss on pairs."""

    def __call__(self, logps: PairLogps) -> PairLoss:
        """Loss of each pair."""
        answer = self._loss(logps, logps.policy_chosen, PairLoss)
        if isinstance(answer, PairLoss):
            return answer
        return PairLoss(answer, _reward(logps.chosen), _reward(logps.rejected))


class CheckedAnswerLoss(_CheckedLoss):
    """A loss on single completions."""

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""
        answer = self._loss(logps, logps.answers.policy, AnswerLoss)
        if isinstance(answer, AnswerLoss):
            return answer
        return AnswerLoss(answer, _reward(logps.answers))


class CheckedListLoss(_CheckedLoss):
    """A loss on lists of completions."""

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list."""
        answer = self._loss(logps, logps.answers.policy, ListLoss)
        if isinstance(answer, ListLoss):
            return answer
        return ListLoss(answer, _reward(logps.answers))
