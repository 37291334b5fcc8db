from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from examples.demo.found import flips_found, planted_vs_found, stages_found

TRUTH: list[dict[str, Any]] = [
    {"row": 1, "kind": "good", "meaning": "a", "of": None},
    {"row": 2, "kind": "exact_duplicate", "meaning": "a", "of": 1},
    {"row": 3, "kind": "good", "meaning": "b", "of": None},
    {"row": 4, "kind": "near_duplicate", "meaning": "b", "of": 3},
    {"row": 5, "kind": "good", "meaning": "c", "of": None},
    {"row": 6, "kind": "wrong", "meaning": "d", "of": None},
    {"row": 7, "kind": "wrong", "meaning": "e", "of": None},
    {"row": 8, "kind": "good", "meaning": "f", "of": None},
    {"row": 9, "kind": "paraphrase", "meaning": "f", "of": 8},
    {"row": 10, "kind": "empty", "meaning": "g", "of": None},
]
LEDGER: list[tuple[int, str, str, int | None]] = [
    (1, "2:exact_dedup", "dropped", 2),  # the copy stayed in its place
    (2, "5:k_center", "kept", None),
    (3, "5:k_center", "dropped", None),  # the budget is not a fault
    (4, "3:minhash_dedup", "dropped", 3),
    (5, "3:minhash_dedup", "dropped", 3),  # a false alarm: they do not mean the same
    (6, "1:threshold", "dropped", None),
    (7, "5:k_center", "kept", None),
    (8, "1:threshold", "dropped", None),  # a false alarm
    (9, "5:k_center", "kept", None),
    (10, "ingest", "quarantined", None),
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    truth, ledger = tmp_path / "truth.jsonl", tmp_path / "ledger.parquet"
    truth.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in TRUTH))
    pl.DataFrame(
        {
            "id": [f"pool.jsonl:{row}" for row, *_ in LEDGER],
            "stage": [stage for _, stage, *_ in LEDGER],
            "decision": [decision for *_, decision, _ in LEDGER],
            "reason": ["a_reason"] * len(LEDGER),
            "detail": [
                None if survivor is None else f'{{"survivor":"pool.jsonl:{survivor}"}}'
                for *_, survivor in LEDGER
            ],
        }
    ).write_parquet(ledger)
    return truth, ledger


def test_found_counts_each_kind_and_a_copy_whose_original_went(files: tuple[Path, Path]) -> None:
    table = planted_vs_found(*files).select("kind", "planted", "found").rows()
    assert {kind: (planted, found) for kind, planted, found in table} == {
        "wrong": (2, 1),
        "exact_duplicate": (1, 1),
        "near_duplicate": (1, 1),
        "paraphrase": (1, 0),
        "empty": (1, 1),
        "good": (4, 2),
    }
    assert table[-1][0] == "good"


def test_found_names_the_stages(files: tuple[Path, Path]) -> None:
    by = dict(planted_vs_found(*files).select("kind", "by").iter_rows())
    assert by["wrong"] == "1:threshold 1"
    assert by["empty"] == "ingest 1"
    assert by["paraphrase"] == ""


def test_precision_of_a_stage_is_the_share_of_its_drops_that_are_right(
    files: tuple[Path, Path],
) -> None:
    table = stages_found(*files)
    assert table.select("stage", "dropped", "right", "precision").rows() == [
        ("ingest", 1, 1, 1.0),
        ("1:threshold", 2, 1, 0.5),
        ("2:exact_dedup", 1, 1, 1.0),
        ("3:minhash_dedup", 2, 1, 0.5),
    ]


def test_a_copy_of_a_bad_row_does_not_excuse_dropping_a_good_one(tmp_path: Path) -> None:
    truth, ledger = tmp_path / "truth.jsonl", tmp_path / "ledger.parquet"
    rows = [
        {"row": 1, "kind": "good", "meaning": "a", "of": None},
        {"row": 2, "kind": "wrong", "meaning": "a", "of": None},
    ]
    truth.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    pl.DataFrame(
        {
            "id": ["p:1", "p:2"],
            "stage": ["1:semantic_dedup"] * 2,
            "decision": ["dropped", "kept"],
            "reason": ["semantic_duplicate", "survivor"],
            "detail": ['{"survivor":"p:2"}', None],
        }
    ).write_parquet(ledger)
    assert planted_vs_found(truth, ledger).select("kind", "found").rows() == [
        ("wrong", 0),
        ("good", 1),
    ]
    assert stages_found(truth, ledger)["precision"].to_list() == [0.0]


def test_flips_are_counted_against_all_pairs_dropped(tmp_path: Path) -> None:
    truth, ledger = tmp_path / "truth.jsonl", tmp_path / "ledger.parquet"
    kinds = ["flipped", "good", "flipped", "good", "good"]
    rows = [{"row": at, "kind": kind} for at, kind in enumerate(kinds, 1)]
    truth.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    pl.DataFrame(
        {
            "id": [f"pairs:{at}" for at in range(1, 6)],
            "stage": ["2:threshold"] * 5,
            "decision": ["dropped", "dropped", "kept", "kept", "kept"],
            "reason": ["above_threshold"] * 2 + ["passed"] * 3,
            "detail": [None] * 5,
        },
        schema_overrides={"detail": pl.String},
    ).write_parquet(ledger)
    assert flips_found(truth, ledger).rows() == [(2, 2, 1, 0.5, 0.5)]
