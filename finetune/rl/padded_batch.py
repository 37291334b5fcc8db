"""Prompts and completions as one padded batch, prompts on the left, completions on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Tokens"]


@dataclass(frozen=True)
class Tokens:
    """A batch of B rows; all prompts end, and all completions start, in the same column.

    ``input_ids`` and ``attention_mask`` are (B, P + T): prompts padded on the left to P,
    completions on the right to T. ``mask`` (B, T) is true on the tokens that the policy chose, its
    end token included.
    """

    input_ids: Tensor
    attention_mask: Tensor
    mask: Tensor

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad: int
    ) -> Tokens:
        """The batch of token lists; no completion may be empty.

        >>> Tokens.of([[5], [6, 7]], [[8, 2], [9]], pad=0).input_ids.tolist()
        [[0, 5, 8, 2], [6, 7, 9, 0]]
        """
        left, right = max(map(len, prompts)), max(map(len, completions))
        ids = torch.full((len(prompts), left + right), pad)
        there = torch.zeros_like(ids, dtype=torch.bool)
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            span = slice(left - len(prompt), left + len(completion))
            ids[row, span] = torch.tensor([*prompt, *completion])
            there[row, span] = True
        return cls(ids, there.long(), there[:, left:].clone())

    @property
    def completions(self) -> Tensor:
        """Token ids (B, T) of the completions."""
        return self.input_ids[:, -self.mask.shape[1] :]

    @property
    def positions(self) -> Tensor:
        """Position ids (B, P + T) that do not count the padding."""
        return (self.attention_mask.cumsum(1) - 1).clamp(min=0)

    def take(self, rows: Tensor) -> Tokens:
        """The rows with these indices, without columns in which all of them are padding."""
        mask, attention = self.mask[rows], self.attention_mask[rows]
        left = self.attention_mask.shape[1] - self.mask.shape[1]
        first = int(attention.any(0).int().argmax())
        width = self.width(rows)
        span = slice(first, left + width)
        return Tokens(self.input_ids[rows, span], attention[:, span], mask[:, :width])

    def width(self, rows: Tensor) -> int:
        """Length of the longest completion of these rows."""
        left = self.attention_mask.shape[1] - self.mask.shape[1]
        return int(self.attention_mask[rows, left:].sum(1).max())

    def to(self, device: torch.device) -> Tokens:
        """The same on ``device``."""
        return Tokens(
            self.input_ids.to(device), self.attention_mask.to(device), self.mask.to(device)
        )
