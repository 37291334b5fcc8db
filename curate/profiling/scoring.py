"""Columns of scorers for the rows of a profile, samples of its rows, and excerpts without PII."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build, closest
from siftune.curate.private_data.personal_data import KINDS, find_personal_data
from siftune.curate.rows.chat import contents, part_of
from siftune.curate.rows.conversation_views import Sides, score
from siftune.curate.rows.decisions import draws
from siftune.curate.rows.table import ROW, Table
from siftune.curate.runners.redact import without_spans

__all__ = [
    "PARTS",
    "Asked",
    "Count",
    "NotLookedError",
    "answers_of",
    "excerpts",
    "prompt_texts",
    "prompts_scored",
    "sample_of",
    "sample_of_prompts",
    "scored",
    "shown",
    "summary",
]

Count: TypeAlias = Callable[[int], None]
"""Receives the number of rows that are done."""

PARTS: Final = (
    *("sources", "conversations", "tasks", "lengths", "languages", "duplicates", "leaks"),
    *("personal_data", "flags", "code", "pairs", "quality", "toxicity", "clusters"),
)
"""What a profile looks at, in this order."""

_READ: Final = 1_000  # characters of a text of which an excerpt is made
_EXCERPT: Final = 200
_QUANTILES: Final = {"p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
_WITH_PROMPT: Final = ("preference", "unpaired", "ranked")


class NotLookedError(Exception):
    """A part of a profile that is left out; the text is the reason."""


@dataclass(frozen=True)
class Asked:
    """Options of a profile.

    ``sample`` is the largest number of rows (drawn with ``seed``) that are embedded, judged by
    models and searched for label noise; ``clusters`` None takes the square root of half of them,
    at most 20, and 0 makes none. ``model`` is the embedding model of these. With ``parts`` only
    these are looked at.
    """

    against: tuple[Any, ...] = ()
    quality: str | None = None
    toxicity: str | None = None
    label: str | None = None
    tokenizer: str | None = None
    sample: int = 5_000
    clusters: int | None = None
    model: str | None = None
    seed: int = 0
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("sample", 1), ("clusters", 0), ("seed", 0)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not (whole or (name == "clusters" and value is None)):
                raise UsageError(
                    f"{name}: expected a whole number of at least {least}, got {value}"
                )
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(f"parts: {part!r} is no part; {closest(part, PARTS)}")


def scored(
    table: Table,
    name: str,
    options: Mapping[str, Any],
    count: Count,
    columns: Sequence[str] | None = None,
    sides: Sides = "both",
) -> dict[str, pl.DataFrame]:
    """Columns of a scorer for the texts of all rows, by side; see `answers_of`.

    With ``columns`` only these are held: others may be as large as the rows.
    """
    scorer = build("curate.scorers", name, options)
    whole = getattr(scorer, "whole", False)
    parts: list[dict[str, pl.DataFrame]] = []
    done = 0
    for batch in [table.gather(scorer.needs)] if whole else table.batches(scorer.needs):
        found = answers_of(score(scorer, batch.drop(ROW), sides).drop("id"), table.kind, scorer)
        parts.append({side: one.select(columns or pl.all()) for side, one in found.items()})
        done += batch.height
        count(done)
    return {side: pl.concat([part[side] for part in parts]) for side in (parts[0] if parts else ())}


def answers_of(scores: pl.DataFrame, kind: str, scorer: Any) -> dict[str, pl.DataFrame]:
    """Score columns by side, a row for each text.

    Sides are ``chosen`` and ``rejected`` of pairs, ``text`` of plain texts, else ``answer``.
    """
    names = list(scorer.adds)
    if "messages" not in scorer.needs:
        return {"answer": scores}
    if kind == "preference":
        return {
            side: scores.select(pl.col(f"{side}_{name}").alias(name) for name in names)
            for side in ("chosen", "rejected")
            if f"{side}_{names[0]}" in scores.columns
        }
    if kind == "ranked":
        return {"answer": scores.select(names).explode(names, empty_as_null=False)}
    return {"text" if kind == "text" else "answer": scores.select(names)}


def prompts_scored(
    table: Table, name: str, options: Mapping[str, Any], count: Count
) -> pl.DataFrame:
    """Columns of a scorer for the prompt of each row, one text a row."""
    scorer = build("curate.scorers", name, {**options, "of": "prompt"})
    parts = []
    for batch in _prompt_batches(table):
        parts.append(scorer(batch))
        count(sum(map(len, parts)))
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict(scorer.adds))


def _prompt_batches(table: Table) -> Iterator[pl.DataFrame]:
    """Conversations whose prompt is that of the rows."""
    name = "prompt" if table.kind in _WITH_PROMPT else "messages"
    for batch in table.batches([name]):
        yield batch.select(messages=name)


def prompt_texts(table: Table) -> pl.Series:
    """The prompt of each row as one text; of a row of plain text the text."""
    if table.kind in _WITH_PROMPT:
        return contents(table.gather(["prompt"])["prompt"])
    messages = table.gather(["messages"])["messages"]
    if table.kind == "text":
        return contents(messages)
    return part_of(messages, "prompt")


def sample_of(table: Table, size: int, seed: int) -> Table:
    """At most ``size`` rows, drawn by their content and ``seed``, in their order."""
    if len(table.alive) <= size:
        return table
    drawn = draws(table.gather([]), seed).to_numpy()
    return _only(table, np.argsort(drawn, kind="stable")[:size])


def sample_of_prompts(table: Table, size: int, seed: int) -> Table:
    """Rows of whole prompts, in a drawn order, until there are ``size``: labels compare within."""
    if len(table.alive) <= size:
        return table
    prompt = prompt_texts(table).fill_null("")
    distinct = prompt.unique().sort()
    drawn = draws(pl.DataFrame({"id": distinct, "digest": distinct}), seed)
    rank = pl.DataFrame({"prompt": distinct, "at": drawn})
    order = prompt.to_frame("prompt").join(rank, on="prompt", how="left", maintain_order="left")
    return _only(table, np.argsort(order["at"].to_numpy(), kind="stable")[:size])


def _only(table: Table, rows: np.ndarray) -> Table:
    mask = np.zeros(len(table.alive), bool)
    mask[rows] = True
    return table.keep(mask)


def shown(text: str) -> str:
    """The beginning of a text on one line."""
    plain = " ".join(text.split())
    return plain if len(plain) <= _EXCERPT else f"{plain[:_EXCERPT].rstrip()}…"


def excerpts(texts: Sequence[str | None]) -> list[str]:
    """Beginnings of texts in which personal data and secrets are replaced by their kinds."""
    some = pl.Series([(text or "")[:_READ] for text in texts], dtype=pl.String)
    spans: dict[int, list[tuple[int, int, str]]] = {}
    for at, start, end, kind in find_personal_data(some, KINDS).iter_rows():
        spans.setdefault(at, []).append((start, end, kind))
    return [without_spans(text, spans.get(at, ())) for at, text in enumerate(some)]


def summary(values: pl.Series) -> dict[str, float] | None:
    """Mean, extremes and quantiles of numbers; None where there are none."""
    known = values.drop_nulls().cast(pl.Float64)
    known = known.filter(known.is_finite())
    if known.is_empty():
        return None
    figures = {name: known.quantile(share, "nearest") for name, share in _QUANTILES.items()}
    ends = {"mean": known.mean(), "min": known.min(), **figures, "max": known.max()}
    return {"texts": len(known), **{name: round(float(one), 4) for name, one in ends.items()}}  # type: ignore[arg-type]
