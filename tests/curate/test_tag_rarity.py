"""Rarity of tags by hand."""

from __future__ import annotations

from math import log

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.scorers.tag_rarity import TagRarity

NO_PATHS = ("tags",)


def test_rarity_by_hand() -> None:
    tags = [["a", "b", "a"], ["a"], ["a", "c"], [], None, ["a", "b"]]
    found = TagRarity()(pl.DataFrame({"tags": pl.Series(tags, dtype=pl.List(pl.String))}))
    b, c = log(4 / 2), log(4 / 1)  # of four tagged rows two have b and one has c, all have a
    assert found["tag_rarity"].to_list() == pytest.approx([b / 2, 0, c / 2, None, None, b / 2])
    assert found["tag_rarity_largest"].to_list() == pytest.approx([b, 0, c, None, None, b])
    assert found["tag_rarity_count"].to_list() == [2, 1, 2, 0, None, 2]


def test_a_null_is_no_tag() -> None:
    tags = pl.Series([[None], ["a", None], ["b"]], dtype=pl.List(pl.String))
    found = TagRarity()(pl.DataFrame({"tags": tags}))
    assert found["tag_rarity"].to_list() == [None, log(2), log(2)]
    assert found["tag_rarity_count"].to_list() == [0, 1, 1]


def test_a_column_without_tags_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a list of tags a row"):
        TagRarity(tags="n")(pl.DataFrame({"n": [1]}))
