"""Sources and references of a recipe with a format and names of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from curate.cli import curate
from curate.core.errors import DataError, UsageError
from curate.core.outputs import input_paths
from curate.core.recipe import component, parse
from curate.core.stages import option_files
from curate.runners.run import run

Row = dict[str, Any]
QA = [{"q": f"What is {at} and {at}?", "a": f"{2 * at}."} for at in range(4)]
NAMES = {"q": "prompt", "a": "completion"}


def lines(path: Path, *records: Row) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_each_source_of_a_recipe_may_have_its_format_and_names(tmp_path: Path) -> None:
    own = lines(tmp_path / "own.jsonl", *QA[:2])
    documents = {"prompt": "p", "completion": "c", "text": "pc"}
    plain = lines(tmp_path / "plain.jsonl", documents)
    raw = {"source": [{"path": own, "map": NAMES}, {"path": plain, "format": "prompt_completion"}]}
    done = run(parse(raw), tmp_path / "out")
    kept = pl.read_parquet(tmp_path / "out/kept.parquet")
    assert [len(messages) for messages in kept["messages"].to_list()] == [2, 2, 2]
    other = run(parse({"source": [{"path": own, "map": NAMES}]}), tmp_path / "out")
    assert other.worked == ["ingest"]
    assert done.manifest["recipe"]["given"][own]["map"] == NAMES


def test_names_of_the_recipe_hold_for_sources_without_their_own(tmp_path: Path) -> None:
    first = lines(tmp_path / "first.jsonl", {"question": "q", "completion": "a"})
    second = lines(tmp_path / "second.jsonl", QA[0])
    raw = {"source": [first, {"path": second, "map": NAMES}], "map": {"question": "prompt"}}
    run(parse(raw), tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out/kept.parquet").height == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"file": "a.jsonl"}, "unknown key 'file'"),
        ({"format": "alpaca"}, "source.path: expected a file"),
        ({"path": "a.jsonl", "format": 3}, "source.format: expected the name"),
        ({"path": "a.jsonl", "map": "q"}, "source.map: expected {KEY: NAME}"),
        (3, "source: expected a path"),
    ],
)
def test_a_source_that_is_wrong_is_a_line(source: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse({"source": [source]})


@pytest.mark.parametrize("name", ["exact_dedup", "minhash_dedup"])
def test_a_reference_may_have_its_format_and_names(name: str, tmp_path: Path) -> None:
    rows = lines(tmp_path / "rows.jsonl", {"prompt": QA[0]["q"], "completion": QA[0]["a"]})
    reference = lines(tmp_path / "reference.jsonl", *QA)
    against = {"path": reference, "map": NAMES}
    raw = {"source": rows, "stages": [{"select": name, "against": against}]}
    done = run(parse(raw), tmp_path / "out")
    assert done.manifest["counts"]["kept"] == 0
    command = ["dedup", rows, name, "--against", json.dumps(against), "--out", str(tmp_path / "2")]
    result = CliRunner().invoke(curate, command)
    assert result.exit_code == 0, result.output
    assert pl.read_parquet(tmp_path / "2/kept.parquet").height == 0
    with pytest.raises(UsageError, match="against: unknown key 'file'"):
        parse({"source": rows, "stages": [{"select": name, "against": {"file": "x"}}]})


def test_a_reference_is_an_input_by_its_path(tmp_path: Path) -> None:
    path = lines(tmp_path / "reference.jsonl", *QA)
    options = {"against": {"path": path, "map": NAMES}}
    assert [*input_paths({"stages": [{"options": options}]})] == [Path(path)]
    assert [*option_files(options)] == ["against"]
    scorer = component(
        parse({"source": path, "stages": [{"score": "contamination", **options}]}).stages[0], 0
    )
    assert scorer._items.ids.len() == 4


@pytest.mark.parametrize(
    ("command", "said", "unsaid"),
    [
        (["ingest", "odd.jsonl"], "--format", "`format`"),
        (["run", "recipe.yaml"], "`format`", "--format"),
        (
            ["dedup", "rows.jsonl", "exact_dedup", "--against", "odd.jsonl"],
            "`against: {path: odd.jsonl, format: NAME",
            "--format",
        ),
    ],
)
def test_an_error_names_what_can_be_written_where_it_comes_from(
    command: list[str], said: str, unsaid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "odd.jsonl", {"zz": 1})
    lines(tmp_path / "rows.jsonl", {"text": "a"})
    (tmp_path / "recipe.yaml").write_text("source: odd.jsonl\n")
    with pytest.raises(DataError) as error:
        CliRunner().invoke(curate, [*command, "--out", "out"], catch_exceptions=False)
    assert said in str(error.value)
    assert unsaid not in str(error.value)
