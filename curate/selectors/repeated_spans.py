"""Drop rows made mostly of passages that many other rows contain word for word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.comparing.shingles import TextShingles
from siftune.curate.core.ranges import Count, Positive, check_ranges
from siftune.curate.dedup.repeated_runs import Ints, repeated_spans
from siftune.curate.rows.chat import Part, text_of
from siftune.curate.rows.decisions import decide, details

__all__ = ["RepeatedSpans"]

_SHOWN = 200  # characters of a span that the detail shows


@dataclass(frozen=True)
class RepeatedSpans:
    """Repeated passages: boilerplate, templates, quotations, refusals.

    A passage is a run of at least ``words`` words (without case and punctuation) that occurs in at
    least ``min_rows`` other rows: every such run is found, at any position of a text. Passages that
    overlap or touch make one span, so that a whole span may occur in fewer rows. A row is dropped
    if its spans cover ``share`` or more of its characters, counted from the first word to the last.
    Lee et al. 2022, arXiv:2107.06499, who cut runs of 50 tokens that occur in one other text.

    Copies of a row cover all of it, and then all are dropped: run a deduplicator before. Every row
    with a span has ``{"share", "longest", "spans"}`` in its detail, kept or not: the share covered,
    the characters of the longest span, and the ``listed`` longest with the least number of other
    rows that any ``words`` words of it are in (``others``) and how they begin (``text``).

    Not for templates that rows share on purpose, such as a system prompt.

    Options:
        words: Smallest number of words of a repeated passage.
        share: Share of a row's characters in repeated passages, from which on it is dropped; above
            1 drops none.
        listed: Number of passages of a row that its detail lists.
        min_rows: Smallest number of other rows that have the passage, too.
        of: Text that is searched: the prompt, the response, or both.
    """

    words: Count = 30
    min_rows: Count = 5
    share: Positive = 0.5
    of: Part = "both"
    listed: Count = 3

    renamed: ClassVar = (("rows", "min_rows"), ("part", "of"))

    needs: ClassVar = ("content",)

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row."""
        texts = TextShingles.of(table, self.of, self.words, "word")
        spans, extents = repeated_spans(texts, self.min_rows)
        particulars = self._details(texts, spans, extents)
        rows = pl.DataFrame({"row": pl.int_range(table.height, dtype=pl.Int64, eager=True)})
        whole = rows.join(particulars, on="row", how="left", maintain_order="left")
        mostly = pl.col("share") >= self.share
        reason = (
            pl.when(mostly)
            .then(pl.lit("repeated_spans"))
            .when(mostly.is_not_null())
            .then(pl.lit("few_spans"))
            .otherwise(pl.lit("no_spans"))
        )
        whole = whole.select(reason=reason, detail="detail")
        return decide(whole["reason"] != "repeated_spans", whole["reason"], whole["detail"])

    def _details(self, texts: TextShingles, spans: pl.DataFrame, extents: Ints) -> pl.DataFrame:
        """``row``, ``share`` and ``detail`` of each row with a span."""
        longest = spans.sort("row", "length", "start", descending=[False, True, False])
        some = longest.group_by("row", maintain_order=True).head(self.listed)
        numbers, at = some["row"].unique(maintain_order=True), some["row"].rle_id()
        text = text_of(texts.table[numbers], texts.part)
        shown = text.gather(at).to_frame("text").hstack(some)
        listed = shown.select(
            "row",
            spans=pl.struct(
                "others",
                text=pl.col("text").str.slice("start", pl.min_horizontal("length", _SHOWN)),
            ),
        )
        whole = spans.group_by("row", maintain_order=True).agg(
            pl.col("length").sum().alias("covered"), pl.col("length").max().alias("longest")
        )
        extent = pl.Series("extent", extents)
        joined = whole.join(
            listed.group_by("row", maintain_order=True).agg("spans"),
            on="row",
            maintain_order="left",
        ).with_columns(share=pl.col("covered") / extent.gather(whole["row"]))
        return joined.select(
            "row", "share", detail=details(joined.select("share", "longest", "spans"))
        )
