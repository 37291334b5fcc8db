"""Rows of the pool that occur in a held-out set: equal prompts, and shared n-grams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.rows.conversation_views import score
from siftune.curate.text.answer_match import plain
from siftune.finetune.data.training_rows import to_prompts

__all__ = ["LEAK", "Leaks", "find_leaks", "refuse_leaks"]

LEAK: Final = 0.45
"""Share of an item's words in a row from which it is a leak (scorer `contamination`)."""
_SHOWN: Final = 5


@dataclass(frozen=True)
class Leaks:
    """Ids of the pool's rows that overlap with a held-out set, by how they were found."""

    exact: tuple[str, ...]
    ngram: tuple[str, ...]

    @property
    def ids(self) -> set[str]:
        """All of them."""
        return {*self.exact, *self.ngram}

    def as_dict(self) -> dict[str, Any]:
        """Counts and ids, for the manifest."""
        return {"exact": list(self.exact), "ngram": list(self.ngram), "rows": len(self.ids)}


def find_leaks(
    pool: pl.DataFrame, heldout: Mapping[str, tuple[Path, pl.DataFrame]]
) -> dict[str, Leaks]:
    """The overlaps of ``pool`` with each held-out set, of which a file and a table are given.

    Exact is a prompt whose normalised text is that of a held-out row. By n-grams a row is found
    that has a share of `LEAK` or more of the words of a held-out prompt, or of its answer if that
    is long, in runs of five words (scorer `contamination`, both sides of a pair).
    """
    from siftune.curate.scorers.contamination import Contamination

    prompts = _prompts(pool)
    found = {}
    for name, (path, table) in heldout.items():
        known = set(_prompts(table))
        exact = [key for key, text in zip(pool["id"], prompts, strict=True) if text in known]
        scored = score(Contamination(against=str(path)), pool)
        shares = [column for column in scored.columns if column.endswith("contamination_overlap")]
        over = scored.filter(pl.max_horizontal(shares) >= LEAK)["id"].to_list()
        found[name] = Leaks(tuple(exact), tuple(over))
    return found


def _prompts(table: pl.DataFrame) -> list[str]:
    rows = to_prompts(table)
    return [plain("\n".join(str(turn["content"]) for turn in row["prompt"])) for row in rows]


def refuse_leaks(found: Mapping[str, Leaks]) -> None:
    """Stop where any row of the pool overlaps with a held-out set.

    Raises:
        DataError: one does; the text has numbers, ids and what to do.
    """
    parts = [
        f"{len(one.ids)} rows with {name} ({', '.join(sorted(one.ids)[:_SHOWN])})"
        for name, one in found.items()
        if one.ids
    ]
    if parts:
        raise DataError(
            f"the pool overlaps with held-out sets: {'; '.join(parts)}: set overlap: drop to leave "
            "these rows out of the pool, or overlap: allow to train on them"
        )
