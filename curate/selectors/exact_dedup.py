"""Drop rows whose content, or normalised text, is equal to that of a better row."""

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
from curate.core.held_out import held_out

__all__ = ["ExactDedup"]

Normalise: TypeAlias = Literal["none", "whitespace", "text"]


@dataclass(frozen=True)
class ExactDedup:
    """Equal content, or equal text: the best row stays, the others go.

    ``part`` is what is compared. ``content`` is all that a row says, with roles, names and labels,
    as its digest tells: no text is read. (Two different contents among n have one 128-bit digest
    with a chance of n² / 2^129, 1e-27 at a million.) ``prompt``, ``response`` and ``both`` are
    texts; a row without is no duplicate of anything: kept as ``not_comparable``.

    ``normalise``: ``none`` compares byte for byte; ``whitespace`` strips the ends and takes each
    run of whitespace for one blank; ``text`` also applies Unicode NFKC and lower-cases; of
    ``content``, the text of ``both`` is what is normalised. ``by`` is a score column whose best row
    survives (``descending``: high is good), then the smaller digest. A row equal to one of
    ``against`` (a rows table, a run folder, a raw file) goes as ``exact_duplicate_of_reference``.
    """

    part: Literal["content"] | Part = "content"
    normalise: Normalise = "none"
    by: str | None = None
    descending: bool = True
    against: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The content where texts are compared, and the column that ranks."""
        read = () if self._by_digest else ("content",)
        return (*read, *([base_column(self.by)] if self.by else []))

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row; a dropped one's ``detail`` is ``{"similarity": 1.0, "survivor"}``."""
        reference = held_out(self.against)
        height, text = table.height, self._compared(table)
        both = pl.concat([text, self._compared(reference)]) if reference.height else text
        rows = _maybe_equal(both)
        own = rows[rows < height]
        order = np.concatenate([rows[rows >= height], own[self._order(table, own)]])
        equal = both[order].to_frame("text").with_row_index("at")
        survivor = order[equal.select(pl.col("at").first().over("text")).to_series().to_numpy()]
        copies = (order != survivor) & (order < height)
        return verdicts(
            table["id"],
            order[copies],
            survivor[copies],
            np.ones(copies.sum()),
            "exact_duplicate",
            (np.flatnonzero(text.is_null()), "not_comparable"),
            reference["id"],
        )

    @property
    def _by_digest(self) -> bool:
        return self.part == "content" and self.normalise == "none"

    def _compared(self, table: pl.DataFrame) -> pl.Series:
        """What is equal for two duplicates, null where there is nothing to compare."""
        if self._by_digest:
            return table["digest"].alias("text")
        part: Part = "both" if self.part == "content" else self.part
        return _normalised(text_of(table, part), self.normalise).alias("text")

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
