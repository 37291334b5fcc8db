"""Join the rows of several steps into one table, as a hybrid preference model is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import KINDS, kind_of
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import whole_folder
from siftune.finetune.data import training_rows

__all__ = ["Concat"]

_COMMAND: Final = "pipelines concat"


@dataclass(frozen=True)
class Concat:
    """The rows that are read, then those of ``also``: all of one kind.

    An id that is there twice gets the number of its table behind it. ``also`` may name rows that
    the recipe leaves out (``pairs: null``): then there are none of them.

    Options:
        also: Further rows, such as ``[step:pairs]``: the label of a step, rows or pairs.
    """

    also: tuple[str | None, ...]

    reads: ClassVar = KINDS
    makes: ClassVar = None  # the kind that it reads

    def __call__(self, rows: Path, out: Path) -> Mapping[str, Any]:
        """Write ``kept.parquet`` and ``concat.json`` to the folder ``out``."""
        first = training_rows.load(rows, KINDS)
        tables = [first]
        for path in filter(None, self.also):
            table = training_rows.load(path, KINDS)
            if kind_of(table) != kind_of(first):
                raise UsageError(
                    f"also: expected {kind_of(first)} rows, `{path}` has {kind_of(table)} rows"
                )
            tables.append(table)
        joined = pl.concat(tables, how="diagonal_relaxed")
        joined = joined.with_columns(id=pl.Series(_unique(tables), dtype=pl.String))
        facts = {"rows": [table.height for table in tables]}
        with whole_folder(out, _COMMAND) as part:
            joined.write_parquet(part / "kept.parquet")
            write_json(part / "concat.json", facts)
        return facts


def _unique(tables: list[pl.DataFrame]) -> list[str]:
    counts = Counter(key for table in tables for key in table["id"])
    return [
        key if counts[key] == 1 else f"{key}#{number}"
        for number, table in enumerate(tables, 1)
        for key in table["id"]
    ]
