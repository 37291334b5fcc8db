"""Pairs of answers to be labelled by an LLM judge: the one it prefers becomes the chosen one.

The pairs are written into the run folder and are the source of the run, which asks the judge again.
As both orders are asked, all answers are in the cache by then. The ledger has each pair, with a
reason for those that are dropped, and the rows and answers that make no pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import TURNS, schema_of
from siftune.curate.files.atomic import atomic_write
from siftune.curate.files.output_marker import ANSWERS, PAIRS
from siftune.curate.judging.judge_columns import JudgeColumns
from siftune.curate.judging.pairs import PairsOf, answer_pairs, pair_name
from siftune.curate.rows.chat import contents, split_turns
from siftune.curate.rows.convert import content_digest
from siftune.curate.rows.decisions import detail
from siftune.curate.rows.table import Table
from siftune.curate.runners.results import LEDGER, Prepared, RowGroupWriter
from siftune.curate.runs.recipe import Recipe, component
from siftune.curate.runs.run_manifest import ANSWER_COLUMNS

__all__ = ["Contradicted", "label", "pairs_of", "read_table"]


@dataclass
class _Rows:
    """What became of rows whose answers are paired.

    ``dropped`` are decisions (`results.LEDGER`) on rows of one answer and on answers of a list that
    make no pair, ``pairs`` the first pair of each other row.
    """

    dropped: list[dict[str, Any]] = field(default_factory=list)
    pairs: dict[str, str] = field(default_factory=dict)

    def drop(self, row: Mapping[str, Any], name: str, reason: str, answers: int) -> None:
        """Note that a row, or answers of it, make no pair; ``answers`` are those of its prompt."""
        facts = {"stage": "ingest", "decision": "dropped", "detail": detail(answers=answers)}
        self.dropped.append({"id": name, "source": row["source"], "reason": reason, **facts})


def label(recipe: Recipe, out: Path, which: PairsOf = "neighbours") -> Prepared:
    """The recipe with pairs of answers as its source, each with the judge's choice as chosen.

    Its first stage is `judge_pairwise`. A pair without a winner stays in the order of its answers.
    Rows that make no pair are dropped as ``no_answer``, ``too_few_answers`` (one), ``odd_answer``
    (the last one that has no neighbour), or ``equal_answers``.

    Raises:
        UsageError: the rows have no two answers to a prompt.
    """
    scorer = component(recipe.stages[0], recipe.seed, out / "cache")
    path = out / PAIRS
    count, aside = 0, _Rows()
    with TemporaryDirectory() as folder, atomic_write(path) as part, RowGroupWriter(part) as groups:
        table = read_table(recipe, Path(folder))
        for pairs in pairs_of(table, which, aside):
            groups.write(_oriented(pairs, scorer))
            count += pairs.height
        unread = (Path(folder) / "rows" / "quarantine.jsonl").read_bytes()
    if not count:
        raise DataError(f"{', '.join(recipe.source)}: no prompt has two different answers to judge")
    with atomic_write(out / ANSWERS) as part:
        pl.DataFrame([*aside.pairs.items()], ANSWER_COLUMNS, orient="row").write_parquet(part)
    made = replace(recipe, source=(str(path),), given={}, format=None, map={}, limit=None)
    return Prepared(made, pl.DataFrame(aside.dropped, LEDGER), unread)


@dataclass
class Contradicted:
    """Whether a labelled run has to be made again, as the judge contradicts pairs that it made.

    It was not asked then, as a call failed that has been answered since. Made again, they are
    labelled by that answer, which is in the cache.
    """

    before: set[str] = field(default_factory=set)

    def __call__(self, out: Path) -> bool:
        """Whether the run in ``out`` has others than the last time."""
        ledger = pl.read_parquet(out / "ledger.parquet", columns=["id", "reason"], glob=False)
        last, self.before = self.before, set(ledger.filter(reason="contradicted")["id"])
        return self.before != last


def read_table(recipe: Recipe, folder: Path) -> Table:
    """The rows of the recipe's source, read into ``folder``."""
    from siftune.curate.runners.run import run

    done = run(replace(recipe, stages=()), folder / "rows", command="curate judge")
    rows = done.out / "kept.parquet"
    height = pq.read_metadata(rows).num_rows
    return Table(rows, done.manifest["kind"], height, np.arange(height))


