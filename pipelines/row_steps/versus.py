"""Answers of two models to the same prompts, side by side, to be judged against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import Kind, schema_of
from siftune.curate.files.atomic import write_json
from siftune.curate.files.outputs import whole_folder
from siftune.curate.rows.convert import content_digest
from siftune.finetune.data import training_rows
from siftune.finetune.tools.sample import SAMPLED_FROM, SAMPLED_LINEAGE

__all__ = ["Versus"]

_COMMAND: Final = "pipelines versus"


@dataclass(frozen=True)
class Versus:
    """Of each prompt the first answer of two steps: that of ``data``, then that of ``against``.

    A step ``judge`` on these rows measures the win rate of the first model; and the judge's
    self-preference, where it is one of the two models and a ``second`` judge finds pairs of equal
    quality. Prompts that only one of both answered are left out, and counted.

    Options:
        against: Answers of the other model, as ``step:LABEL`` of a step ``sample``.
    """

    against: str

    reads: ClassVar[tuple[Kind, ...]] = ("ranked",)
    makes: ClassVar = "ranked"

    def __call__(self, rows: Path, out: Path) -> Mapping[str, Any]:
        """Write ``kept.parquet`` and ``versus.json`` to the folder ``out``.

        Raises:
            UsageError: both have no prompt in common.
        """
        first, second = (training_rows.load(path, self.reads) for path in (rows, self.against))
        theirs = dict(
            zip(training_rows.prompt_keys(second), second.iter_rows(named=True), strict=True)
        )
        kept = []
        keys = training_rows.prompt_keys(first)
        for key, row in zip(keys, first.iter_rows(named=True), strict=True):
            if key in theirs:
                kept.append(_side_by_side(row, theirs[key]))
        if not kept:
            raise UsageError(f"{rows}: no prompt was answered by both, see `against`")
        facts = {"rows": len(kept), "left_out": first.height + second.height - 2 * len(kept)}
        with whole_folder(out, _COMMAND) as part:
            pl.DataFrame(kept, schema_of("ranked")).write_parquet(part / "kept.parquet")
            write_json(part / "versus.json", facts)
        return facts


def _side_by_side(row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    extra = orjson.loads(row["extra"] or "{}")
    both = [orjson.loads(one["extra"] or "{}") for one in (row, other)]
    makers = {name: [one.get(name) for one in both] for name in (SAMPLED_FROM, SAMPLED_LINEAGE)}
    made = {
        **{name: row[name] for name in ("id", "source", "row", "prompt")},
        "kind": "ranked",
        "extra": orjson.dumps({**extra, **makers}, option=orjson.OPT_SORT_KEYS).decode(),
        "completions": [row["completions"][0], other["completions"][0]],
        "scores": None,
        "attributes": None,
    }
    made["digest"] = content_digest("ranked", made)
    return made
