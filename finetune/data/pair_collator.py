"""Pairs as token ids, and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import torch

__all__ = [
    "Batch",
    "PairCollator",
    "PairIds",
    "cut_prompt",
    "narrowed",
    "pad_of",
    "parts_of",
    "slices_of",
]

Batch: TypeAlias = dict[str, torch.Tensor]
COLUMN: Final = "column/"
SIDES: Final = ("chosen", "rejected")


@dataclass(frozen=True)
class PairIds:
    """One pair: ids of the prompt, of both answers (end of turn included), and its columns.

    ``masks`` are those of both answers, 1 on the tokens that are scored; without them all are.
    ``reference`` holds the scored tokens' log-probs under the reference once they are computed.
    """

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    columns: Mapping[str, float] = field(default_factory=dict)
    reference: Sequence[list[float]] | None = None
    masks: Sequence[list[int]] = ()

    @property
    def length(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def sequences(self) -> list[list[int]]:
        """Both answers, chosen first."""
        return [self.chosen, self.rejected]

    @property
    def scored(self) -> list[list[int]]:
        """For each token of both answers 1 where it is scored, else 0."""
        return list(self.masks) or [[1] * len(answer) for answer in self.sequences]

    @property
    def tokens(self) -> int:
        """Tokens of both sequences, the prompt counted twice, as it is run twice."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


def pad_of(tokenizer: Any) -> int:
    """The id that batches are filled up with; nothing reads it, so the end of text serves too."""
    found: int | None = tokenizer.pad_token_id
    return tokenizer.eos_token_id if found is None else found


def cut_prompt(pair: PairIds, longest: int) -> PairIds:
    """The pair with the end of its prompt: at most ``longest`` tokens; the answers stay whole."""
    prompt = pair.prompt[max(0, len(pair.prompt) - longest) :]
    return replace(pair, prompt=prompt)


@dataclass(frozen=True)
class PairCollator:
    """B pairs to one batch of 2B rows, the chosen ones first, padded on the right.

    ``answer_mask`` is 1 on the answer's scored tokens and nothing else; ``formatting`` is 1 on
    those of them that are in ``special``, and has no place for other tokens, nor has
    ``reference``: ``reference`` is ``(2B, L)``, laid out as
    `logps.score_answers` gives its values; ``column/NAME`` is ``(B,)``.

    >>> batch = PairCollator(pad=0)([PairIds("a", [5, 6], [7, 2], [8])])
    >>> batch["input_ids"].tolist(), batch["answer_mask"].tolist()
    ([[5, 6, 7, 2], [5, 6, 8, 0]], [[0, 0, 1, 1], [0, 0, 1, 0]])
    """

    pad: int
    special: frozenset[int] = frozenset()
    dtype: torch.dtype = torch.float32

    def __call__(self, pairs: Sequence[PairIds]) -> Batch:
        """The batch of these pairs."""
        rows = [
            (pair.prompt, pair.sequences[side], pair.scored[side])
            for side in (0, 1)
            for pair in pairs
        ]
        batch = {
            "input_ids": _padded([[*prompt, *answer] for prompt, answer, _ in rows], self.pad),
            "attention_mask": _padded([[1] * (len(p) + len(a)) for p, a, _ in rows], 0),
            "answer_mask": _padded([[0] * len(p) + mask for p, _, mask in rows], 0),
            "formatting": _padded([self._formatting(a, mask) for _, a, mask in rows], 0),
        }
        for name in pairs[0].columns:
            values = [pair.columns[name] for pair in pairs]
            batch[COLUMN + name] = torch.tensor(values, dtype=self.dtype)
        if pairs[0].reference is not None:
            batch["reference"] = _padded(_references(pairs), 0.0, self.dtype)
        return batch

    def _formatting(self, answer: Sequence[int], mask: Sequence[int]) -> list[int]:
        scored = (token for token, bit in zip(answer, mask, strict=True) if bit)
        return [int(token in self.special) for token in scored]


def slices_of(lengths: Sequence[int], most: int) -> list[slice]:
    """Runs of ``lengths`` that sum to at most ``most`` each (one at the least), in order.

    >>> slices_of([3, 3, 9, 1, 1], most=6)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 5, None)]
    """
    starts, held = [0], 0
    for at, tokens in enumerate(lengths):
        if held and held + tokens > most:
            starts.append(at)
            held = 0
        held += tokens
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(lengths)], strict=True)]


def parts_of(batch: Batch, most: int) -> list[Batch]:
    """A batch of pairs as several of at most ``most`` tokens (one pair at the least), in order.

    Each is only as wide as its own longest row.
    """
    lengths = batch["attention_mask"].sum(1).view(2, -1).sum(0).tolist()
    slices = slices_of(lengths, most)
    return [batch] if len(slices) == 1 else [_part(batch, pairs) for pairs in slices]


def _part(batch: Batch, pairs: slice) -> Batch:
    """Some of the pairs of a batch."""
    part = {
        name: value[pairs]
        if name.startswith(COLUMN)
        else value.view(2, -1, *value.shape[1:])[:, pairs].flatten(0, 1)
        for name, value in batch.items()
    }
    return narrowed(part)


def narrowed(batch: Batch) -> Batch:
    """The batch no wider than its own longest rows."""
    width = int(batch["attention_mask"].sum(1).max())
    answer = int(batch["answer_mask"].sum(1).max())
    widths = dict.fromkeys(("input_ids", "attention_mask", "answer_mask"), width)
    widths |= {name: answer for name in ("formatting", "reference") if name in batch}
    return batch | {name: batch[name][:, :to] for name, to in widths.items()}


def _references(pairs: Sequence[PairIds]) -> list[list[float]]:
    known = [pair.reference for pair in pairs if pair.reference is not None]
    return [side for sides in zip(*known, strict=True) for side in sides]


def _padded(
    rows: Sequence[Sequence[float]], pad: float, dtype: torch.dtype = torch.long
) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=dtype)
