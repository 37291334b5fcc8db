"""Rows of one source are kept."""

import polars as pl

from siftune.curate.core.registry import build

OPTIONS = [{"name": "file1"}]
NO_PATHS = ("name",)


def test_other_sources_are_dropped():
    decided = build("curate.selectors", "source_is", OPTIONS[0])(
        pl.DataFrame({"source": ["file1", "b"]})
    )
    assert decided["reason"].to_list() == ["passed", "other"]
