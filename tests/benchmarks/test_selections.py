"""The benchmark of selections: its figures by hand, its selectors by name, and a small run."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks import selections
from benchmarks.selection_figures import Drawn, figures_of, overlaps_svg, table_of
from siftune.curate.core import registry
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn

SAID = ("A cat.", "A cat.", "A dog and a bone.", "Rain falls on the old roof at night.")


def rows() -> pl.DataFrame:
    chats = [[turn("user", "Say it"), turn("assistant", text)] for text in SAID]
    return pl.DataFrame(
        {
            "id": [f"a:{at}" for at in range(4)],
            "kind": ["conversation"] * 4,
            "digest": [f"{at:032x}" for at in (0, 0, 1, 2)],
            "messages": pl.Series(chats, dtype=TURNS),
            "length_words": [2, 2, 5, 8],
            "length_tokens": [3, 3, 6, 9],
            "clusters": [0, 0, 1, None],
            "fitted_quality": [0.1, 0.3, None, 0.5],
            "embedding": [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
        }
    )


def test_figures_by_hand() -> None:
    found = figures_of(rows(), rows())
    assert (found["rows"], found["tokens"], found["topics"], found["duplicates"]) == (4, 21, 2, 1)
    assert found["words"][0] == pytest.approx(4.25)
    assert found["words"][1] < 4.25 < found["words"][2]
    assert found["quality"][0] == pytest.approx(0.3)
    assert (found["vendi"], found["coverage"]) == (pytest.approx(2), pytest.approx(1))
    part = figures_of(rows().head(2), rows())
    assert part["coverage"] == pytest.approx(0.5)


def test_a_figure_outside_of_all_random_draws_is_bold() -> None:
    random = [Drawn(("a",), {"words": [at, at - 1, at + 1], "tokens": at}, 0.1) for at in (2, 4)]
    made = {"best": Drawn(("b",), {"words": [3.0, 2.0, 4.0], "tokens": 5}, 1.0)}
    lines = list(table_of(made, random))
    assert lines[0] == "| selection | words an answer | tokens | CPU s |"
    assert lines[2] == "| 2 random draws | 3.0 (2.0 … 4.0) | 3 (2 … 4) | 0.1 |"
    assert lines[3] == "| best | 3.0 (2.0 … 4.0) | **5** | 1.0 |"


def test_overlaps_are_shares_of_the_smaller_selection() -> None:
    made = {"x": Drawn(("a", "b"), {}, 0), "y & z": Drawn(("b", "c", "d"), {}, 0)}
    drawn = overlaps_svg({"no_lm": made}, {"no_lm": 30})
    assert ">50</text>" in drawn
    assert ">2  y &amp; z</text>" in drawn
    assert "no_lm: 3 of 30 rows, by chance 10% in common" in drawn


def test_every_selection_is_one_that_can_be_built() -> None:
    columns = (
        *("length_chars", "lexical_diversity_mtld", "compression", "heuristics_flags"),
        *("embedding", "fitted_quality", "dsir_mean", "target_similarity", "ifd", "perplexity"),
        *("rds", "tss", "selectit", "nuggets", "judge_rating", "less", "gist"),
    )
    table = pl.DataFrame({name: [1.0] for name in columns})
    found = {
        part: selections.selections(part, table, 5, Path("targets"))
        for part in ("no_lm", "lm", "dear")
    }
    assert [len(one) for one in found.values()] == [16, 4, 5]
    for stages in (stages for one in found.values() for stages in one.values()):
        for stage in stages:
            for name, options in stage.items():
                assert registry.build("curate.selectors", name, options)
    few = selections.selections("no_lm", table.select("length_chars"), 5, None)
    assert list(few) == ["longest"]


@pytest.mark.slow
def test_a_small_run_resumes(tmp_path: Path, tiny_embedder: Path, tiny_model_dir: Path) -> None:
    words = ("sun", "sea", "tree", "house", "bird", "stone", "road")
    made = [
        {"instruction": f"Describe a {words[at % 7]} {at}", "output": f"{'so ' * (at % 9)}{at} is."}
        for at in range(60)
    ]
    file, targets = tmp_path / "rows.jsonl", tmp_path / "targets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    targets.write_text("".join(json.dumps(row) + "\n" for row in made[:3]))
    given = [str(file), "--work", str(tmp_path / "work"), "--keep", "12,6,4", "--pools", "30,10"]
    given += ["--embedder", str(tiny_embedder), "--model", str(tiny_model_dir)]
    given += [
        "--targets",
        str(targets),
        "--parts",
        "no_lm,lm,dear",
        "--out",
        str(tmp_path / "out.md"),
    ]
    (tmp_path / "judge.py").write_text(
        "def reply(question):\n    return str(1 + len(question.messages[-1][1]) % 5)\n"
    )
    given += ["--judge", f"{tmp_path / 'judge.py'}:reply"]
    selections.main([*given, "--overlaps", str(tmp_path / "overlaps.svg")])
    text = (tmp_path / "out.md").read_text()
    assert "## no_lm: 12 of 60 rows" in text
    assert "## lm: 6 of 30 rows" in text
    assert "## dear: 4 of 10 rows" in text
    assert text.count("10 random draws") == 3
    for name in ("RDS+ round robin", "SelectIT", "Nuggets", "AlpaGasus' judge", "LESS", "GIST"):
        assert f"| {name} |" in text
    assert "lm: 6 of 30 rows, by chance 20%" in (tmp_path / "overlaps.svg").read_text()
    stages = [*(tmp_path / "work").rglob("*.parquet"), *(tmp_path / "work").rglob("selections/*")]
    before = {path: path.stat().st_mtime_ns for path in stages if path.parent.name != "run"}
    selections.main(given)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "out.md").read_text() == text
