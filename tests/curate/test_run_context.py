"""What components say at work: nothing without a listener, the manifest and stderr with one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.progress import NoProgress, log_metrics, report_progress, run_context
from siftune.curate.files.atomic import read_json
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse


def test_what_nobody_listens_to_does_nothing() -> None:
    log_metrics(found=1)
    report_progress(1, 2, "texts")


def test_the_innermost_listener_hears_and_the_outer_one_goes_on_after_it() -> None:
    steps: list[tuple[int, int, str]] = []
    with run_context(lambda *said: steps.append(said)) as outer:
        log_metrics(a=1, b=1)
        with run_context() as inner:
            log_metrics(b=2)
            report_progress(1, 9, "texts")
        log_metrics(b=3)
        report_progress(2, 9, "texts")
    assert (outer.metrics, inner.metrics) == ({"a": 1, "b": 3}, {"b": 2})
    assert steps == [(2, 9, "texts")]


def test_a_listener_is_gone_after_a_failure() -> None:
    with pytest.raises(KeyError), run_context() as context:
        raise KeyError
    log_metrics(late=True)
    assert not context.metrics


class Lines(NoProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


def test_the_share_of_pairs_that_clusters_find_is_told_and_in_the_manifest(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    said = ({"prompt": f"q{i}", "completion": f"a{i}"} for i in range(120))
    rows.write_text("".join(json.dumps(row) + "\n" for row in said))
    run(parse({"name": "rows", "source": str(rows), "stages": []}), tmp_path / "rows")
    table = pl.read_parquet(tmp_path / "rows" / "kept.parquet")
    around = np.repeat(np.random.default_rng(0).normal(size=(40, 8)), 3, axis=0)
    around += np.random.default_rng(1).normal(scale=0.05, size=around.shape)
    embedded = pl.Series("embedding", around.astype(np.float32), dtype=pl.Array(pl.Float32, 8))
    table.with_columns(embedded).write_parquet(tmp_path / "embedded.parquet")
    stages = [{"select": "semantic_dedup", "exact_to": 0}]
    recipe = {"name": "near", "source": str(tmp_path / "embedded.parquet"), "stages": stages}
    say = Lines()
    run(parse(recipe), tmp_path / "out", say=say)
    _, told = read_json(tmp_path / "out" / "manifest.json")["stages"]
    of_clusters = {"clusters", "probes", "pair_recall", "pairs_sampled"}
    assert set(told["measured"]) == {*of_clusters, "kept_by_guard"}
    assert told["measured"]["pair_recall"] >= 0.99
    assert told["measured"]["pairs_sampled"] >= 40
    assert any(f"pair_recall {told['measured']['pair_recall']}" in line for line in say.lines)
