"""Routines of `curate.native` as plain Python give the results that the compiled ones give."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import UsageError
from siftune.curate.native import jit

ROOT = Path(__file__).parents[2]

SMALL = (
    "test_cluster_balanced.py::test_another_seed_is_another_sample",
    "test_cover.py::test_a_chain_is_covered_by_its_ends_not_swallowed",
    "test_cover.py::test_the_most_similar_survivor_is_named_and_of_equals_the_better",
    "test_cover.py::test_texts_that_share_no_more_than_a_part_are_sieved_out",
    "test_dedup.py::test_the_best_ranked_of_near_meaning_stays",
    "test_deita_filter.py::test_equal_vectors_are_similar_at_any_threshold_below_one",
    "test_facility_location.py::test_of_equal_rows_the_first_is_picked",
    "test_minhash.py::test_signatures_stay_what_they_were",
    "test_minhash.py::test_texts_meet_under_the_bands_they_agree_in",
    "test_multiply.py::test_what_reaches_a_bound_comes_by_row_then_column",
    "test_plainlines.py::test_sides_that_say_the_same_are_so_however_they_are_spelled",
    "test_repeated_spans.py::test_characters_are_counted_not_bytes_and_scripts_without_spaces_are_words",
    "test_shingles.py::test_hashes_stay_what_they_were",
    "test_shingles.py::test_scripts_without_spaces_make_each_character_a_word",
    "test_word_counts.py::test_the_count_is_that_of_the_pattern",
)
"""Tests with little data that between them call nearly every compiled routine."""

RECIPE = """
source: rows.jsonl
stages:
  - {score: length}
  - {score: "made.py:Embedding"}
  - {select: minhash_dedup, ngram: 2, threshold: 0.5}
  - {select: exact_dedup}
  - {select: k_center, embedding: embedding, rows: 5}
"""

MADE = """
from dataclasses import dataclass
from typing import ClassVar
import polars as pl

@dataclass(frozen=True)
class Embedding:
    needs: ClassVar = ("id",)
    adds: ClassVar = {"embedding": pl.Array(pl.Float32, 3)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        number = batch["id"].str.split(":").list.last().cast(pl.Float32)
        rows = [[x + 1, (7 * x) % 5, (3 * x) % 11] for x in number]
        return pl.DataFrame({"embedding": rows}, schema=self.adds)
"""

BLOCKED = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None
from siftune.pipelines.cli import siftune
siftune(sys.argv[1:])
"""


def plain(*command: str, folder: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT)} | settings
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_the_same_test_bodies_pass_on_plain_python() -> None:
    tests = [f"tests/curate/{name}" for name in SMALL]
    done = plain("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, SIFTUNE_NATIVE="0")
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    answers = [f"the fox number {i // 2} sees {'a dog' if i % 2 else 'the dog'}" for i in range(24)]
    lines = [f'{{"prompt": "What {i}?", "completion": "{text}"}}' for i, text in enumerate(answers)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, lines[0], lines[5]]))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "made.py").write_text(MADE)
    return tmp_path


def test_a_recipe_keeps_the_same_bytes_where_numba_cannot_be_imported(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from siftune.pipelines.cli import siftune

    monkeypatch.chdir(inputs)
    words = ["curate", "run", "recipe.yaml", "--no-cache", "--out"]
    compiled = CliRunner().invoke(siftune, [*words, "compiled"], catch_exceptions=False)
    assert compiled.exit_code == 0, compiled.output
    done = plain("-c", BLOCKED, *words, "plain", folder=inputs)
    assert done.returncode == 0, done.stderr
    kept = [(inputs / run / "kept.parquet").read_bytes() for run in ("compiled", "plain")]
    assert kept[0] == kept[1]
    note = "plain Python loops: same results, much slower (numba cannot be used: "
    assert done.stderr.count(note) == 1


@pytest.mark.parametrize(("value", "reason"), [("0", "SIFTUNE_NATIVE=0"), ("1", None), ("", None)])
def test_the_variable_switches_compiled_loops_off(
    value: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIFTUNE_NATIVE", value)
    assert jit._plain_reason() == reason


def test_any_other_value_of_the_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIFTUNE_NATIVE", "off")
    with pytest.raises(UsageError, match=r"SIFTUNE_NATIVE: expected 1 .* or 0 .*, found 'off'"):
        jit._plain_reason()


def test_a_library_that_is_broken_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "siftune.curate.native.llvm", None)
    monkeypatch.delattr("siftune.curate.native.llvm")
    assert "numba cannot be used" in (jit._plain_reason() or "")


def test_doctor_names_how_loops_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from siftune.pipelines.doctor import doctor

    monkeypatch.setattr("siftune.pipelines.doctor._devices", lambda: "cpu")  # torch takes seconds
    assert "loops: compiled by numba" in CliRunner().invoke(doctor).output
    monkeypatch.setattr(jit, "PLAIN_REASON", "SIFTUNE_NATIVE=0")
    assert "loops: plain Python, same results, much slower" in CliRunner().invoke(doctor).output
