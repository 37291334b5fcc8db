"""What a plan says a run will cost: right for stages of a known rate, and honest about the rest."""

import gzip
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.atomic import read_json, write_json
from siftune.curate.io.source_parts import expand
from siftune.curate.runners import forecast as forecasts
from siftune.curate.runners.forecast import Records, forecast, forecast_lines, records
from siftune.curate.runners.plan import plan
from siftune.curate.runners.run import forecast_run, run
from siftune.curate.runs.recipe import parse
from siftune.curate.scorers.length import Length

LENGTH, BEST = {"score": "length"}, {"select": "top_fraction", "by": "length_words"}
STAGES = [LENGTH, {"select": "exact_dedup"}, BEST | {"fraction": 0.5}]


def lines_file(path: Path, count: int) -> Path:
    rows = ({"prompt": f"q{i}", "completion": f"word {i} " * (i % 7)} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A file of 100,000 rows, which plans count and no test changes."""
    return lines_file(tmp_path_factory.mktemp("many") / "rows.jsonl", 100_000)


def recipe(rows: Path, stages=STAGES, **more):
    return parse({"name": "t", "source": str(rows), "stages": stages, **more})


def fake_trial(
    per_row: float, once: float, left: float = 1.0, tried: list | None = None, most: int = 10**9
):
    """A trial whose stages take ``once`` and ``per_row`` seconds.

    Selectors keep the share ``left``, but no more than ``most`` rows.
    """

    def trial(recipe, folder):
        (tried if tried is not None else []).append((recipe.limit, [s.name for s in recipe.stages]))
        count = rows = recipe.limit
        stages = [{"stage": "ingest", "rows_in": count, "kept": count}]
        clock = {"ingest": {"cpu_seconds": once + per_row * count}}
        for number, spec in enumerate(recipe.stages, 1):
            label = f"{number}:{spec.name}"
            stages.append({"stage": label, "rows": rows})
            clock[label] = {"cpu_seconds": once + per_row * rows}
            if spec.group == "select":
                rows = min(round(rows * left), most)
                stages[-1] |= {"kept": rows, "measured": {"tokens": rows * 20}}
        clock["outputs"] = {"cpu_seconds": once + per_row * count}
        return {"stages": stages, "clock": clock, "counts": {"kept": rows}}

    return trial


def test_stages_of_a_known_rate_are_foretold_with_the_range_said(many, tmp_path):
    tried = []
    trial = fake_trial(per_row=1e-5, once=0.01, left=0.5, tried=tried)
    made = plan(recipe(many), tmp_path / "out")
    ingest, length, exact, best, outputs = forecast(made, tmp_path / "out", trial)
    assert [limit for limit, _ in tried] == [64, 256, 1024, 4096, 16_384]
    assert ingest.rows == Records(100_000, counted=True)
    every = 0.01 + 1e-5 * 100_000  # what is paid once is not paid for each row
    assert ingest.seconds == length.seconds == pytest.approx((every * 0.7, every * 1.5))
    growth = (100_000 / 16_384) ** 0.15
    assert exact.seconds == pytest.approx((every * 0.7, every * 1.5 * growth))
    half = 0.01 + 1e-5 * 50_000  # the least it can be is what the trial's first selector left
    assert best.seconds == pytest.approx((half * 0.7, every * 1.5 * growth))
    quarter = 0.01 + 1e-5 * 25_000  # the fraction is a half, whatever the selector before it left
    assert outputs.seconds == pytest.approx((quarter * 0.7, half * 1.5))
    assert [one.at_most for one in (ingest, length, exact, best)] == [False, False, False, True]
    assert {one.how for one in (ingest, length, exact, best)} == {"timed on the first 16,384 rows"}


@pytest.mark.parametrize(
    ("select", "kept", "least", "most"),
    [
        ({"select": "random", "rows": 600}, 600, 600, 600),
        ({"select": "random", "rows": 30_000}, 10**9, 30_000, 30_000),
        ({"select": "random", "fraction": 0.1}, 10**9, 10_000, 10_000),
        ({"select": "random", "tokens": 12_000, "tokens_by": "length_words"}, 600, 600, 900),
        ({"select": "top_k", "by": "length_words", "rows": 600}, 600, 600, 600),
        ({"select": "quota", "group_by": "source", "rows": 600}, 600, 600, 600),
        ({"select": "quota", "group_by": "source", "rows": {"rows": 600, "b": 100}}, 600, 600, 700),
        ({"select": "quota", "group_by": "extra.topic", "rows": 20}, 600, 600, 900),
        ({"select": "exact_dedup"}, 600, 600, 100_000),
    ],
)
def test_a_stage_behind_a_budget_or_a_quota_is_foretold_for_what_that_leaves(
    many, tmp_path, select, kept, least, most
):
    slow = {"score": "heuristics"}
    made = plan(recipe(many, [LENGTH, select, slow]), tmp_path / "out")
    trial = fake_trial(per_row=1e-5, once=0.0, most=kept)
    found = forecast(made, tmp_path / "out", trial)[3]
    assert found.seconds == pytest.approx((1e-5 * least * 0.7, 1e-5 * most * 1.5))
    assert (found.rows.count, found.at_most) == (most, least < most)


def test_what_a_done_or_an_earlier_selector_kept_is_known(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    some = [LENGTH, {"select": "threshold", "by": "length_words", "min": 9}]
    run(recipe(rows, some), tmp_path / "first")
    kept = pl.read_parquet(tmp_path / "first" / "kept.parquet").height
    assert 0 < kept < 1000
    made = plan(recipe(rows, [*some, {"score": "heuristics"}]), tmp_path / "first")
    found = forecast(made, tmp_path / "first", fake_trial(1e-5, 0.0))
    assert (found[3].rows.count, found[3].at_most) == (kept, False)
    beside = forecast(plan(made.recipe, tmp_path / "b"), tmp_path / "b", fake_trial(1e-5, 0.0))
    assert beside[3].seconds == pytest.approx((1e-5 * kept * 0.7, 1e-5 * 2000 * 1.5))


def test_the_tokens_that_a_budget_keeps_are_counted(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 70)
    budget = {"select": "random", "tokens": 100, "tokens_by": "length_words"}
    result = run(recipe(rows, [LENGTH, budget]), tmp_path / "out")
    told = result.manifest["stages"][2]["measured"]
    words = pl.read_parquet(tmp_path / "out" / "kept.parquet")["length_words"].sum()
    assert told == {"tokens": words}
    assert 0 < words <= 100


def test_a_slow_stage_is_tried_on_few_rows(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 50_000)
    made = plan(recipe(rows, [LENGTH]), tmp_path / "out")
    tried = []
    found = forecast(made, tmp_path / "out", fake_trial(per_row=1e-3, once=0.0, tried=tried))
    assert [limit for limit, _ in tried] == [64, 256, 64, 256]
    assert found[1].seconds == pytest.approx((50 * 0.7, 50 * 1.5))


def test_what_starting_a_run_takes_is_not_counted_for_each_row_of_many(many, tmp_path):
    made = plan(recipe(many, [LENGTH]), tmp_path / "out")
    tried = []
    trial = fake_trial(per_row=1e-5, once=0.15, tried=tried)  # three times that in each trial
    found = forecast(made, tmp_path / "out", trial)
    assert [limit for limit, _ in tried] == [64, 256, 64, 1024, 4096, 16_384]
    assert found[1].seconds == pytest.approx((1.15 * 0.7, 1.15 * 1.5))


def test_a_real_stage_that_takes_a_known_time_is_within_its_range(tmp_path, monkeypatch):
    rows, each = lines_file(tmp_path / "rows.jsonl", 30_000), 5e-5
    before = Length.__call__

    def slower(self, batch):
        end = time.thread_time() + each * batch.height
        while time.thread_time() < end:
            pass
        return before(self, batch)

    monkeypatch.setattr(Length, "__call__", slower)
    made = plan(recipe(rows, [LENGTH]), tmp_path / "out")
    found = forecast_run(made, tmp_path / "out")
    low, high = found[1].seconds
    assert low < each * 30_000 < high < 4 * each * 30_000
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("at", "times", "limits"),
    [
        (256, 1, [64, 256, 64, 256, 1024, 4096, 16_384]),
        (4096, 1, [64, 256, 1024, 4096, 4096, 16_384]),
        (4096, 2, [64, 256, 1024, 4096, 4096, 4096, 16_384]),  # one loop, then another
    ],
)
def test_what_is_compiled_amid_a_trial_is_not_counted_for_each_row(
    many, tmp_path, at, times, limits
):
    tried, fake = [], fake_trial(per_row=1e-5, once=0.01)

    def trial(recipe, folder):
        manifest = fake(recipe, folder)
        if recipe.limit == at and tried.count(at) < times:
            stage = ("1:length", "ingest")[tried.count(at)]
            manifest["clock"][stage]["cpu_seconds"] += 12.0
        tried.append(recipe.limit)
        return manifest

    found = forecast(plan(recipe(many, [LENGTH]), tmp_path / "out"), tmp_path / "out", trial)
    assert tried == limits
    assert found[1].seconds == pytest.approx((1.01 * 0.7, 1.01 * 1.5))


MODEL_STAGES = [{"score": "embedding"}, {"select": "k_center", "rows": 3}, LENGTH]


def test_what_loads_a_model_is_tried_by_itself_on_few_rows_and_what_needs_it_is_not(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    tried = []
    fake = fake_trial(0.01, 0.0, tried=tried)

    def trial(recipe, folder):
        manifest = fake(recipe, folder)
        if [names for _, names in tried].count(["embedding"]) == 1:  # the first loads it
            manifest["clock"].get("1:embedding", {})["cpu_seconds"] = 7.0
        return manifest

    made = plan(recipe(rows, MODEL_STAGES), tmp_path / "out")
    found = forecast(made, tmp_path / "out", trial)
    assert [limit for limit, names in tried if names == ["embedding"]] == [8, 8, 32, 128]
    seconds = 7 - 1.28 + 0.01 * 2000  # loading, and 0.01 s a row
    assert found[1].seconds == pytest.approx((0.7 * seconds, 1.5 * seconds))
    assert found[1].how == "model loaded, timed on the first 128 rows"
    assert (found[2].seconds, found[2].how) == (None, "not tried: it needs embedding")
    assert forecast_lines(found)[-1].endswith(", and what 2:k_center will take")


@pytest.mark.parametrize(("template", "beside"), [("none", ["perplexity"]), ("chat", [])])
def test_a_scorer_is_timed_after_one_whose_forward_passes_it_shares(tmp_path, template, beside):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    tried = []
    scores = [{"score": "perplexity"}, {"score": "ifd", "template": template}]
    made = plan(recipe(rows, [{**one, "model": "m"} for one in scores]), tmp_path / "out")
    forecast(made, tmp_path / "out", fake_trial(1.0, 0.0, tried=tried))
    names = [names for limit, names in tried if limit == 8]
    assert names == [["perplexity"], ["perplexity"], [*beside, "ifd"], [*beside, "ifd"]]


def test_no_model_is_loaded_to_foretell_what_a_few_rows_take(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 500)
    tried = []
    made = plan(recipe(rows, MODEL_STAGES), tmp_path / "out")
    found = forecast(made, tmp_path / "out", fake_trial(1e-5, 0.0, tried=tried))
    assert {tuple(names) for _, names in tried} == {("length",)}
    assert [one.seconds is None for one in found] == [False, True, True, False, False]
    assert found[1].how == "not tried: it loads a model, and there are few rows"


def test_no_model_is_trained_to_foretell_what_a_run_takes(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    tried, less = [], {"score": "less", "model": "m", "against": str(rows)}
    made = plan(recipe(rows, [less]), tmp_path / "out")
    found = forecast(made, tmp_path / "out", fake_trial(1e-5, 0.0, tried=tried))
    assert {tuple(names) for _, names in tried} == {()}
    assert (found[1].seconds, found[1].how) == (None, "not tried: it trains a model first")


def test_a_stage_that_a_few_rows_are_not_enough_for_is_not_tried(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    fake = fake_trial(1e-5, 0.0)

    def trial(recipe, folder):
        if recipe.stages and recipe.stages[-1].name == "top_fraction":
            raise UsageError("too few")
        return fake(recipe, folder)

    found = forecast(plan(recipe(rows), tmp_path / "out"), tmp_path / "out", trial)
    assert found[3].how == "not tried: a few rows are not enough (too few)"
    assert found[2].seconds is not None


def test_few_rows_are_not_timed_where_the_run_follows(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 500)
    found = forecast(plan(recipe(rows), tmp_path), tmp_path / "out", fake_trial(1, 1), least=501)
    assert {(one.rows.count, one.seconds, one.how) for one in found} == {
        (500, None, "not timed: few rows"),
        (250, None, "not timed: few rows"),  # the outputs, behind a fraction of a half
    }


def test_a_rate_of_an_earlier_run_is_taken_before_any_trial(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    run(recipe(rows), tmp_path / "first")
    manifest = read_json(tmp_path / "first" / "manifest.json")
    for clock in manifest["clock"].values():
        clock["cpu_seconds"] = 8.0
    write_json(tmp_path / "first" / "manifest.json", manifest)
    write_json(tmp_path / "other" / "manifest.json", {"of": "another tool"})
    made = plan(recipe(rows, limit=1000), tmp_path / "second")
    found = forecast(made, tmp_path / "second", fake_trial(1, 1), least=10**9)
    assert found[0].seconds == found[1].seconds == pytest.approx((4 * 0.7, 4 * 1.5))
    assert found[2].seconds == pytest.approx((2 * 0.7, 4 * 1.5))  # linear at most, square at least
    assert found[0].how == f"as in {tmp_path / 'first'} on 2,000 rows"
    changed = [LENGTH, {"select": "exact_dedup", "normalise": "whitespace"}, STAGES[2]]
    made = plan(recipe(rows, changed), tmp_path / "second")
    found = forecast(made, tmp_path / "second", fake_trial(1e-5, 0.0))
    assert [one.how.partition(" ")[0] for one in found] == ["as", "as", "timed", "as", "timed"]


@pytest.mark.parametrize(("before", "rows"), [(150, 2000), (900, 2000), (3, 30)])
def test_an_earlier_run_on_few_rows_tells_nothing_of_many(tmp_path, before, rows):
    few = lines_file(tmp_path / "few.jsonl", before)
    many = lines_file(tmp_path / "rows.jsonl", rows)
    run(recipe(few), tmp_path / "first")  # what it took was loading, not its rows
    made = plan(recipe(many), tmp_path / "second")
    found = forecast(made, tmp_path / "second", fake_trial(1e-5, 0.0))
    assert {one.how.partition(" ")[0] for one in found} == {"timed"}
    untried = forecast(made, tmp_path / "second", fake_trial(1e-5, 0.0), least=10**9)
    assert {(one.seconds, one.how) for one in untried} == {(None, "not timed: few rows")}


def test_an_earlier_run_on_half_of_few_rows_is_believed(tmp_path):
    few, more = lines_file(tmp_path / "few.jsonl", 150), lines_file(tmp_path / "rows.jsonl", 300)
    run(recipe(few), tmp_path / "first")
    made = plan(recipe(more), tmp_path / "second")
    found = forecast(made, tmp_path / "second", fake_trial(1e-5, 0.0), least=10**9)
    assert found[1].how == f"as in {tmp_path / 'first'} on 150 rows"


def test_what_is_done_costs_nothing_and_where_all_is_nothing_is_said(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    run(recipe(rows), tmp_path / "out")
    assert forecast(plan(recipe(rows), tmp_path / "out"), tmp_path / "out", fake_trial(1, 1)) == []
    changed = [*STAGES[:2], STAGES[2] | {"fraction": 0.4}]
    made = plan(recipe(rows, changed), tmp_path / "out")
    found = forecast(made, tmp_path / "out", fake_trial(1e-5, 0.0))
    assert [one.how for one in found[:3]] == ["done before"] * 3
    assert found[0].seconds == (0.0, 0.0)


def test_a_forecast_of_nearly_nothing_is_not_said(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    made = plan(recipe(rows), tmp_path / "out")
    untimed = forecast(made, tmp_path / "out", fake_trial(1, 1), least=10**9)
    done = [replace(untimed[0], seconds=(0.0, 0.0)), *untimed[1:]]
    short = [replace(untimed[0], seconds=(0.1, 0.9)), *untimed[1:]]
    assert forecast_lines(untimed) == forecast_lines(done) == forecast_lines(short, 1.0) == []
    assert len(forecast_lines(short)) == len(short) + 1


def test_ingested_rows_are_foretold_as_they_were_counted(tmp_path):
    rows = lines_file(tmp_path / "rows.jsonl", 2000)
    with rows.open("a") as file:
        file.write("no JSON\n")
    run(recipe(rows, []), tmp_path / "out")
    made = plan(recipe(rows, [LENGTH]), tmp_path / "out")
    fake = fake_trial(1e-5, 0.0)

    def trial(recipe, folder):
        manifest = fake(recipe, folder)
        manifest["stages"][0]["kept"] -= 1  # a trial reads the raw rows again
        return manifest

    assert forecast(made, tmp_path / "out", trial)[1].rows == Records(2000, counted=True)


def test_a_run_says_first_what_it_will_cost(tmp_path, monkeypatch):
    monkeypatch.setattr("siftune.curate.runners.run._FORECAST_SECONDS", 0.0)
    rows = lines_file(tmp_path / "rows.jsonl", 30)
    said = []

    class Say:
        def __call__(self, line):
            said.append(line)

        def count(self, *_, **__):
            pass

    run(recipe(rows), tmp_path / "first", say=Say(), show_forecast=True)
    assert said[0] == "ingest: running"  # so few rows are not timed
    said.clear()
    run(recipe(rows), tmp_path / "out", say=Say(), show_forecast=True)
    assert [line.split()[0] for line in said[:5]] == [
        *("ingest", "1:length", "2:exact_dedup", "3:top_fraction", "outputs")
    ]
    assert "30 rows" in said[0]
    assert said[6] == "ingest: running"


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "parquet"])
def test_small_files_are_counted_to_the_row(tmp_path, ending):
    frame = pl.DataFrame({"prompt": [f"a\n{i}" for i in range(300)], "completion": ["b, c"] * 300})
    path = tmp_path / f"rows.{ending}"
    lines = frame.write_ndjson().encode()
    if ending == "csv":
        frame.write_csv(path)
    elif ending == "parquet":
        frame.write_parquet(path)
    elif ending == "json":
        path.write_text(json.dumps(frame.rows(named=True), indent=2))
    else:
        squeeze = {"gz": gzip.compress, "zst": zstandard.compress}.get(ending[6:], bytes)
        path.write_bytes(squeeze(lines))
    assert records(expand(str(path))) == Records(300, counted=True)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_long_files_are_estimated_within_a_tenth(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(forecasts, "_COUNTED", 1 << 16)
    monkeypatch.setattr(forecasts, "_PROBE", 1 << 13)
    monkeypatch.setattr(forecasts, "_HEAD", 1 << 20)
    letters = np.random.default_rng(0).bytes(20_000 * 100).hex()
    rows = [{"prompt": "q", "completion": letters[i * 200 : i * 200 + 200]} for i in range(20_000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    squeeze = {"gz": gzip.compress, "zst": zstandard.compress}.get(ending[6:], bytes)
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(squeeze(lines))
    found = records(expand(str(path)))
    assert not found.counted
    assert found.count == pytest.approx(20_000, rel=0.1)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_rows_of_a_damaged_file_are_not_known_and_reading_it_says_why(tmp_path, ending):
    squeeze = {"gz": gzip.compress, "zst": zstandard.compress}[ending]
    rows = np.random.default_rng(0).integers(0, 10**9, 60_000).tolist()
    lines = "".join(f'{{"prompt": "{row}", "completion": "a"}}\n' for row in rows).encode()
    path = tmp_path / f"rows.jsonl.{ending}"
    whole = squeeze(lines)
    path.write_bytes(whole[: len(whole) * 9 // 10])
    if ending == "gz":
        assert records(expand(str(path))) == Records(0, counted=False)
    with pytest.raises(DataError, match=r"damaged|cut off|incomplete"):
        run(recipe(path, []), tmp_path / "out", show_forecast=True)
