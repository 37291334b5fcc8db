"""Drop rows whose text is, after optional normalising, equal to that of a better row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import polars as pl

from curate.core.chat import Part
from curate.core.columns import base_column, values
from curate.core.content import text_of
from curate.core.decisions import tie_order
from curate.core.duplicates import verdicts

__all__ = ["ExactDedup"]

Normalise: TypeAlias = Literal["none", "whitespace", "text"]


@dataclass(frozen=True)
class ExactDedup:
    """Equal text in ``part`` (prompt, response or both): the best row stays, the others go.

    ``normalise``: ``none`` compares byte for byte; ``whitespace`` strips the ends and takes each
    run of whitespace for one blank; ``text`` also applies Unicode NFKC and lower-cases. ``by`` is a
    score column whose best row survives (``descending``: high is good), then the smaller digest. A
    row without text is no duplicate of anything: kept as ``not_comparable``.
    """

    part: Part = "both"
    normalise: Normalise = "none"
    by: str | None = None
    descending: bool = True

    @property
    def needs(self) -> tuple[str, ...]:
        """The content, and the column that ranks."""
        return ("content", *([base_column(self.by)] if self.by else []))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row; a dropped one's ``detail`` is ``{"similarity": 1.0, "survivor"}``."""
        text = _normalised(text_of(table, self.part), self.normalise)
        rows = _maybe_equal(text)
        order = rows[self._order(table, rows)]
        equal = text[order].to_frame("text").with_row_index("at")
        survivor = order[equal.select(pl.col("at").first().over("text")).to_series().to_numpy()]
        copies = order != survivor
        return verdicts(
            table["id"],
            order[copies],
            survivor[copies],
            np.ones(copies.sum()),
            "exact_duplicate",
            (text.is_null().to_numpy(), "not_comparable"),
        )

    def _order(self, table: pl.DataFrame, rows: np.ndarray) -> np.ndarray:
        """Places in ``rows`` from best to worst; the text is not carried along."""
        ranking = [base_column(self.by)] if self.by else []
        some = table.select(list(dict.fromkeys(["id", "digest", *ranking])))[rows]
        by = [values(some, self.by)] if self.by else []
        return tie_order(some, *by, descending=self.descending)


def _maybe_equal(text: pl.Series) -> np.ndarray:
    """Rows whose 64-bit text hash some other row has: all equal texts, and hardly any other."""
    hashed = pl.col("text").hash()
    maybe = text.to_frame("text").select(
        pl.arg_where(hashed.is_duplicated() & pl.col("text").is_not_null())
    )
    return maybe.to_series().to_numpy()


def _normalised(text: pl.Series, how: Normalise) -> pl.Series:
    if how == "text":
        text = text.str.normalize("NFKC").str.to_lowercase()
    if how != "none":
        text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    return text
