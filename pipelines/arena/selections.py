"""Selections of an arena: rows of one scored pool, by each method, within one budget of tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build, find, options
from siftune.curate.core.schema import kind_of, schema_of
from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.expressions import scores
from siftune.curate.runs.recipe import Recipe, Spec, component
from siftune.pipelines.arena.recipe import RANKED, REFERENCE, SFT_ON_CHOSEN, Arena, takes_budget

__all__ = [
    "TOKENS",
    "Selection",
    "budget_tokens",
    "overlaps_of",
    "pool_recipe",
    "scoring_seconds",
    "select",
    "tokens_by",
    "training_columns",
]

TOKENS: Final = "length_tokens"
_ON_PAIRS: Final = f"chosen_{TOKENS} + rejected_{TOKENS}"
_GROUP: Final = "curate.selectors"


@dataclass(frozen=True)
class Selection:
    """The rows of one arm: a table in the order of the pool, its answer tokens, seconds it took.

    ``short`` is true where more tokens of the budget are left over than its longest row has:
    training then repeats its rows more often, up to the same number of learned tokens.
    """

    rows: pl.DataFrame
    tokens: int
    seconds: float
    short: bool = False


def pool_recipe(arena: Arena) -> Recipe:
    """The one scoring run: the pool's stages, with a count of the answers' tokens.

    A stage `length` of the recipe's own counts them where it names no tokenizer.
    """
    own = {"tokenizer": arena.base}
    stages = list(arena.pool.stages)
    at = next((at for at, one in enumerate(stages) if _counts_answers(one)), None)
    if at is None:
        stages.append(Spec("score", "length", own))
    else:
        stages[at] = replace(stages[at], options={**own, **stages[at].options})
    return replace(arena.pool, stages=tuple(stages))


def _counts_answers(spec: Spec) -> bool:
    response = spec.options.get("of", "response") == "response"
    return (spec.group, spec.name) == ("score", "length") and response and spec.turns == "last"


def tokens_by(table: pl.DataFrame) -> str:
    """The column, or expression, that counts the answer tokens of a row: of a pair both sides."""
    return _ON_PAIRS if kind_of(table) == "preference" else TOKENS


def budget_tokens(table: pl.DataFrame, budget: str) -> int:
    """Answer tokens of a budget; so many rows are times the mean answer of the pool.

    Raises:
        UsageError: the pool has fewer.
    """
    lengths = scores(table, tokens_by(table)).cast(pl.Float64)
    total = int(lengths.sum() or 0)
    number = budget.removesuffix(" rows")
    wanted = round(int(number) * total / table.height) if number != budget else int(number)
    if not 0 < wanted <= total:
        raise UsageError(f"budgets: {budget}: the pool has {total:,} answer tokens")
    return wanted


def select(arena: Arena, table: pl.DataFrame, method: str, tokens: int, seed: int) -> Selection:
    """The rows of an arm: within the budget to less than one row, where the method has so many."""
    start = time.process_time()
    by = tokens_by(table)
    if method in ("all", SFT_ON_CHOSEN):
        rows = table
    else:
        rows = table
        chain = _chain(arena, method, by)
        for at, (name, given) in enumerate(chain, 1):
            keep = _decided(name, given, rows, by, tokens if at == len(chain) else None, seed)
            rows = rows.filter(keep)
            if rows.is_empty():
                raise UsageError(f"methods: {method}: {name} keeps none of the pool's rows")
    held = int(scores(rows, by).cast(pl.Float64).sum() or 0)
    longest = int(scores(rows, by).cast(pl.Float64).max() or 0)  # type: ignore[arg-type]
    short = held < tokens - longest
    return Selection(rows, held, time.process_time() - start, short)


def _chain(arena: Arena, method: str, by: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """The selectors of a method; the last one takes the budget."""
    if method == REFERENCE:
        return [("random", {})]
    if method == "longest":
        return [("longest", {"by": by})]
    listed = arena.methods[method]
    return (
        listed if takes_budget(listed[-1][0]) else [*listed, ("random", {})]
    )  # a set of any size: drawn from


def _decided(
    name: str, given: Mapping[str, Any], table: pl.DataFrame, by: str, tokens: int | None, seed: int
) -> pl.Series:
    """Which rows a selector keeps; ``tokens`` is the budget, in place of its own."""
    known = options(find(_GROUP, name))
    own = {**({"seed": seed} if "seed" in known else {}), **given}
    if tokens is None:
        whole_set: pl.Series = build(_GROUP, name, own)(table)["keep"]
        return whole_set
    own = {key: value for key, value in own.items() if key not in ("rows", "fraction", "tokens")}
    if name in RANKED:
        whole = {"rows": 1} if name == "top_k" else {"fraction": 1.0}
        ranked = build(_GROUP, name, {**own, **whole})
        made = keep_best(
            table,
            ranked.by,
            scores(table, ranked.by),
            Budget(tokens=tokens, tokens_by=by),
            descending=ranked.descending,
            temperature=ranked.temperature,
            seed=ranked.seed,
        )
        return made["keep"]
    kept: pl.Series = build(_GROUP, name, {**own, "tokens": tokens, "tokens_by": by})(table)["keep"]
    return kept


def training_columns(table: pl.DataFrame) -> pl.DataFrame:
    """The columns of the rows themselves, which trainers read, without scores and vectors."""
    own = {*schema_of(kind_of(table)), "answer"}
    return table.select(name for name in table.columns if name in own)


def overlaps_of(groups: Mapping[str, Iterable[str]]) -> dict[str, dict[str, float]]:
    """Jaccard index of the ids of each two selections: shared rows over rows of either.

    >>> overlaps_of({"a": ["1", "2"], "b": ["2", "3"]})["a"]["b"]
    0.3333333333333333
    """
    sets = {name: set(ids) for name, ids in groups.items()}
    return {
        a: {b: len(one & two) / max(1, len(one | two)) for b, two in sets.items()}
        for a, one in sets.items()
    }


def scoring_seconds(arena: Arena, pool: Recipe, clock: Mapping[str, Any]) -> dict[str, float]:
    """CPU seconds of the scoring stages whose columns a method reads, directly or through others.

    ``clock`` is that of the pool's manifest, by the label of a stage.
    """
    made: dict[str, int] = {}
    stages = []
    for number, spec in enumerate(pool.stages, 1):
        part = component(spec, pool.seed)
        seconds = _seconds_of(clock, number)
        stages.append((seconds, tuple(getattr(part, "needs", ()))))
        made |= dict.fromkeys(getattr(part, "adds", {}), number - 1)

    def cost(columns: Iterable[str], seen: set[int]) -> float:
        total = 0.0
        for column in columns:
            at = next((made[one] for one in _bare(column) if one in made), None)
            if at is not None and at not in seen:
                seen.add(at)
                total += stages[at][0] + cost(stages[at][1], seen)
        return total

    found = {}
    for method, chain in arena.methods.items():
        needs: list[str] = []
        for name, given in chain:
            takes = options(find(_GROUP, name))
            least = {"rows": 1} if {"rows", "fraction"} <= set(takes) else {}
            least = least or ({"rows": 1} if name == "top_k" else {})
            own = {k: v for k, v in given.items() if k not in ("rows", "fraction", "tokens")}
            needs += getattr(build(_GROUP, name, {**own, **least} if least else given), "needs", ())
        found[method] = cost(needs, set())
    return found


def _bare(column: str) -> tuple[str, ...]:
    """Names under which a scorer may have added a column of a pair."""
    sides = [column.removeprefix(f"{side}_") for side in ("chosen", "rejected")]
    return (column, *sides, column.removesuffix("_gap"))


def _seconds_of(clock: Mapping[str, Any], number: int) -> float:
    label = next((one for one in clock if str(one).startswith(f"{number}:")), None)
    return 0.0 if label is None else float(clock[label]["cpu_seconds"])
