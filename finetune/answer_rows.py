"""Rows of single or ranked answers as token ids: those that can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.core.errors import UsageError
from curate.core.schema import kind_of
from finetune import checks, data
from finetune.encoding import encode_answers

__all__ = ["AnswerRow", "AnswerRows", "answer_rows", "with_strangers"]


@dataclass(frozen=True)
class AnswerRow:
    """Ids of a prompt and of its answers (end of turn included): one, or K that are ranked.

    ``columns`` hold a number for each answer; ``stranger`` is an answer to another prompt.
    """

    id: str
    prompt: list[int]
    answers: list[list[int]]
    label: bool | None = None
    columns: Mapping[str, list[float]] = field(default_factory=dict)
    stranger: list[int] | None = None

    @property
    def length(self) -> int:
        """Tokens of the longest of the sequences."""
        return len(self.prompt) + max(map(len, self.answers))


@dataclass(frozen=True)
class AnswerRows:
    """Rows that can be trained on, the same as token ids, and the rows that were left out."""

    table: pl.DataFrame
    rows: list[AnswerRow]
    dropped: data.Dropped


def answer_rows(
    table: pl.DataFrame,
    tokenizer: Any,
    columns: Sequence[str] = (),
    *,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    on_bad: data.OnBad = "refuse",
    source: Path | str = "rows",
) -> AnswerRows:
    """The rows of ``table``; ``columns`` are numbers that the loss reads beside the answers.

    Of unpaired rows they are columns of the table; ranked rows have ``score``, from ``scores``. As
    with pairs, a prompt is cut to its last ``max_prompt_length`` tokens and an answer never.

    Raises:
        DataError: there are rows that cannot be trained on and ``on_bad`` is ``refuse``.
        UsageError: no row has one of ``columns``.
    """
    ranked = kind_of(table) == "ranked"
    table = _with_columns(table, columns, ranked, source)
    bad = _bad(table, columns, ranked)
    read = table.join(bad, on="id", how="anti", maintain_order="left")
    rows = _encoded(read, tokenizer, columns)
    if max_prompt_length is not None:
        rows = [_cut(row, max_prompt_length) for row in rows]
    long = [(row.id, "too_long") for row in rows if max_length and row.length > max_length]
    over = pl.DataFrame(long, schema=data.BAD_ROWS, orient="row")
    used = data.drop_bad(table, pl.concat([bad, over]), on_bad, source)
    left = set(used["id"])
    kept = [row for row in rows if row.id in left]
    return AnswerRows(used, kept, data.dropped_of(bad, over))


def _cut(row: AnswerRow, longest: int) -> AnswerRow:
    return replace(row, prompt=row.prompt[max(0, len(row.prompt) - longest) :])


def with_strangers(
    rows: Sequence[AnswerRow], seed: int, max_length: int | None = None
) -> list[AnswerRow]:
    """Each row with the answer of another prompt, which one ``seed`` says; cut where it is long.

    Raises:
        UsageError: all rows have the same prompt.
    """
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    given = {}
    for place, at in enumerate(order):
        others = (order[(place + step) % len(order)] for step in range(1, len(order)))
        other = next((o for o in others if rows[o].prompt != rows[at].prompt), None)
        if other is None:
            raise UsageError(
                "the loss estimates a KL from answers to other prompts: expected at least two "
                "different prompts"
            )
        room = None if max_length is None else max_length - len(rows[at].prompt)
        given[at] = rows[other].answers[0][:room]
    return [replace(row, stranger=given[at]) for at, row in enumerate(rows)]


def _with_columns(
    table: pl.DataFrame, columns: Sequence[str], ranked: bool, source: Path | str
) -> pl.DataFrame:
    """The table with each of ``columns`` as a list of a number for each answer."""
    for name in columns:
        column = "scores" if ranked and name == "score" else name
        if column not in table.columns or table[column].null_count() == table.height:
            raise UsageError(f"{source}: the loss reads the column {column!r}, and no row has it")
        values = pl.col(column).cast(pl.List(pl.Float64) if ranked else pl.Float64)
        table = table.with_columns((values if ranked else pl.concat_list(values)).alias(name))
    return table


_SAYS = pl.element().struct.field("role") == "assistant"
_HAS_TEXT = pl.element().struct.field("content").fill_null("").str.strip_chars() != ""


def _bad(table: pl.DataFrame, columns: Sequence[str], ranked: bool) -> pl.DataFrame:
    """Rows that cannot be trained on, and those without a number for each of their answers."""
    bad = [data.bad_rows(table)]
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


def _encoded(table: pl.DataFrame, tokenizer: Any, columns: Sequence[str]) -> list[AnswerRow]:
    if "label" in table.columns:
        said = [{**row, "completions": [row["completion"]]} for row in data.to_unpaired(table)]
    else:
        said = [
            {**row, "prompt": data.chat(row["prompt"]), "completions": _chats(row["completions"])}
            for row in table.select("id", "prompt", "completions").rows(named=True)
        ]
    flat = [(row, answer) for row in said for answer in row["completions"]]
    texts = [{"id": row["id"], "prompt": row["prompt"], "answer": answer} for row, answer in flat]
    checks.refuse(checks.check_texts(tokenizer, texts))
    ids = iter(
        encode_answers(
            tokenizer, [row["prompt"] for row in texts], [row["answer"] for row in texts]
        )
    )
    numbers = table.select(columns).rows(named=True) if columns else [{} for _ in said]
    rows = []
    for row, facts in zip(said, numbers, strict=True):
        encoded = [next(ids) for _ in row["completions"]]
        answers = [answer for _, answer in encoded]
        rows.append(AnswerRow(row["id"], encoded[0][0], answers, row.get("label"), facts))
    return rows


def _chats(answers: Sequence[Any]) -> list[list[dict[str, Any]]]:
    return [data.chat(answer) for answer in answers]
