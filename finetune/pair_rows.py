"""Preference rows as token ids, without those that cannot be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curate.core.errors import UsageError
from finetune import data, models
from finetune.collate import PairIds, cut_prompt
from finetune.encoding import encode_answers

__all__ = ["pairs_of"]


def pairs_of(
    table: pl.DataFrame,
    model: str,
    columns: Sequence[str] = (),
    *,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    on_bad: data.OnBad = "refuse",
    source: Path | str = "rows",
) -> tuple[pl.DataFrame, list[PairIds]]:
    """The rows of ``table`` that can be trained on, and their pairs, in order.

    ``columns`` are numbers that the loss reads beside the completions. ``max_length`` is in tokens,
    by default what ``model`` can take.

    Raises:
        DataError: there are rows that cannot be trained on and ``on_bad`` is ``refuse``.
        UsageError: no row has one of ``columns``.
    """
    table = data.drop_bad(table, _bad(table, columns, source), on_bad, source)
    pairs = _encoded(table, models.load_tokenizer(model), columns)
    if max_prompt_length is not None:
        pairs = [cut_prompt(pair, max_prompt_length) for pair in pairs]
    limit = max_length or _context(model)
    long = {pair.id for pair in pairs if limit and pair.length > limit}
    bad = pl.DataFrame([(key, "too_long") for key in sorted(long)], data.BAD_ROWS, orient="row")
    used = data.drop_bad(table, bad, on_bad, source)
    return used, [pair for pair in pairs if pair.id not in long]


def _bad(table: pl.DataFrame, columns: Sequence[str], source: Path | str) -> pl.DataFrame:
    """Rows that cannot be trained on, and those without a value that the loss asks for."""
    bad = [data.bad_rows(table)]
    for name in columns:
        if name not in table.columns or table[name].null_count() == table.height:
            raise UsageError(f"{source}: the loss reads the column {name!r}, and no row has it")
        without = table.filter(pl.col(name).is_null() | ~pl.col(name).is_finite())
        bad.append(without.select("id", reason=pl.lit(f"no_{name}")))
    return pl.concat(bad).unique("id", keep="first", maintain_order=True)


def _encoded(table: pl.DataFrame, tokenizer: Any, columns: Sequence[str]) -> list[PairIds]:
    rows = data.to_pairs(table)
    prompts = [row["prompt"] for row in rows]
    chosen = encode_answers(tokenizer, prompts, [row["chosen"] for row in rows])
    rejected = encode_answers(tokenizer, prompts, [row["rejected"] for row in rows])
    values = table.select("id", pl.col(columns).cast(pl.Float64)).rows(named=True)
    return [
        PairIds(facts.pop("id"), prompt, good, bad, facts)
        for facts, (prompt, good), (_, bad) in zip(values, chosen, rejected, strict=True)
    ]


def _context(model: str) -> int | None:
    """Tokens that ``model`` can take, where it says so."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(models.resolve(model), trust_remote_code=False)
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit
