"""Rows of a frame, dataset or list of dicts, and one step on anything that `read` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from siftune.curate.io.plain_frames import frame_of
from siftune.rows import Rows, read, taken

__all__ = [
    "dedup",
    "from_datasets",
    "from_polars",
    "from_records",
    "judge",
    "score",
    "select",
]


def from_polars(frame: pl.DataFrame | pl.LazyFrame, **how: Any) -> Rows:
    """The rows of a polars frame; ``how`` are the other arguments of `read`.

    Every row gets an id, such as ``rows:1``. An ``id`` of the frame is a field like others: it is
    kept in ``extra``, which is JSON, and read by ``pl.col("extra").str.json_path_match("$.id")``.
    """
    return read(frame_of(frame), **how)


def from_datasets(dataset: Any, **how: Any) -> Rows:
    """The rows of a `datasets.Dataset`; ``how`` are the other arguments of `read`."""
    return read(frame_of(dataset), **how)


def from_records(records: Sequence[Mapping[str, Any]], **how: Any) -> Rows:
    """The rows of a list of dicts, a record each; ``how`` are the other arguments of `read`."""
    return read([dict(record) for record in records], **how)


def score(rows: Any, scorer: str | Callable[..., Any], /, **options: Any) -> Rows:
    """`Rows.score` of anything that `read` takes."""
    return taken(rows).score(scorer, **options)


def judge(rows: Any, judge: Any, *, task: Any = None, **options: Any) -> Rows:
    """`Rows.judge` of anything that `read` takes."""
    return taken(rows).judge(judge, task=task, **options)


def dedup(rows: Any, selector: str = "minhash", /, **options: Any) -> Rows:
    """`Rows.dedup` of anything that `read` takes."""
    return taken(rows).dedup(selector, **options)


def select(rows: Any, selector: str | Callable[..., Any], /, **options: Any) -> Rows:
    """`Rows.select` of anything that `read` takes."""
    return taken(rows).select(selector, **options)
