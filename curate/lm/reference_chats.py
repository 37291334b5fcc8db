"""Conversations of a reference that rows are scored against: anchors, other instructions."""

from __future__ import annotations

import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.dedup.reference_rows import reference_rows
from siftune.curate.files.source_spec import SourceOption, SourceSpec
from siftune.curate.rows.chat import last_turn

__all__ = ["reference_chats"]


def reference_chats(against: SourceOption, scorer: str) -> pl.DataFrame:
    """The rows of a reference that have a prompt and an answer, sorted by digest and id.

    Raises:
        DataError: it cannot be read, has no conversations, or none with prompt and answer.
    """
    table, path = reference_rows(against), SourceSpec.of(against, "against").path
    if "messages" not in table.columns:
        raise DataError(
            f"{scorer}: against: {path}: expected conversations, found {table['kind'][0]}"
        )
    prompts, answers = last_turn(table["messages"])
    found = table.filter(prompts.is_not_null() & (answers.str.len_bytes() > 0))
    if found.is_empty():
        raise DataError(f"{scorer}: against: {path}: no row has a prompt and an answer")
    return found.sort("digest", "id")
