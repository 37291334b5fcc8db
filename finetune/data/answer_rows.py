"""Preference rows as token ids: a prompt with one answer, two (a pair) or K ranked ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siftune.curate.chat.encoding import encode_answers
from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import Kind, kind_of
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.row_extras import unlearned_rows
from siftune.finetune.data.tool_checks import check_calls

__all__ = ["AnswerRow", "TokenRows", "encode_rows", "fitting", "with_mismatched"]


@dataclass(frozen=True)
class AnswerRow:
    """Token ids of a prompt and of its answers, each with its end of turn.

    A pair is a list of two answers, the chosen one first. ``columns`` hold the numbers that a loss
    reads: one for each answer, of a pair one in all. ``mismatched`` is an answer to another prompt,
    that of the row ``mismatched_id`` (for losses that estimate a KL). ``masks`` are 1 on the tokens
    to score, of the answers and then of ``mismatched``; without them all are scored. ``reference``
    holds the log-probs of the scored tokens under the reference, in the same order, once they are
    computed.
    """

    id: str
    prompt: list[int]
    answers: list[list[int]]
    label: bool | None = None
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)
    mismatched: list[int] | None = None
    reference: Sequence[list[float]] | None = None
    mismatched_id: str | None = None
    masks: Sequence[list[int]] = ()

    @property
    def length(self) -> int:
        """Tokens of the prompt and the longest answer."""
        return len(self.prompt) + max(map(len, self.answers))

    @property
    def sequences(self) -> list[list[int]]:
        """The answers, then ``mismatched`` where there is one."""
        return [*self.answers, *([] if self.mismatched is None else [self.mismatched])]

    @property
    def scored(self) -> list[list[int]]:
        """For each token of `sequences` 1 where it is scored, else 0."""
        return list(self.masks) or [[1] * len(answer) for answer in self.sequences]


@dataclass(frozen=True)
class TokenRows:
    """Rows that can be trained on, as a table and as token ids, and those that were left out."""

    table: pl.DataFrame
    ids: list[AnswerRow]
    dropped: training_rows.Dropped

    def part(self, table: pl.DataFrame) -> list[AnswerRow]:
        """Token ids of the rows of ``table``."""
        wanted = set(table["id"])
        return [row for row in self.ids if row.id in wanted]


def encode_rows(
    table: pl.DataFrame,
    tokenizer: Any,
    columns: Sequence[str] = (),
    *,
    labelled: bool = False,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    on_bad: training_rows.OnBad = "refuse",
    source: Path | str = "rows",
) -> TokenRows:
    """Preference, unpaired or ranked rows as token ids.

    ``columns`` are columns of ``table`` with numbers that the loss reads: one for each row, or a
    list with one for each answer. With ``labelled`` a row without a label cannot be trained on. A
    prompt is cut to its last ``max_prompt_length`` tokens. An answer is never cut, which would cut
    its end of turn: a row of which the prompt and the longest answer exceed ``max_length`` tokens
    cannot be trained on.

    Raises:
        DataError: some rows cannot be trained on and ``on_bad`` is ``refuse``.
    """
    kind = kind_of(table)
    bad = _bad_rows(table, columns, kind, labelled)
    rows = _encoded(
        table.join(bad, on="id", how="anti", maintain_order="left"), tokenizer, columns, kind
    )
    if max_prompt_length is not None:
        rows = [_with_cut_prompt(row, max_prompt_length) for row in rows]
    return fitting(table, bad, rows, max_length=max_length, on_bad=on_bad, source=source)


def _with_cut_prompt(row: AnswerRow, longest: int) -> AnswerRow:
    return replace(row, prompt=row.prompt[max(0, len(row.prompt) - longest) :])


def fitting(
    table: pl.DataFrame,
    bad: pl.DataFrame,
    rows: Sequence[AnswerRow],
    *,
    max_length: int | None,
    on_bad: training_rows.OnBad,
    source: Path | str,
) -> TokenRows:
    """Rows of at most ``max_length`` tokens in which every answer has a token that is scored.

    ``rows`` are those of ``table`` that are not in ``bad`` (``id, reason``).

    Raises:
        DataError: some are left out, by this or by ``bad``, and ``on_bad`` is ``refuse``.
    """
    unfit = [(row.id, "too_long") for row in rows if max_length and row.length > max_length]
    unfit += [(row.id, "no_trained_tokens") for row in rows if not all(map(any, row.scored))]
    more = pl.DataFrame(unfit, schema=training_rows.BAD_ROWS, orient="row").unique(
        "id", keep="first", maintain_order=True
    )
    used = training_rows.drop_bad(table, pl.concat([bad, more]), on_bad, source)
    left = set(used["id"])
    kept = [row for row in rows if row.id in left]
    return TokenRows(used, kept, training_rows.dropped_of(bad, more))


def with_mismatched(
    rows: Sequence[AnswerRow],
    seed: int,
    max_length: int | None = None,
    among: Sequence[AnswerRow] | None = None,
) -> list[AnswerRow]:
    """Each row with an answer to another prompt, drawn by ``seed`` from ``among`` (default: rows).

    The answer is cut where it and the row's prompt exceed ``max_length`` tokens.

    Raises:
        UsageError: all of these have the same prompt.
    """
    pool = rows if among is None else among
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    places = {index: place for place, index in enumerate(order)}
    made = []
    for index, row in enumerate(rows):
        start = places[index % len(pool)]
        others = (pool[order[(start + step) % len(order)]] for step in range(len(order)))
        other = next((one for one in others if one.prompt != row.prompt), None)
        if other is None:
            raise UsageError(
                "the loss estimates a KL from answers to other prompts: expected at least two "
                "different prompts"
            )
        room = None if max_length is None else max_length - len(row.prompt)
        masks = [*row.scored[: len(row.answers)], other.scored[0][:room]]
        answer = other.answers[0][:room]
        made.append(replace(row, mismatched=answer, mismatched_id=other.id, masks=masks))
    return made


_IS_ANSWER = pl.element().struct.field("role") == "assistant"
_HAS_TEXT = (pl.element().struct.field("content").fill_null("").str.strip_chars() != "") | (
    pl.element().struct.field("tool_calls").is_not_null()
)


def _bad_rows(
    table: pl.DataFrame, columns: Sequence[str], kind: Kind, labelled: bool
) -> pl.DataFrame:
    """Rows that cannot be trained on, and those without a number that the loss reads."""
    found = training_rows.bad_rows(table)
    bad = [found if labelled else found.filter(pl.col("reason") != "no_label")]
    bad.append(unlearned_rows(table))
    if kind == "ranked":
        answered = pl.element().list.eval(_IS_ANSWER & _HAS_TEXT).list.any()
        whole = pl.col("completions").list.eval(answered.fill_null(False)).list.all()
        bad.append(table.filter(~whole).select("id", reason=pl.lit("empty_completion")))
    for name in columns:
        value = pl.col(name)
        if table.schema[name] == pl.List:
            count = pl.col("completions").list.len() if kind == "ranked" else 1
            finite = value.list.eval(pl.element().is_finite().fill_null(False)).list.all()
            usable = finite & (value.list.len() == count)
        else:
            usable = value.is_finite()
        lacking = table.filter(~usable.fill_null(False))
        bad.append(lacking.select("id", reason=pl.lit(f"no_{name}")))
    return pl.concat(bad).unique("id", keep="first", maintain_order=True)


def _encoded(
    table: pl.DataFrame, tokenizer: Any, columns: Sequence[str], kind: Kind
) -> list[AnswerRow]:
    rows = _with_completions(table, kind)
    texts = [
        {"id": row["id"], "prompt": row["prompt"], "answer": answer, "tools": row["tools"]}
        for row in rows
        for answer in row["completions"]
    ]
    # of a pair both answers are checked at once: a warning counts it as one row
    checked = training_rows.to_pairs(table) if kind == "preference" else texts
    preflight.refuse([*preflight.check_texts(tokenizer, checked), *check_calls(tokenizer, checked)])
    encoded = iter(
        encode_answers(
            tokenizer,
            [row["prompt"] for row in texts],
            [row["answer"] for row in texts],
            tools=[row["tools"] for row in texts],
            rows=[row["id"] for row in texts],
        )
    )
    numbers = table.select(columns).rows(named=True) if columns else [{} for _ in rows]
    made = []
    for row, values in zip(rows, numbers, strict=True):
        answers = [next(encoded) for _ in row["completions"]]
        made.append(
            AnswerRow(
                row["id"],
                answers[0].prompt,
                [one.ids for one in answers],
                row.get("label"),
                {name: each if isinstance(each, list) else [each] for name, each in values.items()},
                masks=[one.mask for one in answers],
            )
        )
    return made


def _with_completions(table: pl.DataFrame, kind: Kind) -> list[dict[str, Any]]:
    """``{"id", "prompt", "completions", "tools"}`` of each row, ``label`` of unpaired ones."""
    if kind == "ranked":
        return training_rows.to_ranked(table)
    if kind == "preference":
        pairs = training_rows.to_pairs(table)
        return [{**row, "completions": [row["chosen"], row["rejected"]]} for row in pairs]
    single = training_rows.to_unpaired(table)
    return [{**row, "completions": [row["completion"]]} for row in single]
