"""Pairs of answers to be labelled by an LLM judge: the one it prefers becomes the chosen one.

The pairs are written into the run folder and are the source of the run, which asks the judge again.
As both orders are asked, all answers are in the cache by then. The ledger has each pair, with a
reason for those that are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import TURNS, schema_of
from siftune.curate.files.atomic import atomic_write
from siftune.curate.judging.judge_columns import JudgeColumns
from siftune.curate.judging.pairs import PairsOf, answer_pairs, pair_name
from siftune.curate.rows.chat import contents, split_turns
from siftune.curate.rows.convert import content_digest
from siftune.curate.rows.table import Table
from siftune.curate.runners.results import RowGroupWriter
from siftune.curate.runs.recipe import Recipe, component

__all__ = ["PAIRS", "label", "pairs_of", "read_table"]

PAIRS = "pairs.parquet"
"""The pairs of a labelled run, in its folder."""


def label(recipe: Recipe, out: Path, which: PairsOf = "neighbours") -> Recipe:
    """The recipe with pairs of answers as its source, each with the judge's choice as chosen.

    Its first stage is `judge_pairwise`. A pair without a winner stays in the order of its answers.

    Raises:
        UsageError: the rows have no two answers to a prompt.
    """
    scorer = component(recipe.stages[0], recipe.seed, out / "cache")
    path = out / PAIRS
    count = 0
    with TemporaryDirectory() as folder, atomic_write(path) as part, RowGroupWriter(part) as groups:
        table = read_table(recipe, Path(folder))
        for pairs in pairs_of(table, which):
            groups.write(_oriented(pairs, scorer))
            count += pairs.height
    if not count:
        raise DataError(f"{', '.join(recipe.source)}: no prompt has two different answers to judge")
    return replace(recipe, source=(str(path),), given={}, format=None, map={}, limit=None)


def read_table(recipe: Recipe, folder: Path) -> Table:
    """The rows of the recipe's source, read into ``folder``."""
    from siftune.curate.runners.run import run

    done = run(replace(recipe, stages=()), folder / "rows", command="curate judge")
    rows = done.out / "kept.parquet"
    height = pq.read_metadata(rows).num_rows
    return Table(rows, done.manifest["kind"], height, np.arange(height))


def pairs_of(table: Table, which: PairsOf = "neighbours") -> Iterator[pl.DataFrame]:
    """Preference rows: pairs as they are, else the first and second answer, third and fourth ….

    With ``which`` all they are any two answers to a prompt.

    Answers to a prompt are those of a ranked list, or of conversations with the same prompt.

    Raises:
        UsageError: rows of this kind have no answers to compare.
    """
    if table.kind == "preference":
        for batch in table.batches(schema_of("preference")):
            yield batch.select(list(schema_of("preference")))
        return
    if table.kind == "ranked":
        for batch in table.batches(schema_of("ranked")):
            yield _framed(
                pair
                for row in batch.iter_rows(named=True)
                for pair in _paired(row, row["prompt"], row["completions"] or [], which)
            )
        return
    if table.kind != "conversation":
        raise UsageError(f"--label: rows of kind {table.kind} have no answers to compare")
    yield _framed(_by_prompt(table.gather([*schema_of("conversation")]), which))


def _by_prompt(rows: pl.DataFrame, which: PairsOf) -> Iterator[dict[str, Any]]:
    """Pairs of the answers to equal prompts, in the order of the rows."""
    before, answer = split_turns(rows["messages"])
    keyed = rows.with_columns(prompt=before, key=contents(before), answer=answer)
    keyed = keyed.filter(pl.col("key").is_not_null() & pl.col("answer").is_not_null())
    for _, group in keyed.group_by("key", maintain_order=True):
        listed = group.to_dicts()
        answers = [[_answer(row["messages"])] for row in listed]
        yield from _paired(listed[0], listed[0]["prompt"], answers, which)


def _answer(messages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The last turn of the assistant."""
    return next(turn for turn in reversed(messages) if turn["role"] == "assistant")


def _paired(
    row: Mapping[str, Any], prompt: Any, answers: Sequence[Any], which: PairsOf
) -> Iterator[dict[str, Any]]:
    """Preference rows of answers to one prompt; two that are equal are no pair."""
    alone = len(answers) < (3 if which == "all" else 4)
    for first, second in answer_pairs(len(answers), which):
        if answers[first] == answers[second]:
            continue
        pair = {name: row[name] for name in ("source", "row", "extra")} | {
            "id": row["id"] if alone else f"{row['id']}#{pair_name((first, second), which)}",
            "kind": "preference",
            "prompt": prompt,
            "chosen": answers[first],
            "rejected": answers[second],
        }
        yield pair | {"digest": content_digest("preference", pair)}


def _framed(pairs: Iterator[dict[str, Any]]) -> pl.DataFrame:
    schema = schema_of("preference")
    return pl.DataFrame([{name: pair.get(name) for name in schema} for pair in pairs], schema)


def _oriented(pairs: pl.DataFrame, scorer: JudgeColumns) -> pl.DataFrame:
    """The pairs with the answer that the judge prefers as the chosen one."""
    if not pairs.height:
        return pairs
    winner = f"{scorer.prefix}_winner"
    second = scorer(pairs)[winner] == "second"
    swap = second.fill_null(False)
    if not swap.any():
        return pairs
    sides = {
        "chosen": pl.when(swap).then("rejected").otherwise("chosen"),
        "rejected": pl.when(swap).then("chosen").otherwise("rejected"),
        "score_chosen": pl.when(swap).then("score_rejected").otherwise("score_chosen"),
        "score_rejected": pl.when(swap).then("score_chosen").otherwise("score_rejected"),
        "margin": pl.when(swap).then(-pl.col("margin")).otherwise("margin"),
        "win_probability": pl.when(swap)
        .then(1 - pl.col("win_probability"))
        .otherwise("win_probability"),
    }
    turned = pairs.with_columns(**sides).cast({"chosen": TURNS, "rejected": TURNS})
    digests = [
        content_digest("preference", row)
        for row in turned.select("prompt", "chosen", "rejected").iter_rows(named=True)
    ]
    return turned.with_columns(digest=pl.Series(digests, dtype=pl.String))
