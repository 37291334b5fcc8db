"""Data of the report on a selection, read from a curate run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from siftune.curate.core.errors import reading
from siftune.curate.core.schema import content_columns
from siftune.curate.rows.chat import text_of
from siftune.curate.runners.explain import reference_rows_of
from siftune.curate.runs.run_manifest import manifest_of, stage_file, verified
from siftune.pipelines.reports.charts import Chart, embedding_map, histogram

__all__ = ["MOST_POINTS", "Selection"]

MOST_POINTS = 20_000
_MOST_GROUPS = 25
_MOST_MEMBERS = 4
_MOST_QUARANTINED = 50
_EXCERPT = 160
_LEDGER = ("id", "stage", "decision", "reason", "detail")
_LONG_EXCERPT = 600


@dataclass(frozen=True)
class Selection:
    """One curate run; each part is read on first use."""

    run: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The run's manifest."""
        return manifest_of(self.run)

    @cached_property
    def ledger(self) -> pl.DataFrame:
        """The last decision on each row."""
        path = verified(self.run, "ledger.parquet")
        with reading(path):
            return pl.read_parquet(path, glob=False).select(_LEDGER)

    def reasons(self) -> list[dict[str, Any]]:
        """Rows by stage, decision and reason, in the order of the stages."""
        counted = self.ledger.group_by("stage", "decision", "reason").len("rows")
        order = {stage["stage"]: at for at, stage in enumerate(self.manifest["stages"])}
        lines = counted.sort("rows", descending=True).to_dicts()
        return sorted(lines, key=lambda line: order.get(line["stage"], 0))

    def stages(self) -> list[dict[str, Any]]:
        """Each stage with its counts, seconds and peak memory."""
        clock = self.manifest["clock"]
        return [{**stage, **clock.get(stage["stage"], {})} for stage in self.manifest["stages"]]

    def histograms(self) -> Iterator[tuple[str, Chart]]:
        """A chart for each numeric score: kept rows against dropped ones."""
        kept = self.ledger.filter(decision="kept")["id"]
        for stage in self._score_stages():
            path = stage_file(self.run, stage)
            with reading(path):
                scores = pl.read_parquet(path, glob=False).select("id", *stage["columns"])
            is_kept = scores["id"].is_in(kept.implode())
            for name in stage["columns"]:
                if scores[name].dtype.is_numeric():
                    chart = histogram(
                        name, scores[name].filter(is_kept), scores[name].filter(~is_kept)
                    )
                    if chart is not None:
                        yield name, chart

    def map(self) -> tuple[Chart, str] | None:
        """The embeddings on a plane, and a sentence on what is shown; None without embeddings."""
        column = self._embedding()
        if column is None:
            return None
        path, name = column
        with reading(path):
            table = pl.read_parquet(path, columns=["id", name], glob=False).drop_nulls(name)
        if table.height < 3:
            return None
        shown = table.sample(MOST_POINTS, seed=0) if table.height > MOST_POINTS else table
        vectors = np.asarray(shown[name].to_list(), dtype=np.float32)
        joined = shown.select("id").join(self.ledger, on="id", how="left", maintain_order="left")
        groups = [
            "kept" if decision == "kept" else f"dropped: {reason}"
            for decision, reason in joined.select("decision", "reason").iter_rows()
        ]
        texts = self._excerpts(shown["id"].to_list(), _EXCERPT)
        points, explained = _plane(vectors)
        sample = " (a random sample)" if shown.height < table.height else ""
        sentence = (
            f"{shown.height:,} of the {table.height:,} rows that have an embedding{sample}; the "
            f"axes hold {explained:.0%} of the variance: rows that lie together may be far apart."
        )
        hover = [f"{row}: {texts.get(row, '')}" for row in shown["id"]]
        return embedding_map(points, groups, hover), sentence

    def duplicates(self) -> list[dict[str, Any]]:
        """Groups of duplicates, largest first: the survivor, and rows dropped for it."""
        dropped = self.ledger.filter(decision="dropped").with_columns(
            survivor=pl.col("detail").str.json_path_match("$.survivor"),
            reference=pl.col("detail").str.json_path_match("$.reference"),
            similarity=pl.col("detail").str.json_path_match("$.similarity"),
        )
        groups = (
            dropped.drop_nulls("survivor")
            .group_by("reference", "survivor")
            .agg(pl.len(), pl.col("id", "stage", "reason", "similarity").head(_MOST_MEMBERS))
            .sort(["len", "survivor", "reference"], descending=[True, False, False])
            .head(_MOST_GROUPS)
        )
        ids = [*groups["survivor"], *(row for rows in groups["id"] for row in rows)]
        texts = self._excerpts(ids, _LONG_EXCERPT)
        elsewhere = self._reference_excerpts(groups.drop_nulls("reference"))
        return [_group(line, texts, elsewhere) for line in groups.iter_rows(named=True)]

    def _reference_excerpts(self, groups: pl.DataFrame) -> dict[tuple[str, str], str]:
        """Texts of survivors in references, by path and id, where they can still be read."""
        found: dict[tuple[str, str], str] = {}
        for line in groups.unique("reference").iter_rows(named=True):
            rows = reference_rows_of(self.run, self.manifest, line["stage"][0])
            if rows is not None:
                wanted = rows.filter(pl.col("id").is_in(groups["survivor"].to_list()))
                texts = _texts(wanted, _LONG_EXCERPT)
                found |= {(line["reference"], row): text for row, text in texts.items()}
        return found

    def quarantined(self) -> list[dict[str, Any]]:
        """The first rows that could not be read."""
        path = verified(self.run, "quarantine.jsonl")
        with reading(path):
            lines = path.read_bytes().splitlines()
            return [dict(orjson.loads(line)) for line in lines[:_MOST_QUARANTINED]]

    def _score_stages(self) -> list[Mapping[str, Any]]:
        return [stage for stage in self.manifest["stages"] if "columns" in stage]

    def _embedding(self) -> tuple[Path, str] | None:
        for stage in self._score_stages():
            for name in stage["columns"]:
                if name.endswith("embedding"):
                    return stage_file(self.run, stage), name
        return None

    def _excerpts(self, ids: list[str], length: int) -> dict[str, str]:
        columns = ["id", "kind", *content_columns(self.manifest["kind"])]
        path = stage_file(self.run, self.manifest["stages"][0])
        with reading(path):
            rows = pl.scan_parquet(path, glob=False).select(columns)
            wanted = rows.filter(pl.col("id").is_in(ids)).collect()
        return _texts(wanted, length)


def _texts(rows: pl.DataFrame, length: int) -> dict[str, str]:
    """The first characters of each row, by its id."""
    texts = text_of(rows, "both").fill_null("").str.slice(0, length)
    return dict(zip(rows["id"], texts, strict=True))


def _group(
    line: Mapping[str, Any], texts: Mapping[str, str], elsewhere: Mapping[tuple[str, str], str]
) -> dict[str, Any]:
    names = ("id", "stage", "reason", "similarity")
    members = [
        dict(zip(names, values, strict=True)) | {"text": texts.get(values[0], "")}
        for values in zip(*(line[name] for name in names), strict=True)
    ]
    survivor = {"id": line["survivor"], "text": texts.get(line["survivor"], "")}
    if line["reference"] is not None:
        unread = "(its text cannot be read now)"
        text = elsewhere.get((line["reference"], line["survivor"]), unread)
        survivor = {"id": f"{line['survivor']} of {line['reference']}", "text": text}
    return {"survivor": survivor, "members": members, "size": line["len"]}


def _plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """The first two principal components, and the share of variance they hold."""
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2, random_state=0).fit(vectors)
    points: np.ndarray = pca.transform(vectors)
    return points, float(pca.explained_variance_ratio_.sum())
