"""What a run leaves: the rows that were kept, and one final decision for every row that came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson
import polars as pl
import pyarrow.parquet as pq

from curate.core.files import aside
from curate.core.table import ROW, Table

__all__ = ["LEDGER", "read_quarantine", "write_kept", "write_ledger"]

LEDGER: Final = pl.Schema(
    {
        "id": pl.String,
        "stage": pl.String,
        "decision": pl.String,  # kept | dropped | quarantined
        "reason": pl.String,
        "detail": pl.String,
    }
)


def write_kept(path: Path, table: Table) -> None:
    """Write the rows left with all their columns and scores, batch by batch."""
    with aside(path) as part:
        writer = None
        for batch in table.batches(table.columns):
            block = batch.select(table.columns).to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(part, block.schema, compression="zstd")
            writer.write_table(block)
        if writer is None:
            table.gather(table.columns).select(table.columns).write_parquet(part)
        else:
            writer.close()


def write_ledger(
    path: Path, rows: Path, decisions: Sequence[tuple[str, Path]], quarantine: Path
) -> None:
    """Write the last word on each row, in the order the rows came; quarantined rows at the end."""
    last = pl.scan_parquet(rows).select("id").with_row_index(ROW).cast({ROW: pl.Int64}).collect()
    last = last.with_columns(
        stage=pl.lit("ingest"),
        decision=pl.lit("kept"),
        reason=pl.lit("read"),
        detail=pl.lit(None, pl.String),
    )
    for label, decided in decisions:
        last = last.update(_decisions(label, decided), on=ROW, how="left", include_nulls=False)
        last = _clear_stale_detail(last, label, decided)
    final = pl.concat([last.select(list(LEDGER)).cast(LEDGER), _quarantined(quarantine)])
    with aside(path) as part:
        final.write_parquet(part, compression="zstd")


def read_quarantine(path: Path) -> pl.DataFrame:
    """The quarantine list as a table; a row's number stands in ``line`` or in ``row``."""
    names = ("source", "line", "row", "id", "reason", "detail")
    records = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    schema = dict.fromkeys(names, pl.String) | {"line": pl.Int64, "row": pl.Int64}
    return pl.DataFrame([{n: record.get(n) for n in names} for record in records], schema=schema)


def _decisions(label: str, decided: Path) -> pl.DataFrame:
    word = pl.when("keep").then(pl.lit("kept")).otherwise(pl.lit("dropped"))
    columns = (ROW, pl.lit(label).alias("stage"), word.alias("decision"), "reason", "detail")
    return pl.read_parquet(decided).select(columns)


def _clear_stale_detail(last: pl.DataFrame, label: str, decided: Path) -> pl.DataFrame:
    """A null detail is the newest decision's word too: an older one does not show through."""
    silent = pl.scan_parquet(decided).filter(pl.col("detail").is_null()).select(ROW).collect()[ROW]
    stale = (pl.col("stage") == label) & pl.col(ROW).is_in(silent.implode())
    return last.with_columns(detail=pl.when(stale).then(None).otherwise("detail"))


def _quarantined(quarantine: Path) -> pl.DataFrame:
    listed = read_quarantine(quarantine).with_columns(
        stage=pl.lit("ingest"), decision=pl.lit("quarantined")
    )
    return listed.select(list(LEDGER)).cast(LEDGER)
