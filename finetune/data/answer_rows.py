"""Rows of single or ranked answers as token ids: those that can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import kind_of
from siftune.finetune.chat.encoding import encode_answers
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.row_extras import unlearned_rows
from siftune.finetune.data.token_rows import TokenRows, fitting
from siftune.finetune.data.tool_checks import check_calls

__all__ = ["AnswerRow", "answer_rows", "with_strangers"]


@dataclass(frozen=True)
class AnswerRow:
    """Ids of a prompt and of its answers (end of turn included): one, or K that are ranked.

    ``columns`` hold a number for each answer; ``stranger`` is an answer to another prompt, of the
    row ``stranger_id``.
    ``masks`` are those of the answers and, at the end, of the stranger, 1 on the tokens that are
    scored; without them all are. ``reference`` holds the scored tokens' log-probs under the
    reference once they are computed, in the same order.
    """

    id: str
    prompt: list[int]
    answers: list[list[int]]
    label: bool | None = None
    columns: Mapping[str, list[float]] = field(default_factory=dict)
    stranger: list[int] | None = None
    reference: list[list[float]] | None = None
    stranger_id: str | None = None
    masks: Sequence[list[int]] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest of the sequences."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def sequences(self) -> list[list[int]]:
        """The answers, and the stranger behind them."""
        return [*self.answers, *([] if self.stranger is None else [self.stranger])]

    @property
    def scored(self) -> list[list[int]]:
        """For each token of `sequences` 1 where it is scored, else 0."""
        return list(self.masks) or [[1] * len(answer) for answer in self.sequences]


def answer_rows(
    table: pl.DataFrame,
    tokenizer: Any,
    columns: Sequence[str] = (),
    *,
    labelled: bool = False,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    on_bad: training_rows.OnBad = "refuse",
    source: Path | str = "rows",
) -> TokenRows[AnswerRow]:
    """The rows of ``table``, unpaired or ranked.

    ``columns`` are lists of a number for each answer (`answer_tables.with_numbers`).
    ``labelled``: each row has to say whether its answer is a good one. As with pairs, a prompt is
    cut to its last ``max_prompt_length`` tokens and an answer never.

    Raises:
        DataError: there are rows that cannot be trained on and ``on_bad`` is ``refuse``.
    """
    bad = _bad(table, columns, labelled)
    read = table.join(bad, on="id", how="anti", maintain_order="left")
    ranked = kind_of(table) == "ranked"  # of no rows the kind is not told
    rows = _encoded(read, tokenizer, columns, ranked=ranked)
    if max_prompt_length is not None:
        rows = [_cut(row, max_prompt_length) for row in rows]
    return fitting(table, bad, rows, max_length=max_length, on_bad=on_bad, source=source)


def _cut(row: AnswerRow, longest: int) -> AnswerRow:
    return replace(row, prompt=row.prompt[max(0, len(row.prompt) - longest) :])


def with_strangers(
    rows: Sequence[AnswerRow],
    seed: int,
    max_length: int | None = None,
    among: Sequence[AnswerRow] | None = None,
) -> list[AnswerRow]:
    """Each row with the answer of another prompt; cut where it is long.

    It is one of ``among`` (default: of the rows themselves), drawn by ``seed``.

    Raises:
        UsageError: all of these have the same prompt.
    """
    pool = rows if among is None else among
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    places = {at: place for place, at in enumerate(order)}
    found = []
    for at, row in enumerate(rows):
        start = places[at % len(pool)]
        others = (pool[order[(start + step) % len(order)]] for step in range(len(order)))
        other = next((one for one in others if one.prompt != row.prompt), None)
        if other is None:
            raise UsageError(
                "the loss estimates a KL from answers to other prompts: expected at least two "
                "different prompts"
            )
        room = None if max_length is None else max_length - len(row.prompt)
        found.append(_with_stranger(row, other, room))
    return found


def _with_stranger(row: AnswerRow, other: AnswerRow, room: int | None) -> AnswerRow:
    """``row`` with the first ``room`` tokens of the first answer of ``other``."""
    masks = [*row.scored[: len(row.answers)], other.scored[0][:room]]
    return replace(row, stranger=other.answers[0][:room], stranger_id=other.id, masks=masks)


_SAYS = pl.element().struct.field("role") == "assistant"
_HAS_TEXT = (pl.element().struct.field("content").fill_null("").str.strip_chars() != "") | (
    pl.element().struct.field("tool_calls").is_not_null()
)


def _bad(table: pl.DataFrame, columns: Sequence[str], labelled: bool) -> pl.DataFrame:
    """Rows that cannot be trained on, and those without a number for each of their answers."""
    ranked, found = kind_of(table) == "ranked", training_rows.bad_rows(table)
    bad = [found if labelled else found.filter(pl.col("reason") != "no_label")]
    bad.append(unlearned_rows(table))
    if ranked:
        answered = pl.element().list.eval(_SAYS & _HAS_TEXT).list.any()
        whole = pl.col("completions").list.eval(answered.fill_null(False)).list.all()
        bad.append(table.filter(~whole).select("id", reason=pl.lit("empty_completion")))
    count = pl.col("completions").list.len() if ranked else 1
    for name in columns:
        finite = pl.col(name).list.eval(pl.element().is_finite().fill_null(False)).list.all()
        right = (finite & (pl.col(name).list.len() == count)).fill_null(False)
        bad.append(table.filter(~right).select("id", reason=pl.lit(f"no_{name}")))
    return pl.concat(bad).unique("id", keep="first", maintain_order=True)


def _encoded(
    table: pl.DataFrame, tokenizer: Any, columns: Sequence[str], *, ranked: bool
) -> list[AnswerRow]:
    if not ranked:
        said = [
            {**row, "completions": [row["completion"]]} for row in training_rows.to_unpaired(table)
        ]
    else:
        said = training_rows.to_ranked(table)
    texts = [
        {"id": row["id"], "prompt": row["prompt"], "answer": answer, "tools": row["tools"]}
        for row in said
        for answer in row["completions"]
    ]
    preflight.refuse([*preflight.check_texts(tokenizer, texts), *check_calls(tokenizer, texts)])
    ids = iter(
        encode_answers(
            tokenizer,
            [row["prompt"] for row in texts],
            [row["answer"] for row in texts],
            tools=[row["tools"] for row in texts],
            rows=[row["id"] for row in texts],
        )
    )
    numbers = table.select(columns).rows(named=True) if columns else [{} for _ in said]
    rows = []
    for row, facts in zip(said, numbers, strict=True):
        encoded = [next(ids) for _ in row["completions"]]
        answers, masks = [one.ids for one in encoded], [one.mask for one in encoded]
        prompt, label = encoded[0].prompt, row.get("label")
        rows.append(AnswerRow(row["id"], prompt, answers, label, facts, masks=masks))
    return rows
