"""Preference rows as token ids: those that can be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from siftune.finetune.chat.encoding import encode_answers
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.pair_collator import PairIds, cut_prompt
from siftune.finetune.data.row_extras import unlearned_rows
from siftune.finetune.data.token_rows import TokenRows, fitting
from siftune.finetune.data.tool_checks import check_calls

__all__ = ["pairs_of"]


def pairs_of(
    table: pl.DataFrame,
    tokenizer: Any,
    columns: Sequence[str] = (),
    *,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    on_bad: training_rows.OnBad = "refuse",
    source: Path | str = "rows",
) -> TokenRows[PairIds]:
    """The pairs of ``table``; ``columns`` are numbers that the loss reads beside the completions.

    Those are columns of ``table`` (`row_numbers.with_pair_numbers`).

    A prompt is cut to its last ``max_prompt_length`` tokens. A pair of which a side is then longer
    than ``max_length`` tokens cannot be trained on: to cut its answer would cut its end of turn.

    Raises:
        DataError: there are rows that cannot be trained on and ``on_bad`` is ``refuse``.
    """
    bad = _bad(table, columns)
    read = table.join(bad, on="id", how="anti", maintain_order="left")
    pairs = _encoded(read, tokenizer, columns)
    if max_prompt_length is not None:
        pairs = [cut_prompt(pair, max_prompt_length) for pair in pairs]
    return fitting(table, bad, pairs, max_length=max_length, on_bad=on_bad, source=source)


def _bad(table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Rows that cannot be trained on, and those without a value that the loss asks for."""
    bad = [training_rows.bad_rows(table), unlearned_rows(table)]
    for name in columns:
        without = table.filter(~pl.col(name).is_finite().fill_null(False))
        bad.append(without.select("id", reason=pl.lit(f"no_{name}")))
    return pl.concat(bad).unique("id", keep="first", maintain_order=True)


def _encoded(table: pl.DataFrame, tokenizer: Any, columns: Sequence[str]) -> list[PairIds]:
    rows = training_rows.to_pairs(table)
    preflight.refuse([*preflight.check_texts(tokenizer, rows), *check_calls(tokenizer, rows)])
    prompts, tools = [row["prompt"] for row in rows], [row["tools"] for row in rows]
    ids = [row["id"] for row in rows]
    chosen, rejected = (
        encode_answers(tokenizer, prompts, [row[side] for row in rows], tools=tools, rows=ids)
        for side in ("chosen", "rejected")
    )
    values = table.select("id", pl.col(columns).cast(pl.Float64)).rows(named=True)
    return [
        PairIds(facts.pop("id"), good.prompt, good.ids, bad.ids, facts, masks=[good.mask, bad.mask])
        for facts, good, bad in zip(values, chosen, rejected, strict=True)
    ]
