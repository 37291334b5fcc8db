"""What losses on K completions of one prompt are given and give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from siftune.curate.core.errors import UsageError
from siftune.finetune.losses.types import Answers, Numbers, column_of, tensor_of

__all__ = ["ListLogps", "ListLoss", "ListObjective", "best", "win_rates"]


@dataclass(frozen=True)
class ListLogps:
    """A batch of B prompts with up to K completions each.

    The values of ``answers`` are ``(B, K)`` (its ``tokens`` ``(B, K, T)``), so are ``columns``;
    ``mask`` ``(B, K)`` is True where there is a completion; elsewhere a log-probability is 0 and a
    length 1.
    """

    answers: Answers
    mask: torch.Tensor
    columns: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        policy: Numbers,
        ref: Numbers | None = None,
        length: Numbers | None = None,
        **columns: Numbers,
    ) -> ListLogps:
        """One prompt's completions from plain numbers, or those of B prompts as ``(B, K)`` tensors.

        Tensors keep their dtype, device and gradients; other numbers become tensors of that dtype.

        >>> ListLogps.of(policy=(-6, -9, -4), ref=(-5, -7, -4)).answers.ratio
        tensor([[-1., -2.,  0.]], dtype=torch.float64)

        Raises:
            UsageError: the shapes do not fit together.
        """
        logps = _rows(policy, "policy")
        answers = Answers(
            policy=logps,
            lengths=None if length is None else _rows(length, "length", logps),
            reference=None if ref is None else _rows(ref, "ref", logps),
        )
        mask = torch.ones_like(answers.policy, dtype=torch.bool)
        return cls(answers, mask, {name: _rows(one, name, logps) for name, one in columns.items()})

    @property
    def better(self) -> torch.Tensor:
        """``(B, K, K)``: True where both exist and the first has the higher score."""
        score = self.scores
        both = self.mask[..., :, None] & self.mask[..., None, :]
        return both & (score[..., :, None] > score[..., None, :])

    @property
    def scores(self) -> torch.Tensor:
        """The scores that order the completions, ``(B, K)``: ``score``, or else ``win_rate``."""
        names = [name for name in ("score", "win_rate") if name in self.columns]
        return self.column(names[0] if names else "score")

    def column(self, name: str) -> torch.Tensor:
        """The completions' column ``name``, ``(B, K)``.

        Raises:
            MissingInputError: it was not given.
        """
        return column_of(self.columns, name)


@dataclass(frozen=True)
class ListLoss:
    """One loss a list, ``(B,)``, not reduced; and rewards ``(B, K)`` for metrics, detached."""

    loss: torch.Tensor
    reward: torch.Tensor


class ListObjective(Protocol):
    """A loss on lists: a frozen dataclass whose fields are its options."""

    def __call__(self, logps: ListLogps) -> ListLoss:
        """Loss of each list."""


def best(logps: ListLogps, sign: int = 1) -> torch.Tensor:
    """``(B, K)`` weights: 1 on the completion of the highest score, shared where scores tie.

    With ``sign`` -1 it is the lowest.

    >>> best(ListLogps.of(policy=(0, 0, 0), score=(1, 3, 3)))
    tensor([[0.0000, 0.5000, 0.5000]], dtype=torch.float64)
    """
    score = sign * logps.scores
    top = score.masked_fill(~logps.mask, -torch.inf)
    chosen = ((top == top.max(-1, keepdim=True).values) & logps.mask).to(score.dtype)
    return chosen / chosen.sum(-1, keepdim=True)


def win_rates(wins: torch.Tensor) -> torch.Tensor:
    """How often each completion beats one drawn from its list: ``(…, K, K)`` to ``(…, K)``.

    ``wins[i, j]`` is the chance that i beats j; against itself it is ½, so rates sum to K/2.
    `tools.sample` leaves that comparison out, which spreads its rates by ``K / (K - 1)``.

    >>> win_rates(torch.tensor([[0.5, 1.0], [0.0, 0.5]]))
    tensor([0.7500, 0.2500])
    """
    own = torch.eye(wins.shape[-1], dtype=torch.bool, device=wins.device)
    return wins.masked_fill(own, 0.5).mean(-1)


def _rows(value: Numbers, name: str, like: torch.Tensor | None = None) -> torch.Tensor:
    """Numbers as ``(B, K)``: those of one prompt are a row.

    Raises:
        UsageError: they have another number of dimensions, or another shape than ``like``.
    """
    given = tensor_of(value, like)
    found = given if given.dim() > 1 else given.reshape(1, -1)
    if found.dim() > 2 or (like is not None and found.shape != like.shape):
        wanted = "(B, K)" if like is None else f"{tuple(like.shape)}, as policy"
        raise UsageError(f"{name}: expected the shape {wanted}, got {tuple(found.shape)}")
    return found
