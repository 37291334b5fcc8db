"""Drop rows whose content, or normalised text, is equal to that of a better row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import polars as pl

from siftune.curate.comparing.equality import Comparable, TextColumn, equal_rows, turns_of
from siftune.curate.core.ranges import ColumnExpression
from siftune.curate.core.schema import content_columns, kind_of
from siftune.curate.dedup.cover_rule import best_first, duplicate_decisions, ranking_columns
from siftune.curate.dedup.reference_rows import check_against, naming_reference, reference_rows
from siftune.curate.files.source_spec import SourceOption
from siftune.curate.rows.chat import Part, text_of
from siftune.curate.rows.columns import Reader, sortable
from siftune.curate.rows.expressions import reads_of

__all__ = ["ExactDedup"]

Normalise: TypeAlias = Literal["none", "whitespace", "text", "words"]


@dataclass(frozen=True)
class ExactDedup:
    """Equal content, or equal text: the best row is kept, the others are dropped.

    ``of`` is what is compared. ``content`` is all content columns of a row, with roles, names and
    labels, compared by digest: no text is read. (Two different contents among n share a 128-bit
    digest with a chance of n² / 2^129, 1e-27 at a million.) ``prompt``, ``response`` and ``both``
    are texts, turn by turn; a row without the text is kept as ``not_comparable``.

    ``normalise``: ``none`` compares byte for byte; ``whitespace`` joins the turns by a blank line,
    strips the ends and replaces each run of whitespace by one blank; ``text`` also applies Unicode
    NFKC and lower-cases; ``words`` also leaves out punctuation (but a point or comma between two
    digits, and signs such as ``+`` and ``=``); of ``content``, the text of ``both`` is what is
    normalised. Of equal rows the one of the source preferred most survives, then the best score
    ``by``, then that of the smaller digest. A row equal to one of ``against`` is dropped as
    ``exact_duplicate_of_reference``.

    Not for copies with typos or edits: take minhash_dedup.

    Options:
        of: Content that is compared: all of it with roles and labels (content), or the text of the
            prompt, the response or both.
        normalise: What is ignored: nothing (none), whitespace, or also case and Unicode forms
            (text), or punctuation, too (words).
        by: Column with a score by which, of duplicates, the best row survives, or an expression of
            columns; none takes the smaller digest.
        descending: Take larger values of ``by`` as better; false takes smaller ones.
        prefer_source: Sources whose rows survive those of all others, the first source first.
        against: Reference rows, a file, a run folder or {path, format, map}: rows that duplicate
            one of them are dropped.
    """

    of: Literal["content"] | Part = "content"
    normalise: Normalise = "none"
    by: ColumnExpression | None = None
    descending: bool = True
    prefer_source: tuple[str, ...] = ()
    against: SourceOption | None = None

    renamed: ClassVar = (("rank_by", "by"),)

    def __post_init__(self) -> None:
        check_against(self.against)

    @property
    def needs(self) -> tuple[str, ...]:
        """The content columns where texts are compared, and the column that ranks."""
        read = () if self._by_digest else ("content",)
        return (*read, *ranking_columns(self.by, self.prefer_source))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The column that ranks."""
        return reads_of(self.by, sortable)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row; a dropped one's ``detail`` is ``{"similarity": 1.0, "survivor"}``.

        Where the survivor is a reference row, ``reference`` is the path of ``against``.
        """
        reference = reference_rows(self.against)
        height, rows = table.height, self._compared(table, reference)
        found, group = equal_rows(rows)
        own = np.flatnonzero(found < height)
        best = np.concatenate(
            [np.flatnonzero(found >= height), own[self._order(table, found[own])]]
        )
        survivor = np.zeros(len(found), np.int64)
        survivor[group[best[::-1]]] = found[best[::-1]]  # of a group, the first of these is last
        survivor = survivor[group]
        copies = (found != survivor) & (found < height)
        decisions = duplicate_decisions(
            table["id"],
            found[copies],
            survivor[copies],
            np.ones(copies.sum()),
            "exact_duplicate",
            (np.flatnonzero(~rows.mask()[:height]), "not_comparable"),
            reference["id"],
        )
        return naming_reference(decisions, self.against)

    @property
    def _by_digest(self) -> bool:
        return self.of == "content" and self.normalise == "none"

    def _compared(self, table: pl.DataFrame, reference: pl.DataFrame) -> Comparable:
        """The rows of the table, followed by those of the reference."""
        if self._by_digest:
            return TextColumn(_both(table["digest"], reference["digest"]))
        of: Part = "both" if self.of == "content" else self.of
        if self.normalise == "none" and _alike(table, reference):
            names = ["kind", *content_columns(kind_of(table))]
            some = table.select(names)
            turns = turns_of(some.vstack(reference.select(names)) if len(reference) else some, of)
            if turns is not None:
                return turns
        texts = (_normalised(text_of(each, of), self.normalise) for each in (table, reference))
        return TextColumn(_both(*texts))

    def _order(self, table: pl.DataFrame, rows: np.ndarray) -> np.ndarray:
        """Positions in ``rows`` from best to worst."""
        prefer = self.prefer_source
        return best_first(table, rows, self.by, prefer, descending=self.descending)


def _both(column: pl.Series, other: pl.Series) -> pl.Series:
    return column.append(other.rename(column.name)) if len(other) else column


def _alike(table: pl.DataFrame, reference: pl.DataFrame) -> bool:
    return not len(reference) or kind_of(table) == kind_of(reference)


def _normalised(text: pl.Series, how: Normalise) -> pl.Series:
    if how in ("text", "words"):
        text = text.str.normalize("NFKC").str.to_lowercase()
    if how == "words":
        text = text.str.replace_all("['’]", "").str.replace_all(r"(\d)[.,](\d)", "${1}_$2")
        text = text.str.replace_all(r"[^\p{L}\p{M}\p{N}\p{S}_]+", " ").str.strip_chars()
        return text.to_frame().select(pl.when(pl.first() != "").then(pl.first())).to_series()
    if how != "none":
        text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    return text
