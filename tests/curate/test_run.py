"""A run folder: every row accounted for, resumed to the same bytes, rerun only where it changed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.core.errors import DataError, LockedError, UsageError
from siftune.curate.core.progress import NoProgress
from siftune.curate.export_files.write import export
from siftune.curate.files.atomic import hash_file, locked, read_json
from siftune.curate.files.outputs import run_folder
from siftune.curate.io.ingest import ingest
from siftune.curate.io.sources import plan as plan_sources
from siftune.curate.render import _scores, plan_text
from siftune.curate.runners.explain import row_trace
from siftune.curate.runners.plan import plan
from siftune.curate.runners.preview import preview
from siftune.curate.runners.run import OUTPUTS, run
from siftune.curate.runners.run_folder import RUN_FILES
from siftune.curate.runs.recipe import parse

ANSWERS = ["one", "one two", "one two three", "", "one two three four", "two"]
STAGES = [
    {"score": "length"},
    {"select": "threshold", "by": "length_words", "min": 1},
    {"select": "top_k", "by": "length_words", "rows": 2},
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    good = [{"instruction": f"q{i}", "input": "", "output": a} for i, a in enumerate(ANSWERS)]
    lines = [json.dumps(row) for row in good]
    path.write_text("\n".join([*lines[:3], "{broken", *lines[3:]]) + "\n")
    return path


def recipe(rows: Path, stages=STAGES, **more):
    return parse({"name": "t", "source": str(rows), "stages": stages, **more})


def hashes(out: Path) -> dict[str, str]:
    return {name: hash_file(out / name) for name in OUTPUTS}


def test_every_row_that_came_in_has_one_last_word(rows, tmp_path):
    result = run(recipe(rows), tmp_path / "out")
    ledger = pl.read_parquet(tmp_path / "out" / "ledger.parquet")
    assert ledger["id"].to_list() == [f"rows:{line}" for line in (1, 2, 3, 5, 6, 7, 4)]
    assert ledger["decision"].to_list() == [
        *("dropped", "dropped", "kept", "dropped", "kept", "dropped"),
        "quarantined",
    ]
    assert result.manifest["counts"] == {"rows": 7, "kept": 2, "dropped": 4, "quarantined": 1}
    assert pl.read_parquet(tmp_path / "out" / "kept.parquet")["length_words"].to_list() == [3, 4]


def test_the_same_again_does_no_work_and_changes_no_byte(rows, tmp_path):
    run(recipe(rows), tmp_path / "out")
    before = hashes(tmp_path / "out") | {"manifest": hash_file(tmp_path / "out" / "manifest.json")}
    again = run(recipe(rows), tmp_path / "out")
    assert again.worked == []
    after = hashes(tmp_path / "out") | {"manifest": hash_file(tmp_path / "out" / "manifest.json")}
    assert before == after


def test_a_run_of_other_sources_says_what_it_replaces(rows, tmp_path):
    told: list[str] = []

    class Lines(NoProgress):
        def __call__(self, line: str) -> None:
            told.append(line)

    run(recipe(rows, []), tmp_path / "out", say=Lines())
    run(recipe(rows, STAGES[:1]), tmp_path / "out", say=Lines())
    assert not any("replaces" in line for line in told)
    other = rows.rename(tmp_path / "other.jsonl")
    run(recipe(other, []), tmp_path / "out", say=Lines())
    replaced = f"{tmp_path / 'out'}: replaces the run of 7 rows of {rows} that was there"
    assert [line for line in told if "replaces" in line] == [replaced]


def test_a_new_threshold_reruns_only_what_depends_on_it(rows, tmp_path):
    run(recipe(rows), tmp_path / "out")
    changed = [STAGES[0], {**STAGES[1], "min": 2}, STAGES[2]]
    assert run(recipe(rows, changed), tmp_path / "out").worked == ["2:threshold", "3:top_k"]


def test_a_stage_that_others_do_not_read_leaves_them_alone(rows, tmp_path):
    run(recipe(rows), tmp_path / "out")
    more = [{"score": "heuristics"}, *STAGES]
    assert run(recipe(rows, more), tmp_path / "out").worked == ["1:heuristics"]


def test_changed_rows_are_noticed_by_content_not_by_time(rows, tmp_path):
    run(recipe(rows), tmp_path / "out")
    stamp = rows.stat()
    rows.write_text(rows.read_text().replace("one two three four", "six two three four"))
    os.utime(rows, (stamp.st_atime, stamp.st_mtime))
    assert "ingest" in run(recipe(rows), tmp_path / "out").worked


def test_a_damaged_stage_or_output_is_made_again(rows, tmp_path):
    out = tmp_path / "out"
    run(recipe(rows), out)
    before = hashes(out)
    next((out / "stages").glob("length-*.parquet")).write_bytes(b"PAR1 not")
    (out / "kept.parquet").write_bytes(b"")
    assert run(recipe(rows), out).worked == ["1:length"]
    assert hashes(out) == before


def test_files_of_others_in_the_folder_are_left_alone(rows, tmp_path):
    out = tmp_path / "out"
    run(recipe(rows), out)
    (out / "stages" / "notes-of-mine.txt").write_text("mine")
    run(recipe(rows, STAGES[:2]), out)
    assert (out / "stages" / "notes-of-mine.txt").read_text() == "mine"
    assert not list((out / "stages").glob("top_k-*"))


def test_a_dry_run_writes_nothing_and_knows_what_is_done(rows, tmp_path):
    out = tmp_path / "out"
    planned = plan(recipe(rows), out)
    assert not out.exists()
    assert [step.done for step in planned.steps] == [False] * 3
    run(recipe(rows), out)
    assert [step.done for step in plan(recipe(rows), out).steps] == [True] * 3
    assert plan_text(planned).startswith("t: 1 input file, ")
    (source,) = plan_sources([str(out)], None, {}).sources
    assert source.notes[0].endswith("a table that siftune wrote (conversation rows), read as it is")


def test_a_column_that_no_stage_adds_is_named_with_the_closest(rows, tmp_path):
    wrong = [STAGES[0], {"select": "top_k", "by": "length_word", "rows": 1}]
    with pytest.raises(
        UsageError, match=r"stage 2:top_k: .*'length_word'.*did you mean length_word"
    ):
        run(recipe(rows, wrong), tmp_path / "out")


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            [{"select": "top_k", "by": "ifd", "rows": 1}],
            "no column 'ifd': .*; the scorer ifd adds such",
        ),
        (
            [STAGES[0], {"select": "top_k", "by": "length_word", "rows": 1}],
            r"2:top_k: .*did you mean length_words\?$",
        ),
        ([STAGES[1], STAGES[0]], "1:threshold: .*; stage 2:length adds it, but later"),
        ([{"select": "k_center", "rows": 2}], "1:k_center: no column 'embedding'"),
    ],
)
def test_a_plan_refuses_columns_that_will_not_be_there(rows, tmp_path, stages, said):
    with pytest.raises(UsageError, match=said):
        plan(recipe(rows, stages), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_columns_that_stages_or_rows_bring_are_there_for_the_plan(rows, tmp_path):
    plan(recipe(rows), tmp_path / "new")
    run(recipe(rows, STAGES[:1]), tmp_path / "out")
    by_score = [{"select": "top_k", "by": "length_words", "rows": 1}]
    plan(recipe(tmp_path / "out" / "kept.parquet", by_score), tmp_path / "second")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b c", "rejected": "d"}\n' * 3)
    one_side = [STAGES[0] | {"sides": "chosen"}, {"select": "top_k", "rows": 1}]
    plan(recipe(pairs, [one_side[0], one_side[1] | {"by": "chosen_length_words"}]), tmp_path / "3")
    with pytest.raises(UsageError, match="2:top_k: no column 'rejected_length_words'"):
        plan(recipe(pairs, [one_side[0], one_side[1] | {"by": "rejected_length_words"}]), tmp_path)


def test_a_missing_source_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        run(recipe(tmp_path / "nowhere.jsonl"), tmp_path / "out")


def test_two_runs_in_one_folder_the_second_refuses(rows, tmp_path):
    (tmp_path / "out").mkdir()
    hold = "import sys,time,pathlib; from siftune.curate.files.atomic import locked\n"
    hold += "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", hold, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=str(other.pid)):
            run(recipe(rows), tmp_path / "out")
        other.send_signal(signal.SIGKILL)
    run(recipe(rows), tmp_path / "out")  # the lock of a dead process is no lock
    with locked(tmp_path / "out"):
        pass


def test_a_story_tells_scores_and_decisions_in_order(rows, tmp_path):
    run(recipe(rows), tmp_path / "out")
    told = row_trace(tmp_path / "out", "rows:2")
    assert [chapter.stage for chapter in told.chapters] == ["1:length", "2:threshold", "3:top_k"]
    assert told.chapters[0].scores["length_words"] == 2
    assert (told.final.decision, told.final.stage) == ("dropped", "3:top_k")
    quarantined = row_trace(tmp_path / "out", "rows:4")
    assert (quarantined.final.decision, quarantined.content) == ("quarantined", None)
    with pytest.raises(UsageError, match=r"an id is SOURCE:ROW, such as rows:1, rows:2, rows:3$"):
        row_trace(tmp_path / "out", "zzzz")
    with pytest.raises(UsageError, match="has no row 'rows:99'; did you mean rows:"):
        row_trace(tmp_path / "out", "rows:99")


@pytest.mark.slow  # `test_faults` kills one in the quick tests
def test_killed_at_any_moment_and_started_again_it_ends_in_the_same_bytes(tmp_path):
    rows = tmp_path / "many.jsonl"
    texts = [{"prompt": f"q{i % 700}", "completion": "word " * (i % 50)} for i in range(3000)]
    rows.write_text("".join(json.dumps(text) + "\n" for text in texts))
    (tmp_path / "recipe.yaml").write_text(
        f"source: {rows}\nstages:\n  - score: length\n  - score: heuristics\n"
        "  - select: exact_dedup\n  - select: longest\n    rows: 20\n"
    )
    command = [sys.executable, "-m", "siftune", "curate", "run", str(tmp_path / "recipe.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out: str):
        return subprocess.Popen(
            [*command, "--out", str(tmp_path / out)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    began = time.monotonic()
    assert start("whole").wait(120) == 0
    lasts = time.monotonic() - began
    for share in (0.6, 0.85):
        broken = start("broken")
        time.sleep(lasts * share)
        broken.kill()
        broken.wait()
    assert start("broken").wait(120) == 0
    assert hashes(tmp_path / "broken") == hashes(tmp_path / "whole")
    clocks = [read_json(tmp_path / out / "manifest.json") for out in ("broken", "whole")]
    for manifest in clocks:
        manifest.pop("clock")
    assert clocks[0] == clocks[1]


def test_a_score_made_again_hides_the_one_the_rows_came_with(rows, tmp_path):
    run(recipe(rows), tmp_path / "first")
    again = [{"score": "length", "of": "prompt"}]
    run(recipe(tmp_path / "first" / "kept.parquet", again), tmp_path / "second")
    kept = pl.read_parquet(tmp_path / "second" / "kept.parquet")
    assert kept["length_words"].to_list() == [1, 1]


def test_what_a_killed_run_left_half_done_is_cleared_away(rows, tmp_path):
    stages = tmp_path / "out" / "stages"
    with run_folder(tmp_path / "out", "curate run", RUN_FILES):
        (stages / ".ingest").mkdir(parents=True)
    (stages / ".ingest" / f".rows.parquet.{16 * 'a'}.part").write_text("half")
    (stages / f".length-{16 * '0'}.parquet.{16 * 'a'}.part").write_text("half")
    run(recipe(rows), tmp_path / "out")
    assert not [path for path in stages.iterdir() if path.name.startswith(".")]


def test_a_damaged_note_makes_its_stage_anew(rows, tmp_path):
    run(recipe(rows), tmp_path / "out")
    next((tmp_path / "out" / "stages").glob("length-*.json")).write_text("{")
    assert run(recipe(rows), tmp_path / "out").worked == ["1:length"]


def test_a_file_where_the_run_folder_should_be_is_refused(rows, tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UsageError, match="is a file that siftune did not write"):
        run(recipe(rows), tmp_path / "out")
    with pytest.raises(UsageError, match="is an input"):
        run(recipe(rows), rows)


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"limit": 0}, {"name": "../../x"}])
def test_a_limit_or_a_name_out_of_bounds_is_refused(rows, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        parse({"source": str(rows), **wrong})


def test_a_layout_for_another_kind_of_rows_is_refused_with_those_that_fit(rows, tmp_path):
    run(recipe(rows), tmp_path / "out")
    with pytest.raises(
        UsageError, match="conversation rows do not fit preference; these do: messages"
    ):
        export(tmp_path / "out", tmp_path / "exported", "preference")


def test_a_pipe_is_read_once_and_kept(rows, tmp_path):
    whole = run(recipe(rows), tmp_path / "whole").manifest["counts"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for attempt in ("preview", "run"):
        writer = threading.Thread(target=lambda: pipe.write_bytes(rows.read_bytes()))
        writer.start()
        if attempt == "preview":
            planned, forecasts = preview(recipe(pipe), tmp_path / "out")
            assert forecasts[0].rows.count == 7
            assert planned.inputs[0]["bytes"] == rows.stat().st_size
        else:
            assert run(recipe(pipe), tmp_path / "out").manifest["counts"] == whole
        writer.join(10)
        assert not writer.is_alive()


def test_a_source_that_is_written_to_while_it_is_read_is_refused(rows, tmp_path, monkeypatch):
    whole = rows.read_bytes()

    def growing(*given, **named):
        got = ingest(*given, **named)
        rows.write_bytes(whole + b'{"instruction": "q", "input": "", "output": "late"}\n')
        return got

    monkeypatch.setattr("siftune.curate.runners.run.ingest", growing)
    with pytest.raises(DataError, match=r"rows\.jsonl changed while it was read"):
        run(recipe(rows), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()
    assert run(recipe(rows), tmp_path / "out").manifest["counts"]["rows"] == 8


def test_glob_characters_in_the_name_of_a_run_are_plain_characters(tmp_path):
    for name, rows in (("run1", 5), ("run?", 2), ("run[1]", 3), ("run*", 4)):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(f'{{"prompt": "{at}", "completion": "b"}}\n' for at in range(rows)))
        recipe = parse(
            {"name": "glob", "source": [str(file)], "stages": [{"select": "exact_dedup"}]}
        )
        assert run(recipe, tmp_path / name).manifest["counts"]["kept"] == rows
        assert export(tmp_path / name, tmp_path / f"out-{rows}", "trl", "jsonl").rows == rows


def test_of_scores_that_found_nothing_only_their_number_is_told() -> None:
    assert _scores({"pii_count": 0, "pii_kinds": []}) == "2 are 0 or false"
    assert _scores({"pii_count": None, "pii_kinds": None}) == "2 missing"
    assert _scores({"a": 1, "b": 0, "c": None}) == "a=1, 1 are 0 or false, 1 missing"
    assert _scores({"a": 1}) == "a=1"