def pairs_of(
    table: Table, which: PairsOf = "neighbours", aside: _Rows | None = None
) -> Iterator[pl.DataFrame]:
    """Preference rows: pairs as they are, else the first and second answer, third and fourth ….

    With ``which`` all they are any two answers to a prompt.

    Answers to a prompt are those of a ranked list, or of conversations with the same prompt.

    Raises:
        UsageError: rows of this kind have no answers to compare.
    """
    aside = _Rows() if aside is None else aside
    if table.kind == "preference":
        for batch in table.batches(schema_of("preference")):
            yield batch.select(list(schema_of("preference")))
        return
    if table.kind == "ranked":
        for batch in table.batches(schema_of("ranked")):
            lists = batch.iter_rows(named=True)
            yield _framed(pair for row in lists for pair in _of_list(row, which, aside))
        return
    if table.kind != "conversation":
        raise UsageError(f"--label: rows of kind {table.kind} have no answers to compare")
    yield _framed(_by_prompt(table.gather([*schema_of("conversation")]), which, aside))


def _of_list(row: Mapping[str, Any], which: PairsOf, aside: _Rows) -> Iterator[dict[str, Any]]:
    """Pairs of the answers of a ranked list."""
    answers = row["completions"] or []
    if len(answers) < 2:
        aside.drop(row, row["id"], "too_few_answers", len(answers))
        return
    for _, pair in _paired(row, row["prompt"], answers, which):
        aside.pairs.setdefault(row["id"], pair["id"])
        if pair["chosen"] == pair["rejected"]:
            aside.drop(row, pair["id"], "equal_answers", len(answers))
        else:
            yield pair
    if which == "neighbours" and len(answers) % 2:
        last = pair_name((len(answers) - 1, len(answers)), which)
        aside.drop(row, f"{row['id']}#{last}", "odd_answer", len(answers))


def _by_prompt(rows: pl.DataFrame, which: PairsOf, aside: _Rows) -> Iterator[dict[str, Any]]:
    """Pairs of the answers to equal prompts, in the order of the rows."""
    before, answer = split_turns(rows["messages"])
    keyed = rows.with_columns(prompt=before, key=contents(before), answer=answer)
    lacking = pl.col("key").is_null() | pl.col("answer").is_null()
    for row in keyed.filter(lacking).iter_rows(named=True):
        aside.drop(row, row["id"], "no_answer", 0)
    for _, group in keyed.filter(~lacking).group_by("key", maintain_order=True):
        listed = group.to_dicts()
        answers = [[_answer(row["messages"])] for row in listed]
        paired = set()
        for places, pair in _paired(listed[0], listed[0]["prompt"], answers, which):
            if pair["chosen"] != pair["rejected"]:
                paired |= {*places}
                for at in places:
                    aside.pairs.setdefault(listed[at]["id"], pair["id"])
                yield pair
        for at, row in enumerate(listed):
            if at not in paired:
                alone = at == len(listed) - 1 and len(listed) % 2 and which == "neighbours"
                few = "too_few_answers" if len(listed) < 2 else "odd_answer"
                reason = few if alone or len(listed) < 2 else "equal_answers"
                aside.drop(row, row["id"], reason, len(listed))


def _answer(messages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The last turn of the assistant."""
    return next(turn for turn in reversed(messages) if turn["role"] == "assistant")


def _paired(
    row: Mapping[str, Any], prompt: Any, answers: Sequence[Any], which: PairsOf
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """The places of two answers to one prompt, and their preference row."""
    alone = len(answers) < (3 if which == "all" else 4)
    for places in answer_pairs(len(answers), which):
        chosen, rejected = (answers[at] for at in places)
        pair = {name: row[name] for name in ("source", "row", "extra")} | {
            "id": row["id"] if alone else f"{row['id']}#{pair_name(places, which)}",
            "kind": "preference",
            "prompt": prompt,
            "chosen": chosen,
            "rejected": rejected,
        }
        yield places, pair | {"digest": content_digest("preference", pair)}


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
