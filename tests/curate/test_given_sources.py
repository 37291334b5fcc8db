"""Sources and references of a recipe with a format and names of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.cli import curate
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.source_spec import input_paths
from siftune.curate.io.ingest import ingest, read_rows
from siftune.curate.rows.chat import turn
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import component, parse
from siftune.curate.runs.stage_store import option_files

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
        ({"path": "a.jsonl", "map": {"q": None}}, "source.map: expected {KEY: NAME}, texts both"),
        ({"path": "a.jsonl", "map": {1: "prompt"}}, "source.map: expected {KEY: NAME}, texts both"),
        (3, "source: expected a path"),
    ],
)
def test_a_source_that_is_wrong_is_a_line(source: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse({"source": [source]})
    if isinstance(source, dict) and "map" in source:  # the map of all sources is held to the same
        with pytest.raises(UsageError, match=words.removeprefix("source.")):
            parse({"source": "a.jsonl", "map": source["map"]})


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
    assert scorer._ids.len() == 4


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


ALPACA = {"instruction": "Why is the sky blue?", "output": "Light is scattered."}
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}
SHARED = [{"role": "user", "content": "Hi"}]
PAIR = {"chosen": [*SHARED, CHAT["messages"][1]], "rejected": [*SHARED, turn("assistant", "No")]}


@pytest.mark.parametrize("source", ["", "*.jsonl"])
def test_each_file_of_a_folder_or_glob_is_read_in_its_own_layout(
    source: str, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    files = {"a": ALPACA, "b": ALPACA | {"note": "x"}, "c": CHAT, "d": ALPACA, "e": CHAT}
    for name, record in files.items():
        lines(folder / f"{name}.jsonl", *[record] * 3)
    table, bad = read_rows(str(folder / source))
    assert not bad
    assert [turns[0]["content"][:3] for turns in table["messages"].to_list()] == [
        text for text in ("Why", "Why", "Hi", "Why", "Hi") for _ in range(3)
    ]
    done = ingest([str(folder / source)], tmp_path)
    assert [name.partition("rows/")[2] for name in done.format] == [
        "a.jsonl and 1 more",
        *("c.jsonl", "d.jsonl", "e.jsonl"),
    ]
    assert [*done.format.values()] == ["alpaca", "messages"] * 2


def test_files_of_a_folder_that_fit_the_layout_before_them_stay_in_it(tmp_path: Path) -> None:
    odd = {"instruction": "Only asked."}
    lines(tmp_path / "rows_a.jsonl", odd, *[ALPACA] * 3)
    lines(tmp_path / "rows_b.jsonl", odd, odd, ALPACA)  # fewer than half fit any layout
    (tmp_path / "rows_c.jsonl").write_text("no JSON\n")
    table, bad = read_rows(str(tmp_path / "rows_*.jsonl"))
    assert table.height == 4
    assert len(bad) == 4


def test_a_first_file_that_cannot_be_told_is_read_as_the_files_after_it(tmp_path: Path) -> None:
    lines(tmp_path / "rows_a.jsonl", {"instruction": "Only asked."}, ALPACA)
    lines(tmp_path / "rows_b.jsonl", *[ALPACA] * 3)
    table, bad = read_rows(str(tmp_path / "rows_*.jsonl"))
    assert (table.height, len(bad)) == (4, 1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (PAIR, "b.jsonl gives preference rows (preference), but .*a.jsonl gives conversation"),
        ({"x": 1}, "b.jsonl: no format fits rows with the keys x"),
    ],
)
def test_a_file_of_a_folder_that_fits_no_more_is_refused_by_its_name(
    other: Row, words: str, tmp_path: Path
) -> None:
    lines(tmp_path / "a.jsonl", *[ALPACA] * 3)
    lines(tmp_path / "b.jsonl", *[other] * 3)
    with pytest.raises(DataError, match=words.replace("(", r"\(").replace(")", r"\)")):
        read_rows(str(tmp_path))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"instruction": "promt"}, "'promt'; did you mean --map instruction=prompt?"),
        ({"output": "anwser"}, "'anwser'; did you mean --map output=answer?"),  # no layout fits
        ({"output": "outptu"}, "'output' is read as it is, leave the option out"),
        ({"instruction": "vraag"}, "expected a name that one reads, such as prompt"),
    ],
)
@pytest.mark.parametrize("files", [1, 2])
def test_a_new_name_that_no_layout_reads_is_refused(
    mapping: dict[str, str], words: str, files: int, tmp_path: Path
) -> None:
    for number in range(files):
        lines(tmp_path / f"{number}.jsonl", *[ALPACA | {"input": "So?"}] * 3)
    with pytest.raises(UsageError) as raised:
        read_rows(str(tmp_path), mapping=mapping)
    assert words in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_fact_may_have_any_new_name(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", ALPACA | {"subject": "sky", "qid": "7"})
    names = {"subject": "topic", "qid": "prompt_id"}
    [extra] = read_rows(source, mapping=names)[0]["extra"].to_list()
    assert json.loads(extra) == {"topic": "sky", "prompt_id": "7"}
