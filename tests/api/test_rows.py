"""`siftune.Rows`: reading anything, steps, results, and the same bytes as the command line."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner
from polars.testing import assert_frame_equal

import siftune as sf
from siftune.pipelines.cli import siftune as command

TEXT = "the cat sat on a mat and looked at the wide blue sea beyond the old town wall"
WORDS = TEXT.split()
RECORDS = [
    {"prompt": f"Write {n} words.", "response": " ".join(WORDS[:n]), "topic": f"t{n % 2}"}
    for n in (2, 9, 5, 12, 5, 16, 3)
] + [{"prompt": "Write nothing.", "response": None, "topic": "t0"}]
STEPS = [
    {"score": "length"},
    {"select": "minhash_dedup", "threshold": 0.7, "ngram": 2},
    {"select": "top_fraction", "by": "length_words", "fraction": 0.5},
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


@pytest.fixture(scope="module")
def rows(file: Path) -> sf.Rows:
    scored = sf.read(file).score("length").dedup("minhash", threshold=0.7, ngram=2)
    return scored.select("top_fraction", by="length_words", fraction=0.5)


@pytest.fixture(scope="module")
def plain() -> sf.Rows:
    return sf.read(RECORDS)


def test_nothing_is_lost(rows):
    assert rows.counts == {"rows": 8, "kept": 3, "dropped": 4, "quarantined": 1}
    parts = (rows.kept, rows.dropped, rows.quarantined)
    assert [part.height for part in parts] == [3, 4, 1]
    ids = [row_id for part in parts for row_id in part["id"]]
    assert sorted(ids) == [f"rows:{n}" for n in range(1, 9)]
    assert len(rows) == len(list(rows)) == 3


def test_the_command_line_writes_the_same_bytes(rows, file, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "rows", "source": str(file), "stages": STEPS}))
    done = CliRunner().invoke(command, ["curate", "run", str(recipe), "--out", str(tmp_path / "o")])
    assert done.exit_code == 4, done.output
    for name in ("kept.parquet", "ledger.parquet", "quarantine.jsonl"):
        assert (rows.folder / name).read_bytes() == (tmp_path / "o" / name).read_bytes(), name
    run = sf.run(recipe, tmp_path / "api")
    assert (run.folder / "kept.parquet").read_bytes() == (rows.folder / "kept.parquet").read_bytes()
    assert run.decisions.equals(rows.decisions)


def test_the_recipe_of_rows_makes_them_again(rows, tmp_path):
    assert rows.recipe["stages"] == STEPS
    again = sf.run(rows.recipe, tmp_path / "again")
    assert_frame_equal(again.kept, rows.kept)
    saved = rows.save(tmp_path / "saved")
    assert_frame_equal(sf.open_run(saved.folder).dropped, rows.dropped)


def test_dropped_rows_have_particulars_content_and_scores_in_columns(rows):
    by_id = {row["id"]: row for row in rows.dropped.iter_rows(named=True)}
    copy = by_id["rows:5"]
    assert (copy["stage"], copy["reason"]) == ("2:minhash_dedup", "near_duplicate")
    assert (copy["survivor"], copy["similarity"]) == ("rows:3", 1.0)
    assert copy["messages"][1]["content"] == copy_of(4)
    assert by_id["rows:1"]["reason"] == "below_cutoff"
    assert (by_id["rows:1"]["value"], by_id["rows:1"]["length_words"]) == (2, 2)
    assert rows.dropped.columns[:3] == ["id", "stage", "reason"]


def copy_of(number: int) -> str:
    return str(RECORDS[number]["response"])


def test_the_quarantine_has_source_row_and_reason(rows):
    (bad,) = rows.quarantined.iter_rows(named=True)
    assert (bad["id"], bad["source"], bad["row"]) == ("rows:8", "rows", 8)
    assert bad["reason"] == "missing_field"


def test_steps_leave_the_rows_before_them_as_they_are(file):
    read = sf.read(file)
    scored = read.score("length")
    first, second = (scored.select("top_k", by="length_words", rows=k) for k in (1, 2))
    assert [len(one) for one in (read, scored, first, second)] == [7, 7, 1, 2]
    assert "length_words" not in read.kept.columns


def test_all_rows_at_once(rows):
    every = rows.to_polars("all")
    assert every["decision"].value_counts(sort=True).rows() == [("dropped", 4), ("kept", 3)]
    assert_frame_equal(rows.to_polars(), rows.kept)
    assert_frame_equal(rows.to_polars("dropped"), rows.dropped)
    with pytest.raises(sf.UsageError, match="expected kept, dropped or all"):
        rows.to_polars("lost")


def as_datasets():
    import datasets

    return datasets.Dataset.from_list(RECORDS)


class Streamed:
    """As an `IterableDataset`, whose import takes seconds."""

    features = with_format = None

    def __iter__(self):
        return iter(RECORDS)


@pytest.mark.parametrize(
    "source",
    [
        lambda: RECORDS,
        lambda: pl.DataFrame(RECORDS),
        lambda: pl.LazyFrame(RECORDS),
        lambda: pa.Table.from_pylist(RECORDS),
        lambda: as_datasets(),
        lambda: Streamed(),
        lambda: as_datasets().select(range(8)).filter(lambda row: True),
    ],
    ids=["dicts", "polars", "lazy", "pyarrow", "datasets", "streamed", "selected"],
)
def test_every_source_gives_the_same_rows(source, file):
    read, expected = sf.read(source()), sf.read(file)
    columns = [name for name in expected.kept.columns if name != "extra"]
    assert_frame_equal(read.kept.select(columns), expected.kept.select(columns))
    assert read.quarantined.drop("detail").equals(expected.quarantined.drop("detail"))


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "conversation"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"instruction": "a", "input": "", "output": "b"}, "conversation"),
        ({"prompt": "a", "completion": "b", "label": True}, "unpaired"),
        ({"text": "a"}, "text"),
    ],
)
def test_layouts_are_recognised_in_frames(record, kind):
    read = sf.from_polars(pl.DataFrame([record]), name="mine")
    assert (read.kind, read.kept["id"].to_list()) == (kind, ["mine:1"])
    assert read.kept["digest"].str.len_chars().to_list() == [32]


def test_a_frame_of_ours_keeps_ids_and_columns_that_were_added(rows):
    mine = rows.kept.with_columns(my_score=pl.col("length_words") * 2)
    best = sf.from_polars(mine).select("top_k", by="my_score", rows=1)
    assert best.kept["id"].to_list() == ["rows:6"]


def test_an_own_column_of_a_frame_is_found_under_extra():
    read = sf.read(pl.DataFrame(RECORDS[:4]).with_columns(score=pl.Series([1.5, 4.0, 3.0, 2.0])))
    with pytest.raises(sf.UsageError, match=r"extra\.score"):
        read.select("top_k", by="score", rows=1)
    assert read.select("top_k", by="extra.score", rows=1).kept["id"].to_list() == ["rows:2"]


def test_formats_and_names_of_columns_can_be_given():
    records = [{"q of it": "Hi", "said": "Ho"}]
    with pytest.raises(sf.DataError, match=r"set format="):
        sf.read(records)
    read = sf.read(records, map={"q of it": "prompt", "said": "completion"})
    assert len(read) == 1
    assert len(sf.read([{"text": "a"}, {"text": "b"}], format="text", limit=1)) == 1


def test_earlier_rows_are_a_reference_for_dedup(file):
    first = sf.read(RECORDS[:3], name="first")
    left = sf.read(RECORDS[:5], name="second").dedup("exact", against=first)
    assert left.kept["id"].to_list() == ["second:4"]
    assert set(left.dropped["reason"]) == {"exact_duplicate_of_reference"}


def test_functions_take_whatever_can_be_read():
    assert "length_words" in sf.score(RECORDS, "length").kept.columns
    assert len(sf.dedup(pl.DataFrame(RECORDS), "exact")) == 6
    assert len(sf.select(RECORDS, "random", rows=2)) == 2


def test_explanations_tell_the_whole_story(rows, tmp_path):
    why = rows.explain("rows:5")
    assert (why.decision, why.stage, why.reason) == (
        "dropped",
        "2:minhash_dedup",
        "near_duplicate",
    )
    assert why.detail["survivor"] == "rows:3"
    assert why.scores == {"length_chars": len(copy_of(4)), "length_words": 5}
    assert why.content["messages"][0]["content"] == "Write 5 words."
    assert why.survivor is not None
    assert "near_duplicate" in repr(why)
    told = CliRunner().invoke(command, ["curate", "explain", str(rows.folder), "rows:5"])
    assert repr(why) == told.output.rstrip("\n")
    assert repr(sf.explain(rows.folder, "rows:5")) == repr(why)
    with pytest.raises(sf.UsageError, match="did you mean rows:"):
        rows.explain("rows:55")


def test_a_dataset_is_what_trl_takes(rows):
    made = rows.to_datasets(columns=["id", "length_words"])
    assert made.column_names == ["messages", "id", "length_words"]
    assert made[0]["messages"][0] == {"role": "user", "content": "Write 9 words."}
    pairs = sf.read([{"prompt": "a", "chosen": "b", "rejected": "c"}]).to_datasets()
    assert set(pairs.column_names) == {"prompt", "chosen", "rejected"}


def test_rows_are_exported_and_reported(rows, tmp_path):
    done = rows.export(tmp_path / "out", to="parquet", columns=["id"])
    assert done.rows == 3
    assert pl.read_parquet(tmp_path / "out" / "train.parquet")["id"].to_list() == [
        "rows:2",
        "rows:4",
        "rows:6",
    ]
    page = rows.report(tmp_path / "report.html")
    assert "near_duplicate" in page.read_text()
    assert sf.report(rows.folder, tmp_path / "other.html") == tmp_path / "other.html"


def test_rows_show_what_happened(rows):
    assert repr(rows).splitlines() == [
        "Rows(3 conversation rows kept, 4 dropped, 1 quarantined)",
        "  ingest               8 records read, 1 quarantined",
        "  1:length             added length_chars, length_words",
        "  2:minhash_dedup      kept 6 of 7, 1 near_duplicate",
        "  3:top_fraction       kept 3 of 6, 3 below_cutoff",
    ]
    page = rows._repr_html_()
    assert "<b>3 conversation rows kept" in page
    assert "near_duplicate" in page
    assert "&lt;" not in sf.read(RECORDS)._repr_html_().partition("</table>")[0]


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda rows: rows.score("lenght"), "no scorer is called 'lenght'; did you mean length?"),
        (lambda rows: rows.select("top_k", rows=1), "top_k needs the option 'by': by=VALUE"),
        (lambda rows: rows.select("top_k", by="x", rows=1, n=2), "top_k has no option 'n'"),
        (lambda rows: rows.select("top_k", by="length", rows=1), "the scorer length adds such"),
        (lambda rows: rows.dedup("exat"), "no duplicates are found by 'exat'; did you mean exact?"),
        (lambda rows: rows.score("length", turns="each"), "turns: expected one of last, every"),
        (lambda rows: sf.run({"stagse": []}), "the recipe: .*unknown key 'stagse'"),
        (lambda rows: sf.run({}), "source is not set: give source=FILE"),
        (lambda rows: rows.export(Path(__file__).parent), "name another out="),
        (lambda rows: rows.to_datasets(shape="chat"), "shape=: expected one of messages"),
        (lambda rows: rows.to_datasets(columns=["x"]), "columns=: no column 'x'"),
        (lambda rows: sf.read("-"), "'-' is standard input, which can be read once"),
        (lambda rows: sf.open_run("nowhere"), "nowhere: no such run folder"),
        (lambda rows: sf.read(3), "expected a frame .* got int"),
        (lambda rows: sf.loss("dop"), "no objective is called 'dop'; did you mean dpop?"),
    ],
)
def test_mistakes_are_one_line_in_the_words_of_python(act, words, plain):
    with pytest.raises(sf.UsageError, match=words) as refused:
        act(plain)
    assert "--" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("empty", [[], pl.DataFrame(), pl.DataFrame({"prompt": []})])
def test_no_rows_are_refused(empty):
    with pytest.raises(sf.DataError, match="there are no rows"):
        sf.read(empty)


def test_a_file_that_changes_between_steps_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(RECORDS[0]) + "\n")
    read = sf.read(path)
    path.write_text(json.dumps(RECORDS[1]) + "\n")
    with pytest.raises(sf.DataError, match=r"rows\.jsonl changed since it was read"):
        read.score("length")


def test_temporary_folders_go_with_the_rows():
    read = sf.read(RECORDS)
    scored = read.score("length")
    first, second = read.folder, scored.folder
    source = Path(read.recipe["source"][0])
    del read
    gc.collect()
    assert (first.exists(), second.exists(), source.exists()) == (True, True, True)
    assert len(scored.select("random", rows=1)) == 1
    del scored
    gc.collect()
    assert (first.exists(), second.exists(), source.exists()) == (False, False, False)


def test_importing_siftune_loads_nothing_else():
    probe = "import sys, siftune; siftune.__version__; dir(siftune)\n"
    probe += "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    heavy = {"torch", "polars", "numpy", "pyarrow", "pydantic", "click", "transformers", "datasets"}
    assert not heavy & set(done.stdout.split())


def test_a_path_in_an_error_is_as_it_was_given():
    path = "/nope/models--org--name/rows.jsonl"
    with pytest.raises(sf.SiftuneError, match=path):
        sf.read(path)


@pytest.mark.parametrize("dtype", [pl.Object, pl.Int128])
def test_a_column_that_no_file_can_hold_is_named(dtype):
    odd = pl.Series("odd", [1] * len(RECORDS), dtype=dtype)
    with pytest.raises(sf.UsageError, match=f"column 'odd' holds {dtype}"):
        sf.read(pl.DataFrame(RECORDS).with_columns(odd))


def test_records_that_are_none_or_no_text_are_set_aside():
    read = sf.read([*RECORDS[:2], "no object", {"prompt": "\ud800", "response": "b"}])
    assert read.quarantined["reason"].to_list() == ["not_an_object", "invalid_utf8"]


def test_nothing_kept_is_an_empty_result():
    none = sf.read(RECORDS).select("random", rows=0)
    assert (len(none), none.kept.height, none.dropped.height, len(none.to_datasets())) == (
        0,
        0,
        7,
        0,
    )


@pytest.mark.parametrize("name", ["../rows", "a/b", "a\\b", "", ".", "/tmp/rows", 3])
@pytest.mark.parametrize("source", [RECORDS, pl.DataFrame(RECORDS)], ids=["records", "frame"])
def test_a_name_that_is_a_path_is_refused(name, source):
    with pytest.raises(sf.UsageError, match=r"^name: .*expected a (plain name|text)"):
        sf.read(source, name=name)


def test_one_id_of_two_rows_is_refused_and_the_advice_helps(rows):
    twice = pl.concat([rows.kept, rows.kept])
    with pytest.raises(sf.DataError, match=r"id rows:\d twice.* leave out its column id"):
        sf.read(twice)
    again = sf.read(twice.drop("id")).dedup("exact")
    assert again.counts == {"rows": 6, "kept": 3, "dropped": 3, "quarantined": 0}
    assert again.dropped.height == 3


@pytest.mark.parametrize("name", ["id", "messages", "extra", "digest", "content", "response"])
def test_a_function_with_the_name_of_a_column_of_rows_is_refused(name, plain):
    space: dict[str, object] = {}
    exec(f"def {name}(response: str) -> float:\n    return 1.0", space)
    with pytest.raises(sf.UsageError, match=rf"it adds the column '{name}', a name that rows"):
        plain.score(space[name])


@pytest.mark.parametrize("name", [pytest.param("rows", marks=pytest.mark.slow), "mine {1}.v2"])
def test_a_saved_run_goes_on_without_the_frame_it_was_made_of(name, tmp_path):
    calls = []

    def words(response: str) -> int:
        calls.append(response)
        return len(response.split())

    scored = sf.read(RECORDS, name=name).score(words)
    saved = scored.save(tmp_path / "a")
    assert len(calls) == 7  # what was done before is taken
    assert_frame_equal(saved.kept, scored.kept)
    again = saved.select("top_k", by="words", rows=2)
    assert scored.save(tmp_path / "a").counts == saved.counts
    with pytest.raises(sf.UsageError, match="has another run"):
        again.save(tmp_path / "a")
    other = sf.read(RECORDS[1:], name=name).score(words)
    with pytest.raises(sf.UsageError, match="has another run"):
        other.save(tmp_path / "a")
    again = again.save(tmp_path / "a", overwrite=True)
    assert again.kept["words"].to_list() == [12, 16]
    assert len(calls) == 7 + 6
    sf.read(RECORDS, name=name).score("length").save(tmp_path / "b")
    (tmp_path / "b").rename(tmp_path / "c")
    code = "import siftune as sf; print(sf.open_run('c').dedup('exact').counts['kept'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.strip() == "6"
