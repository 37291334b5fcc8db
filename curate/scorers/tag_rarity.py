"""Tag rarity: how rare the tags of a row are among all rows, and how many it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.columns import Reader, base_column, values

__all__ = ["TagRarity"]


@dataclass(frozen=True)
class TagRarity:
    """Inverse document frequencies of a row's tags: ``log(n / rows with the tag)``, n tagged rows.

    * ``tag_rarity``: the mean over the row's different tags (the weight of a term in Spärck Jones
      1972), 0 where all rows have them
    * ``tag_rarity_largest``: that of its rarest tag
    * ``tag_rarity_count``: the number of its different tags, the complexity of arXiv:2308.07074

    The scores of a row depend on the other rows of the table. A row without a list has null; of an
    empty list the count is 0, the others are null.

    Not for tags with synonyms or spelling variants: each variant is rare.

    Options:
        tags: Column with a list of tags for each row, such as the scorer `tags` adds.
    """

    tags: str = "tags"

    whole: ClassVar = True
    content: ClassVar = ("tags",)
    data: ClassVar = "rows of any kind"
    adds: ClassVar = {
        "tag_rarity": pl.Float64,
        "tag_rarity_largest": pl.Float64,
        "tag_rarity_count": pl.UInt32,
    }

    @property
    def needs(self) -> tuple[str, ...]:
        """The tags."""
        return (base_column(self.tags),)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The tags."""
        return ((self.tags, _tag_lists),)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Weigh the tags of all rows."""
        tags = _tag_lists(table, self.tags).list.drop_nulls().list.unique().alias("tag").to_frame()
        rows = tags.with_row_index("row")
        flat = rows.filter(pl.col("tag").list.len() > 0).explode("tag")
        tagged = flat["row"].n_unique()
        rarity = (tagged / pl.len().over("tag")).log()
        found = (
            flat.with_columns(rarity=rarity)
            .group_by("row")
            .agg(
                tag_rarity=pl.col("rarity").sort().mean(),  # in an order that rows do not decide
                tag_rarity_largest=pl.col("rarity").max(),
            )
        )
        count = pl.col("tag").list.len().alias("tag_rarity_count")
        joined = rows.with_columns(count).join(found, on="row", how="left", maintain_order="left")
        return joined.select(*self.adds).cast(pl.Schema(self.adds))


def _tag_lists(table: pl.DataFrame, name: str) -> pl.Series:
    tags = values(table, name)
    if tags.dtype != pl.List(pl.String):
        raise UsageError(f"{name!r}: expected a list of tags a row, the column is {tags.dtype}")
    return tags
