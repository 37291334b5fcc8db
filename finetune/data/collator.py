"""Batches of token ids: prompts with their answers, one row for each, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch.nn.utils.rnn import pad_sequence

from siftune.finetune.data.answer_rows import AnswerRow

__all__ = ["COLUMN", "AnswerCollator", "Batch", "pad_of", "parts_of", "slices_of"]

Batch: TypeAlias = dict[str, torch.Tensor]
COLUMN: Final = "column/"

_BY_ROW: Final = ("input_ids", "attention_mask", "answer_mask", "formatting", "reference")
"""Tensors with an entry for each of the R rows; ``row_of`` and others have one for each prompt."""


def pad_of(tokenizer: Any) -> int:
    """The padding id, or the end of text where there is none: padding is masked everywhere."""
    pad: int | None = tokenizer.pad_token_id
    return tokenizer.eos_token_id if pad is None else pad


@dataclass(frozen=True)
class AnswerCollator:
    """B prompts with up to K answers each as one batch of R rows, padded on the right.

    Rows are the first answers of all prompts, then the second ones, and so on (of pairs: all chosen
    answers, then all rejected ones), then answers to other prompts. ``row_of`` ``(B, K)`` is the
    row of an answer, -1 where a prompt has fewer; ``mismatched`` ``(B,)`` are the rows of answers
    to other prompts, where there are some. ``input_ids``, ``attention_mask`` and ``answer_mask``
    are ``(R, T)``, the last 1 on the scored tokens of the answer. ``formatting`` ``(R, L)`` is 1 on
    those scored tokens that are in ``special``; it and ``reference`` are laid out like the values
    of `logps.score_answers`, scored tokens only. ``label`` is ``(B,)``, ``column/NAME`` ``(B, K)``,
    or ``(B, 1)`` where a prompt has one number.

    >>> rows = [AnswerRow("a", [5], [[7, 2], [8]]), AnswerRow("b", [6], [[9]])]
    >>> batch = AnswerCollator(pad=0)(rows)
    >>> batch["input_ids"].tolist(), batch["row_of"].tolist()
    ([[5, 7, 2], [6, 9, 0], [5, 8, 0]], [[0, 2], [1, -1]])
    """

    pad: int
    special: frozenset[int] = frozenset()
    dtype: torch.dtype = torch.float32

    def __call__(self, rows: Sequence[AnswerRow]) -> Batch:
        """The batch of these rows."""
        counts = torch.tensor([len(row.answers) for row in rows])
        present = torch.arange(int(counts.max())) < counts[:, None]
        places = range(present.shape[1])
        order = [(row, at) for at in places for row in rows if at < len(row.answers)]
        order += [(row, -1) for row in rows if row.mismatched is not None]
        laid_out = [(row.prompt, row.sequences[at], row.scored[at]) for row, at in order]
        batch = {
            "input_ids": _padded([[*prompt, *answer] for prompt, answer, _ in laid_out], self.pad),
            "attention_mask": _padded([[1] * (len(p) + len(a)) for p, a, _ in laid_out], 0),
            "answer_mask": _padded([[0] * len(p) + mask for p, _, mask in laid_out], 0),
            "formatting": _padded([self._formatting(a, mask) for _, a, mask in laid_out], 0),
            "row_of": _row_of(present),
        }
        if rows[0].mismatched is not None:
            batch["mismatched"] = torch.arange(int(counts.sum()), len(laid_out))
        if rows[0].label is not None:
            batch["label"] = torch.tensor([bool(row.label) for row in rows])
        for name in rows[0].columns:
            batch[COLUMN + name] = _padded([row.columns[name] for row in rows], 0.0, self.dtype)
        if rows[0].reference is not None:
            values = [row.reference[at] for row, at in order if row.reference is not None]
            batch["reference"] = _padded(values, 0.0, self.dtype)
        return batch

    def _formatting(self, answer: Sequence[int], mask: Sequence[int]) -> list[int]:
        scored = (token for token, bit in zip(answer, mask, strict=True) if bit)
        return [int(token in self.special) for token in scored]


def _row_of(present: torch.Tensor) -> torch.Tensor:
    """Row numbers of answers ``(B, K)``, counted column by column; -1 where ``present`` is not."""
    columns = present.T
    return torch.where(columns, columns.flatten().cumsum(0).view_as(columns) - 1, -1).T.contiguous()


def slices_of(lengths: Sequence[int], most: int) -> list[slice]:
    """Runs of ``lengths`` that sum to at most ``most`` each (one at the least), in order.

    >>> slices_of([3, 3, 9, 1, 1], most=6)
    [slice(0, 2, None), slice(2, 3, None), slice(3, 5, None)]
    """
    starts, taken = [0], 0
    for place, tokens in enumerate(lengths):
        if taken and taken + tokens > most:
            starts.append(place)
            taken = 0
        taken += tokens
    return [slice(*ends) for ends in zip(starts, [*starts[1:], len(lengths)], strict=True)]


def parts_of(batch: Batch, most: int) -> list[Batch]:
    """A batch as several of at most ``most`` tokens (one prompt at the least), in order.

    The tokens of a prompt are those of all its rows: it itself counts in each.
    """
    row_of, tokens = batch["row_of"], batch["attention_mask"].sum(1)
    lengths = (tokens[row_of.clamp(min=0)] * (row_of >= 0)).sum(1)
    if "mismatched" in batch:
        lengths = lengths + tokens[batch["mismatched"]]
    slices = slices_of(lengths.tolist(), most)
    return [batch] if len(slices) == 1 else [_part(batch, prompts) for prompts in slices]


def _part(batch: Batch, prompts: slice) -> Batch:
    """Some prompts of a batch with all their rows, no wider than the longest of these."""
    row_of = batch["row_of"][prompts]
    present = row_of >= 0
    most = int(present.sum(1).max())
    rows = row_of.T[present.T]
    if "mismatched" in batch:
        rows = torch.cat([rows, batch["mismatched"][prompts]])
    part: Batch = {name: batch[name][rows] for name in _BY_ROW if name in batch}
    part["row_of"] = _row_of(present)[:, :most]
    if "mismatched" in batch:
        part["mismatched"] = torch.arange(int(present.sum()), len(rows), device=rows.device)
    for name in batch.keys() - part.keys():
        value = batch[name][prompts]
        part[name] = value[:, :most] if value.ndim > 1 else value
    widths = dict.fromkeys(_BY_ROW[:3], int(part["attention_mask"].sum(1).max()))
    widths |= dict.fromkeys(_BY_ROW[3:], int(part["answer_mask"].sum(1).max()))
    return part | {name: part[name][:, :to] for name, to in widths.items() if name in part}


def _padded(
    rows: Sequence[Sequence[float]], pad: float, dtype: torch.dtype = torch.long
) -> torch.Tensor:
    return pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], True, pad)
