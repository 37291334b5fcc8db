"""Batches of single completions that losses take, and the loss of each completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from siftune.finetune.losses.types import (
    Answers,
    MissingInputError,
    Numbers,
    answers_of,
    column_of,
    vector_of,
)

__all__ = ["AnswerLogps", "AnswerLoss", "AnswerObjective", "Shares", "means_of"]


@dataclass(frozen=True)
class AnswerLogps:
    """A batch of B completions, each to its own prompt.

    ``label`` ``(B,)`` is True where the completion is desirable; ``columns`` are those of the rows
    that the loss needs, each ``(B,)``; ``value`` ``(B,)`` is a value head's output for the prompts,
    with gradients; ``mismatched`` are N completions to other prompts. ``means`` holds
    scalars of the whole step's batch (all micro-batches and processes) by the names of a loss's
    ``shared``; without them a loss takes those of this batch.
    """

    answers: Answers
    label: torch.Tensor | None = None
    columns: Mapping[str, torch.Tensor] = field(default_factory=dict)
    value: torch.Tensor | None = None
    mismatched: Answers | None = None
    means: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        policy: Numbers,
        ref: Numbers | None = None,
        length: Numbers | None = None,
        label: bool | Sequence[bool] | torch.Tensor | None = None,
        value: Numbers | None = None,
        mismatched: tuple[Numbers, Numbers] | None = None,
        mask: Numbers | None = None,
        tokens: Mapping[str, Numbers] | None = None,
        **columns: Numbers,
    ) -> AnswerLogps:
        """Completions from plain numbers, one completion's or a list of completions'.

        ``length`` are the tokens in each sum, which some losses divide by.
        ``mismatched`` are the policy's and the reference's numbers of completions to other prompts.
        With ``mask`` (and ``tokens``, other values of each token) ``policy`` and ``ref`` are of
        single tokens, ``(B, T)``, as in `Answers.of_tokens`.

        Tensors keep their dtype, device and gradients; other numbers become tensors of that dtype.

        >>> AnswerLogps.of(policy=[-6, -9], ref=[-5, -7]).answers.ratio
        tensor([-1., -2.], dtype=torch.float64)

        Raises:
            UsageError: the shapes do not fit together.
        """
        answers = answers_of(policy, ref, length, mask, tokens)
        logps, count = answers.policy, len(answers.policy)
        return cls(
            answers,
            label=None if label is None else vector_of(label, "label", logps, count, True) > 0,
            columns={name: vector_of(v, name, logps, count, True) for name, v in columns.items()},
            value=None if value is None else vector_of(value, "value", logps, count),
            mismatched=None if mismatched is None else _others(*mismatched, logps),
        )

    @property
    def good(self) -> torch.Tensor:
        """``(B,)``: True where the completion is desirable.

        Raises:
            MissingInputError: there are no labels.
        """
        if self.label is None:
            raise MissingInputError("no labels were given: give label=, one True or False each")
        return self.label.bool()

    @property
    def prompt_value(self) -> torch.Tensor:
        """The value head's output for each prompt, ``(B,)``.

        Raises:
            MissingInputError: there is no value head.
        """
        if self.value is None:
            raise MissingInputError(
                "no values were given: give value=; for training, set needs_value = True"
            )
        return self.value

    @property
    def mismatched_answers(self) -> Answers:
        """Completions to other prompts, policy and reference.

        Raises:
            MissingInputError: none were given.
        """
        if self.mismatched is None:
            raise MissingInputError(
                "no mismatched completions were given: give mismatched=(policy, ref); for "
                "training, set needs_mismatched = True"
            )
        return self.mismatched

    def column(self, name: str) -> torch.Tensor:
        """The rows' column ``name``, ``(B,)``.

        Raises:
            MissingInputError: it was not given.
        """
        return column_of(self.columns, name)


@dataclass(frozen=True)
class AnswerLoss:
    """One loss a completion, ``(B,)``, not reduced; and the reward metrics show, detached."""

    loss: torch.Tensor
    reward: torch.Tensor


class AnswerObjective(Protocol):
    """A loss on single completions: a frozen dataclass whose fields are its options."""

    def __call__(self, logps: AnswerLogps) -> AnswerLoss:
        """Loss of each completion."""


class Shares(Protocol):
    """A loss that reads means over the whole batch."""

    def shared(self, logps: AnswerLogps) -> Mapping[str, torch.Tensor]:
        """Values ``(N,)`` by name, whose means over the step's batch the loss reads."""


def means_of(loss: Shares, logps: AnswerLogps) -> Mapping[str, Any]:
    """The means that ``loss`` reads: the step's where they are given, else this batch's.

    Detached. A name without values in the batch, such as a class that is absent, is left out.
    """
    if logps.means:
        return logps.means
    found = loss.shared(logps)
    return {name: each.detach().mean() for name, each in found.items() if each.numel()}


def _others(policy: Numbers, ref: Numbers, like: torch.Tensor) -> Answers:
    values = vector_of(policy, "mismatched", like)
    others = vector_of(ref, "mismatched", like, len(values))
    return Answers(values, torch.ones_like(values), others)
