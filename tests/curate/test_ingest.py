"""Ingest: sources of every kind into one table, the same bytes each time, nothing lost."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import datasets
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.io.hub import HubName, hub_name
from siftune.curate.io.ingest import Ingested, ingest, read_rows
from siftune.curate.io.source_parts import expand, name_parts
from siftune.curate.rows.chat import turn
from siftune.curate.rows.convert import content_digest

DATA = Path(__file__).parents[3] / "shared/data"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def alpaca(*numbers: int) -> list[dict[str, Any]]:
    return [{"instruction": f"Say {n}.", "input": "", "output": f"{n}"} for n in numbers]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_rows_get_an_id_a_source_and_their_line(tmp_path: Path) -> None:
    source = write(tmp_path / "data.jsonl", alpaca(1, 2))
    done = ingest([source], tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out/rows.parquet")
    assert dict(table.schema) == schema_of("conversation")
    assert table["id"].to_list() == ["data:1", "data:2"]
    assert table["messages"].to_list()[1] == [turn("user", "Say 2."), turn("assistant", "2")]
    assert done.said == (f"{source}: alpaca (2 of the first 2 rows)",)
    assert (done.rows_in, done.taken, done.kept, done.quarantined) == (2, 2, 2, 0)
    assert done.inputs[0]["bytes"] == Path(source).stat().st_size
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "quarantine.jsonl",
        "rows.parquet",
    ]


def test_a_bad_line_is_named_and_the_good_ones_go_on(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(
        '{"instruction": "a", "output": "b"}\n\n'
        '{"instruction": "a"}\n'
        '{"instruction": "c", "output": "d"}'
    )
    done = ingest([str(path)], tmp_path / "out")
    assert (done.kept, done.quarantined) == (2, 1)
    assert lines_of(tmp_path / "out/quarantine.jsonl") == [
        {
            "source": "data",
            "line": 3,
            "id": "data:3",
            "reason": "missing_field",
            "detail": "'output' is missing; expected a text",
        }
    ]


def test_equal_content_has_one_digest_whatever_format_it_came_in(tmp_path: Path) -> None:
    first, _ = read_rows(write(tmp_path / "a.jsonl", alpaca(1)))
    messages = [{"role": "user", "content": "Say 1."}, {"role": "assistant", "content": "1"}]
    second, _ = read_rows(write(tmp_path / "b.jsonl", [{"id": 5, "messages": messages}]))
    third, _ = read_rows(write(tmp_path / "c.jsonl", [{"prompt": "Say 1.", "completion": "2"}]))
    assert first["digest"].item() == second["digest"].item() != third["digest"].item()


def test_the_digest_is_the_one_it_always_was() -> None:
    row = {"messages": [turn("user", "2+2?"), turn("assistant", "4")]}
    assert content_digest("conversation", row) == "4968341f90050ec86865f36eef839ad5"


def test_the_digest_of_a_row_read_back_is_the_same(tmp_path: Path) -> None:
    table, _ = read_rows(write(tmp_path / "a.jsonl", alpaca(1)))
    [row] = table.to_dicts()
    assert content_digest("conversation", row) == row["digest"]


def test_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    source = write(tmp_path / "data.jsonl", [*alpaca(*range(50)), {"x": 1}])
    for out in ("one", "two"):
        ingest([source], tmp_path / out)
    for name in ("rows.parquet", "quarantine.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_batches_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "data.jsonl", [*alpaca(*range(30)), {"x": 1}, *alpaca(31, 32)])
    whole, bad = read_rows(source)
    seen: list[int] = []
    monkeypatch.setattr("siftune.curate.io.reading._ROWS", 7)
    monkeypatch.setattr("siftune.curate.io.ingest._ROWS", 7)
    done = ingest([source], tmp_path / "out", progress=seen.append)
    assert_frame_equal(pl.read_parquet(tmp_path / "out/rows.parquet"), whole)
    assert lines_of(tmp_path / "out/quarantine.jsonl") == bad
    assert pq.ParquetFile(tmp_path / "out/rows.parquet").num_row_groups == 5
    assert seen == [7, 14, 21, 28, 33]
    assert done.rows_in == 33


def test_an_ingest_that_fails_leaves_nothing_under_its_names(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl.gz"
    write(good, alpaca(*range(30_000)))
    bad.write_bytes(gzip.compress(good.read_bytes())[:-9])
    with pytest.raises(DataError, match="damaged"):
        ingest([str(good), str(bad)], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_mapping_renames_keys_before_detection(tmp_path: Path) -> None:
    source = write(tmp_path / "sums.jsonl", [{"question": "2+2?", "answer": "4", "level": 1}])
    table, _ = read_rows(source, mapping={"question": "prompt", "answer": "completion"})
    assert table["messages"].to_list() == [[turn("user", "2+2?"), turn("assistant", "4")]]
    assert table["extra"].to_list() == ['{"level":1}']


def test_mapping_a_key_that_no_row_has_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "sums.jsonl", alpaca(1))
    with pytest.raises(UsageError, match=r"'instuction'.*did you mean instruction"):
        read_rows(source, mapping={"instuction": "prompt"})


def test_mapping_onto_a_key_that_is_there_is_a_bad_row(tmp_path: Path) -> None:
    rows = [{"q": "a", "completion": "b"}] * 3 + [{"q": "a", "prompt": "c", "completion": "b"}]
    table, bad = read_rows(write(tmp_path / "d.jsonl", rows), mapping={"q": "prompt"})
    assert (table.height, [line["reason"] for line in bad]) == (3, ["duplicate_key"])


def test_limit_counts_records_over_all_sources(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [*alpaca(1), {"x": 1}])
    second = write(tmp_path / "b.jsonl", alpaca(1, 2, 3))
    done = ingest([first, second], tmp_path / "out", limit=4, format="alpaca")
    assert (done.rows_in, done.kept, done.quarantined) == (4, 3, 1)
    assert pl.read_parquet(tmp_path / "out/rows.parquet")["id"].to_list() == ["a:1", "b:1", "b:2"]


def test_sources_of_two_formats_and_one_kind_make_one_table(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", alpaca(1))
    second = write(tmp_path / "b.jsonl", [{"prompt": "a", "completion": "b"}])
    done = ingest([first, second], tmp_path / "out")
    assert dict(done.format) == {first: "alpaca", second: "prompt_completion"}
    assert done.kept == 2


def test_sources_of_two_kinds_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", alpaca(1))
    second = write(tmp_path / "b.jsonl", [{"text": "a"}])
    with pytest.raises(DataError, match=r"b\.jsonl gives text rows \(text\), but .*a\.jsonl"):
        ingest([first, second], tmp_path / "out")


def test_a_tree_gives_rows_with_ids_of_their_own(tmp_path: Path) -> None:
    answer = {"text": "4", "role": "assistant", "replies": []}
    tree = {"prompt": {"text": "2+2?", "role": "prompter", "replies": [answer, answer]}}
    bad = {"prompt": {"text": "2+2?", "role": "prompter", "replies": []}}
    source = write(tmp_path / "trees.jsonl", [tree, bad])
    done = ingest([source], tmp_path / "out", format="oasst")
    table = pl.read_parquet(tmp_path / "out/rows.parquet")
    assert table["id"].to_list() == ["trees:1.1", "trees:1.2"]
    assert (done.rows_in, done.taken, done.kept, done.quarantined) == (2, 1, 2, 1)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/data.jsonl.zst"], ["data"]),
        (["x/a.jsonl", "x/b.json"], ["a", "b"]),
        (["x/a.jsonl", "x/a.parquet"], ["a.jsonl", "a.parquet"]),
        (["x/a.jsonl", "y/a.jsonl"], ["x/a.jsonl", "y/a.jsonl"]),
    ],
)
def test_a_source_is_named_as_shortly_as_can_be(
    paths: list[str], names: list[str], tmp_path: Path
) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        if path.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(alpaca(1)), tmp_path / path)
        else:
            write(tmp_path / path, alpaca(1))
    parts = [part for path in paths for part in expand(str(tmp_path / path))]
    assert name_parts(parts) == names


def test_a_source_given_twice_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", alpaca(1))
    with pytest.raises(UsageError, match="given twice"):
        ingest([source, source], tmp_path / "out")
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match="given twice"):
        ingest([source, str(tmp_path / "x/../a.jsonl")], tmp_path / "out")


def test_stdin_is_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(json.dumps(row) + "\n" for row in alpaca(1, 2)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    table, _ = read_rows("-")
    assert table["id"].to_list() == ["stdin:1", "stdin:2"]


def test_a_saved_dataset_is_read_and_its_splits_are_not_mixed(tmp_path: Path) -> None:
    split = datasets.Dataset.from_list(alpaca(1, 2))
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "d")
    table, _ = read_rows(tmp_path / "d/train")
    assert table["id"].to_list() == ["train:1", "train:2"]
    with pytest.raises(DataError, match="has the splits test, train: name one"):
        read_rows(tmp_path / "d")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: io.BytesIO())


@pytest.mark.usefixtures("online")
def test_a_hub_dataset_is_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.Dataset.from_list(alpaca(1)).save_to_disk(tmp_path / "cache")
    loaded = datasets.load_from_disk(str(tmp_path / "cache"))
    asked: list[Any] = []

    def load_dataset(name: str, config: str | None, **options: Any) -> Any:
        asked.append((name, config, options))
        return loaded

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    table, _ = read_rows("hf://datasets/tatsu-lab/alpaca@v1:test")
    assert table.height == 1
    assert asked == [("tatsu-lab/alpaca", None, {"revision": "v1", "split": "test"})]


def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.create_connection", unreachable)
    monkeypatch.setattr("siftune.curate.models.resolve.getproxies", dict)
    with pytest.raises(DataError, match=r"alpaca is not a file.*cannot be reached.*HF_HUB_OFFLINE"):
        read_rows("tatsu-lab/alpaca")


@pytest.mark.usefixtures("online")
def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"alpaca .train. is not a file.*no route to host"):
        read_rows("tatsu-lab/alpaca")


def test_a_path_with_an_ending_is_no_hub_name() -> None:
    assert hub_name("data/rows.jsonl") is None
    assert hub_name("HuggingFaceH4/helpful:test") == HubName("HuggingFaceH4/helpful", split="test")


def test_rows_of_ours_keep_their_ids_and_scores(tmp_path: Path) -> None:
    table, _ = read_rows(write(tmp_path / "data.jsonl", alpaca(1, 2, 3)))
    run = tmp_path / "run"
    run.mkdir()
    scored = table.with_columns(score=pl.Series([0.1, 0.2, 0.3], dtype=pl.Float32))[1:]
    scored.write_parquet(run / "kept.parquet")
    back, bad = read_rows(run)
    assert_frame_equal(back, scored)
    assert bad == []
    done = ingest([str(run / "kept.parquet")], tmp_path / "out", limit=1)
    assert_frame_equal(pl.read_parquet(tmp_path / "out/rows.parquet"), scored[:1])
    assert (done.rows_in, done.kept) == (1, 1)


def test_rows_of_ours_beside_raw_ones_leave_their_scores(tmp_path: Path) -> None:
    table, _ = read_rows(write(tmp_path / "data.jsonl", alpaca(1)))
    table.with_columns(score=1.0).write_parquet(tmp_path / "own.parquet")
    other = write(tmp_path / "other.jsonl", alpaca(2))
    ingest([str(tmp_path / "own.parquet"), other], tmp_path / "out")
    both = pl.read_parquet(tmp_path / "out/rows.parquet")
    assert both["id"].to_list() == ["data:1", "other:1"]
    assert dict(both.schema) == schema_of("conversation")


def test_one_id_for_two_rows_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "data.jsonl", alpaca(1))
    table, _ = read_rows(source)
    table.write_parquet(tmp_path / "own.parquet")
    with pytest.raises(DataError, match="data:1"):
        ingest([str(tmp_path / "own.parquet"), source], tmp_path / "out")


def test_a_shard_with_other_types_loses_only_its_bad_rows(tmp_path: Path) -> None:
    for name, rows in (("a", alpaca(1)), ("b", [{"instruction": 5, "output": "x", "new": 1.5}])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    table, bad = read_rows(tmp_path)
    assert table["id"].to_list() == ["a:1"]
    assert [(line["id"], line["row"], line["reason"]) for line in bad] == [("b:1", 1, "wrong_type")]


@pytest.mark.parametrize("bad", [50, 51])
def test_many_rows_of_which_hardly_one_is_read_are_refused_on_the_way(
    bad: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siftune.curate.io.reading._ROWS", 10)
    monkeypatch.setattr("siftune.curate.io.ingest._MOST_ASIDE", 30)
    monkeypatch.setattr("siftune.curate.io.ingest._LEAST_TAKEN", 25)
    source = tmp_path / "d.jsonl"
    good = "".join(json.dumps(row) + "\n" for row in alpaca(1, 2))
    source.write_text(good + "1\n" * bad)
    if bad == 50:
        assert read_rows(source)[0].height == 2
        return
    with pytest.raises(DataError, match=r"of the first 5\d rows 5\d are set aside: 5\d not_an_obj"):
        ingest([str(source)], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_line_beyond_the_limit_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siftune.curate.records.json_lines.MAX_LINE", 100)
    rows = [*alpaca(1), {"instruction": "x" * 950, "output": ""}, *alpaca(3)]
    table, bad = read_rows(write(tmp_path / "d.jsonl", rows))
    assert table["row"].to_list() == [1, 3]
    assert [(line["line"], line["reason"]) for line in bad] == [(2, "line_too_long")]


@pytest.mark.parametrize("bomb", ["gz", "zst"])
def test_a_file_that_grows_beyond_measure_is_refused(
    bomb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zstandard

    monkeypatch.setattr("siftune.curate.files.byte_streams.FREE", 1 << 20)
    content = b" " * (64 << 20)
    packed = gzip.compress(content) if bomb == "gz" else zstandard.compress(content)
    path = tmp_path / f"d.jsonl.{bomb}"
    path.write_bytes(packed)
    with pytest.raises(DataError, match="more than 500 times"):
        read_rows(path)


def test_a_file_that_ends_its_batches_by_size_keeps_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siftune.curate.io.reading._BYTES", 1000)
    source = write(tmp_path / "d.jsonl", alpaca(*range(100)))
    table, _ = read_rows(source)
    assert table["row"].to_list() == list(range(1, 101))


def mutated(content: bytes, seed: int) -> bytes:
    """Some bytes changed, cut out or doubled."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 4)):
        at, length = draw.randrange(len(content)), draw.randint(1, 20)
        middle = [b"", draw.randbytes(length), content[at : at + length] * 2][draw.randrange(3)]
        content = content[:at] + middle + content[at + length :]
        content = content or b"x"
    return content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    rows = alpaca(*range(40))
    source = Path(write(folder / "d.jsonl", rows))
    pq.write_table(pa.Table.from_pylist(rows), folder / "d.parquet", write_page_checksum=True)
    pl.DataFrame(rows).write_csv(folder / "d.csv")
    (folder / "d.json").write_text(json.dumps(rows, indent=1))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(source.read_bytes()))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["d.jsonl", "d.parquet", "d.csv", "d.json", "d.jsonl.gz"])
