"""Planted and found faults: precision and recall of a curation run, by kind and by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

__all__ = ["flips_found", "planted_vs_found", "stages_found"]

_COPIES: Final = ("exact_duplicate", "near_duplicate", "paraphrase")
_BUDGETS: Final = ("k_center", "top_k", "top_fraction", "quota", "random", "longest", "mmr")
"""Selectors that spend a budget: what they leave out is not called faulty."""


def planted_vs_found(truth: Path, ledger: Path) -> pl.DataFrame:
    """One line a planted kind: ``kind, planted, found, recall, by``.

    A row is found when a stage that spends no budget dropped it. A copy is also found when its
    original went in its place, as a duplicate. ``by`` names the stages that dropped rows of the
    kind, with counts. The last line, ``good``, counts good rows that were dropped though no copy
    of them stayed: its ``recall`` is the rate of false alarms.
    """
    counted = (
        _joined(truth, ledger)
        .group_by("kind")
        .agg(
            planted=pl.len(),
            found=pl.col("found").sum(),
            recall=pl.col("found").mean(),
            by=pl.col("stage").filter(pl.col("dropped")).value_counts(sort=True),
        )
    )
    ordered = counted.sort(
        pl.col("kind") == "good", "planted", "kind", descending=[False, True, False]
    )
    return ordered.with_columns(by=_told("by", "stage"))


def stages_found(truth: Path, ledger: Path) -> pl.DataFrame:
    """One line a stage that dropped rows as faulty: ``stage, dropped, right, precision, kinds``.

    A drop is right when the row was planted bad or, from a deduplicator, when its survivor asks and
    answers the same. ``kinds`` counts what the stage dropped, by planted kind.
    """
    counted = (
        _joined(truth, ledger)
        .filter("dropped")
        .group_by("stage")
        .agg(
            dropped=pl.len(),
            right=pl.col("right").sum(),
            precision=pl.col("right").mean(),
            kinds=pl.col("kind").value_counts(sort=True),
        )
    )
    number = pl.col("stage").str.extract(r"^(\d+)").cast(pl.Int64)
    return counted.sort(number, "stage").with_columns(kinds=_told("kinds", "kind"))


def flips_found(truth: Path, ledger: Path) -> pl.DataFrame:
    """One line: ``planted, dropped, found, recall, precision`` of pairs with the label flipped."""
    planted = pl.read_ndjson(truth, infer_schema_length=None)
    rows = planted.join(_ends(pl.read_parquet(ledger)), on="row", how="left")
    flipped = pl.col("kind") == "flipped"
    found = flipped & pl.col("dropped")
    return rows.select(
        planted=flipped.sum(),
        dropped=pl.col("dropped").sum(),
        found=found.sum(),
        recall=found.sum() / flipped.sum(),
        precision=found.sum() / pl.col("dropped").sum(),
    )


def _told(column: str, name: str) -> pl.Expr:
    """Counts by name as text: ``wrong 12, refusal 3``."""
    one = pl.format("{} {}", pl.element().struct.field(name), pl.element().struct.field("count"))
    return pl.col(column).list.eval(one).list.join(", ")


def _joined(truth: Path, ledger: Path) -> pl.DataFrame:
    """The truth of each row, and whether it was ``dropped``, ``right``ly, and ``found``."""
    planted = pl.read_ndjson(truth, infer_schema_length=None)
    rows = planted.join(_ends(pl.read_parquet(ledger)), on="row", how="left", maintain_order="left")
    survivors = planted.select(survivor="row", survivor_kind="kind", survivor_meaning="meaning")
    rows = rows.join(survivors, on="survivor", how="left", maintain_order="left")
    sound = pl.col("survivor_kind").is_in(["good", *_COPIES])
    covered = (sound & (pl.col("meaning") == pl.col("survivor_meaning"))).fill_null(False)
    bad = ~pl.col("kind").is_in(["good", *_COPIES])
    rows = rows.with_columns(covered=covered, right=pl.col("dropped") & (bad | covered))
    gone = rows.filter("covered")["row"].implode()
    replaced = pl.col("kind").is_in(_COPIES) & pl.col("of").is_in(gone)
    harmless = (pl.col("kind") == "good") & pl.col("covered")
    return rows.with_columns(found=(pl.col("dropped") | replaced) & ~harmless)


def _ends(ledger: pl.DataFrame) -> pl.DataFrame:
    """Row, the stage that dropped it as faulty, and the row it was a copy of."""
    selector = pl.col("stage").str.extract(r"([a-z_]+)$")
    survivor = pl.col("detail").str.json_path_match("$.survivor").str.extract(r":(\d+)$")
    dropped = (pl.col("decision") != "kept") & ~selector.is_in(_BUDGETS)
    return ledger.select(
        "stage",
        row=pl.col("id").str.extract(r":(\d+)$").cast(pl.Int64),
        dropped=dropped,
        survivor=pl.when(dropped).then(survivor.cast(pl.Int64)),
    )
