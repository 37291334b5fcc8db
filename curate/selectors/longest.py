"""Keep the rows with the longest responses: the baseline every scorer has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from siftune.curate.core.ranges import ColumnExpression, Positive, Seed, check_ranges
from siftune.curate.rows.budget import Budget, keep_best
from siftune.curate.rows.chat import Part, text_of
from siftune.curate.rows.columns import Reader
from siftune.curate.rows.expressions import needs_of, reads_of, scores
from siftune.curate.text.words import count_words

__all__ = ["Longest"]


@dataclass(frozen=True)
class Longest(Budget):
    """Keeps the rows whose text is longest; Zhao et al., "Long Is More", arXiv:2402.04833.

    The paper counts tokens of the response: give ``by: length_tokens`` after a ``length`` stage
    with a tokenizer. Without ``by`` the text itself is measured. A row without the text (no
    assistant turn) is ``not_scored``.

    Not for judging a method by judges that prefer length; it is a baseline.

    Options:
        by: Column with the length of each row, or an expression of columns; none counts its text.
        unit: Unit that the text is counted in where ``by`` is not given.
        temperature: Draw rows in proportion to exp(length / temperature), lengths in standard
            deviations, in place of taking the longest.
        seed: Seed of the draw, with temperature.
        of: Text that is counted: the response (of a pair, both answers), the prompt, or both.
    """

    by: ColumnExpression | None = None
    unit: Literal["characters", "words"] = "characters"
    of: Part = "response"
    temperature: Positive | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column of lengths, or the content."""
        return (*super().needs, *(("content",) if self.by is None else needs_of(self.by)))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The columns of lengths and of tokens, as numbers."""
        return (*super().reads, *reads_of(self.by))

    def _select(self, table: pl.DataFrame) -> pl.DataFrame:
        """Rank every row by its length."""
        if self.by is not None:
            return self._kept(table, self.by, scores(table, self.by))
        text = text_of(table, self.of).alias("text").to_frame()
        count = {"characters": pl.col("text").str.len_chars(), "words": count_words(pl.col("text"))}
        lengths = text.select(count[self.unit]).to_series()
        return self._kept(table, f"{self.of} {self.unit}", lengths)

    def _kept(self, table: pl.DataFrame, by: str, lengths: pl.Series) -> pl.DataFrame:
        return keep_best(table, by, lengths, self, temperature=self.temperature, seed=self.seed)