def test_a_damaged_file_is_refused_or_accounted_for(
    name: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    @settings(max_examples=20, deadline=None)
    @example(87)  # the name of a Parquet column is no longer UTF-8
    @given(st.integers(0, 2**32))
    def damaged(seed: int) -> None:
        (tmp_path / name).write_bytes(mutated(whole[name], seed))
        try:
            done: Ingested = ingest([str(tmp_path / name)], tmp_path / "out")
        except DataError as error:
            refusals.append(str(error))
            return
        assert done.rows_in == done.kept + done.quarantined
        assert done.kept == pl.read_parquet(tmp_path / "out/rows.parquet").height

    refusals: list[str] = []
    damaged()
    assert all(name in refusal for refusal in refusals)


@pytest.mark.parametrize(
    ("name", "format_name", "kept"),
    [("gsm8k_train", "prompt_completion", 500), ("pref_alpacaeval1_dev", "pairwise", 500)],
)
def test_real_rows_are_taken(name: str, format_name: str, kept: int, tmp_path: Path) -> None:
    path = DATA / f"{name}.jsonl.zst"
    if not path.exists():
        pytest.skip(f"{path.name} is not here (../shared/data)")
    mapping = {"question": "prompt", "answer": "completion"} if name.startswith("gsm") else None
    done = ingest([str(path)], tmp_path, limit=kept, mapping=mapping)
    assert done.format[str(path)] == format_name
    assert (done.rows_in, done.kept) == (kept, kept)


def test_a_pair_with_two_scores_and_no_margin_gets_their_difference(tmp_path: Path) -> None:
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    scored = pair | {"score_chosen": 8.5, "score_rejected": 6}
    rows = [scored, scored | {"margin": 1}, pair | {"score_chosen": 8}, pair]
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table, bad = read_rows(source)
    assert (table["margin"].to_list(), bad) == ([2.5, 1.0, None, None], [])
