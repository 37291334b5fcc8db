"""Batches of answers: prompts with one or more answers each, as rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.data.pair_collator import COLUMN, Batch, narrowed, slices_of

__all__ = ["AnswerCollator", "parts_of"]

_BY_ROW = ("input_ids", "attention_mask", "answer_mask", "reference")
"""What a batch has for each of its R rows; ``at`` and the rest it has for each prompt."""


@dataclass(frozen=True)
class AnswerCollator:
    """B prompts with their answers to one batch of R rows, padded on the right.

    ``at`` ``(B, K)`` is where an answer's row is, -1 where there is none; ``strangers`` ``(B,)``
    the rows of answers to other prompts, where there are such; ``label`` is ``(B,)``,
    ``column/NAME`` ``(B, K)``. The others, ``reference`` too, are as in
    `pair_collator.PairCollator`.

    >>> rows = [AnswerRow("a", [5], [[7, 2], [8]]), AnswerRow("b", [6], [[9]])]
    >>> batch = AnswerCollator(pad=0)(rows)
    >>> batch["input_ids"].tolist(), batch["at"].tolist()
    ([[5, 7, 2], [5, 8, 0], [6, 9, 0]], [[0, 1], [2, -1]])
    """

    pad: int
    dtype: torch.dtype = torch.float32

    def __call__(self, rows: Sequence[AnswerRow]) -> Batch:
        """The batch of these rows."""
        sequences = [
            (row.prompt, answer, mask)
            for row in rows
            for answer, mask in zip(row.answers, row.scored, strict=False)  # a stranger's is last
        ]
        counts = [len(row.answers) for row in rows]
        own = list(torch.arange(len(sequences)).split(counts))
        sequences += [
            (row.prompt, row.stranger, row.scored[-1]) for row in rows if row.stranger is not None
        ]
        batch = {
            "input_ids": _padded([[*prompt, *answer] for prompt, answer, _ in sequences], self.pad),
            "attention_mask": _padded([[1] * (len(p) + len(a)) for p, a, _ in sequences], 0),
            "answer_mask": _padded([[0] * len(p) + mask for p, _, mask in sequences], 0),
            "at": pad_sequence(own, batch_first=True, padding_value=-1),
        }
        if rows[0].stranger is not None:
            batch["strangers"] = torch.arange(sum(counts), len(sequences))
        if rows[0].label is not None:
            batch["label"] = torch.tensor([bool(row.label) for row in rows])
        for name in rows[0].columns:
            batch[COLUMN + name] = _padded([row.columns[name] for row in rows], 0.0, self.dtype)
        if rows[0].reference is not None:
            batch["reference"] = _padded(_references(rows), 0.0, self.dtype)
        return batch


def parts_of(batch: Batch, most: int) -> list[Batch]:
    """A batch as several of at most ``most`` tokens (one prompt at the least), in order.

    The tokens of a prompt are those of all its answers and of the stranger, it itself in each.
    """
    at, tokens = batch["at"], batch["attention_mask"].sum(1)
    lengths = (tokens[at.clamp(min=0)] * (at >= 0)).sum(1)
    if "strangers" in batch:
        lengths = lengths + tokens[batch["strangers"]]
    slices = slices_of(lengths.tolist(), most)
    return [batch] if len(slices) == 1 else [_part(batch, prompts) for prompts in slices]


def _part(batch: Batch, prompts: slice) -> Batch:
    """Some of the prompts of a batch, with their answers and strangers."""
    there = batch["at"][prompts] >= 0
    most, own = int(there.sum(1).max()), batch["at"][prompts][there]
    strangers = batch["strangers"][prompts] if "strangers" in batch else own[:0]
    rows = torch.cat([own, strangers])
    part = {name: batch[name][rows] for name in _BY_ROW if name in batch}
    part["at"] = torch.where(there, there.flatten().cumsum(0).view_as(there) - 1, -1)[:, :most]
    if "strangers" in batch:
        part["strangers"] = torch.arange(len(own), len(rows), device=rows.device)
    for name in batch.keys() - part.keys():
        part[name] = (
            batch[name][prompts][:, :most] if batch[name].ndim > 1 else batch[name][prompts]
        )
    return narrowed(part)


def _references(rows: Sequence[AnswerRow]) -> list[list[float]]:
    """Of the rows' own answers, then of the strangers: as the sequences are laid out."""
    known = [(len(row.answers), row.reference) for row in rows if row.reference is not None]
    own = [values for count, reference in known for values in reference[:count]]
    return own + [values for count, reference in known for values in reference[count:]]


def _padded(
    rows: Sequence[Sequence[float]], pad: float, dtype: torch.dtype = torch.long
) -> torch.Tensor:
    return pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], True, pad)
