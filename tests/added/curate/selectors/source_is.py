"""Keep the rows of one source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.rows.decisions import decide

__all__ = ["SourceIs"]


@dataclass(frozen=True)
class SourceIs:
    """Keeps the rows whose source has this name.

    Options:
        name: Name of the source to keep.
    """

    name: str

    needs: ClassVar = ("source",)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare the source of every row."""
        keep = table["source"] == self.name
        frame = keep.to_frame("keep")
        reason = frame.select(pl.when("keep").then(pl.lit("passed")).otherwise(pl.lit("other")))
        return decide(keep, reason.to_series())
