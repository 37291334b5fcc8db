"""What judging takes: calls, tokens and money foretold by `--dry-run` and after a `--pilot`."""

import json
import re

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import siftune as sf
from siftune.curate.core.errors import UsageError
from siftune.curate.judging import call_forecast
from siftune.curate.judging.call_forecast import forecast_calls
from siftune.curate.judging.predicted_sums import predicted_sum
from siftune.curate.scorers.judge_rating import JudgeRating
from siftune.pipelines.cli import siftune
from tests.judge_commands import JUDGE, asked, rows, siftune_curate, write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(JUDGE)
    return tmp_path


def test_a_dry_run_asks_and_writes_nothing(folder):
    write(folder, rows(5))
    words = ("judge", "rows.jsonl", "--judge", "judge.py:rate", "--dry-run")
    out = siftune_curate(*words, "--price-input", 1, "--price-output", 2)
    assert "calls: 5 on 5 rows" in out
    assert "not known (name the judge's tokenizer, or pay a pilot)" in out
    assert "cost: at most $" in out
    assert asked(folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["judge.py", "rows.jsonl"]


def test_input_tokens_are_foretold_by_the_tokenizer_of_the_model(folder, tiny_model_dir):
    from siftune.finetune.tools.init import Init

    source = tiny_model_dir.parent / "text.txt"
    Init(vocab_size=320, hidden=32, layers=1, heads=2, context=4096, steps=0)(source, folder / "lm")
    write(folder, rows(5))
    words = ("--judge", "lm", "--task", "deita_quality", "--dry-run", "--json")
    found = json.loads(siftune_curate("judge", "rows.jsonl", *words))
    assert found["calls"] == 5
    assert found["how"] == "by the tokenizer, with its chat template"
    siftune_curate("judge", "rows.jsonl", *words[:4], "--out", "run")
    spent = pl.read_parquet("run/kept.parquet")["judge_rating_input_tokens"].sum()
    assert found["input_tokens"]["value"] == spent


def test_after_a_paid_pilot_tokens_and_cost_are_foretold_and_its_answers_count(folder):
    write(folder, rows(1_000))
    words = ("judge", "rows.jsonl", "--judge", "judge.py:rate", "--json")
    found = json.loads(siftune_curate(*words, "--pilot", 100))
    assert asked(folder) == found["answered"] == 100
    assert found["calls"] == 900
    manifest = json.loads(siftune_curate(*words, "--out", "run"))
    assert asked(folder) == 1_000
    sums = manifest["stages"][1]["sums"]
    assert found["input_tokens"]["value"] == pytest.approx(sums["input_tokens"], rel=0.02)
    assert found["cost"]["value"] == pytest.approx(sums["cost"], rel=0.15)
    assert found["cost"]["low"] < sums["cost"] < found["cost"]["high"]
    assert found["cost"]["high"] < 1.15 * found["cost"]["value"]
    assert found["cost_left"]["value"] == pytest.approx(found["cost"]["value"] - found["paid"])
    assert found["most_output_tokens_left"] == 0.9 * found["most_output_tokens"]


def test_a_dry_run_of_a_recipe_has_the_calls_and_money_of_its_judges(folder):
    write(folder, rows(40))
    judge = {"score": "judge_rating", "judge": "judge.py:rate", "price_input": 3.0}
    keep = {"select": "random", "rows": 10}
    recipe = {"source": "rows.jsonl", "stages": [judge, keep, {**judge, "column": "again"}]}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    out = siftune_curate("run", "recipe.yaml", "--dry-run")
    assert "1:judge_rating: calls: 40 on 40 rows" in out
    assert "3:judge_rating: calls: 10 on 10 rows" in out
    assert "1:judge_rating: cost: at most $" in out
    assert asked(folder) == 0
    siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:rate", "--pilot", 20)
    out = siftune_curate("run", "recipe.yaml", "--dry-run")
    assert "1:judge_rating: calls: 20 on 40 rows (20 answers are in the cache)" in out
    tokens = (
        r"1:judge_rating: input tokens: [\d,]+.* in all, [\d,]+.* left \(from 20 answered rows\)"
    )
    assert re.search(tokens, out)
    assert re.search(
        r"1:judge_rating: cost: \$0\.0.* in all, \$0\.0.* left; \$0\.0\d+ is paid", out
    )
    assert asked(folder) == 20
    siftune_curate("run", "recipe.yaml", "--out", "run")  # both stages ask the same
    assert asked(folder) == 40


def test_the_interval_of_a_sum_covers_it():
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        x = np.column_stack([np.ones(1_000), draw.lognormal(6, 0.7, 1_000)])
        y = x @ (3.0, 0.5) + draw.exponential(200.0, 1_000)
        found = predicted_sum(x[:100], y[:100], x[100:])
        covered += found.low <= y[100:].sum() <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_tokens_for_reasoning_are_part_of_the_forecast(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = sf.read([{"prompt": "q", "response": "a"}]).kept
    given = {"judge": "http://h/v1#m", "task": "alpagasus", "task_options": {"explanation": False}}
    scorer = JudgeRating(**given, judge_options={"extra_tokens": 1_000})
    assert forecast_calls(scorer, [rows]).most_output_tokens == 1_016


def test_a_pilot_under_a_cap_names_the_run_that_counts_its_money(folder):
    write(folder, rows(12))
    words = ("curate", "judge", "rows.jsonl", "--judge", "judge.py:rate", "--pilot", "2")
    words += ("--max-cost", "1", "--price-input", "1")
    refused = CliRunner().invoke(siftune, words).exception
    assert isinstance(refused, UsageError)
    assert "--out FOLDER" in str(refused)
    assert asked(folder) == 0
    siftune_curate(*words[1:], "--account", "mine")
    assert asked(folder) == 2


def test_a_dry_run_with_all_answers_has_nothing_left_to_pay(folder):
    write(folder, rows(2))
    (folder / "text.py").write_text("def rate(question):\n    return '3'\n")
    words = ("judge", "rows.jsonl", "--judge", "text.py:rate", "--price-input", 1)
    siftune_curate(*words, "--out", "run")
    out = siftune_curate(*words, "--dry-run")
    assert "cost: nothing is left to pay" in out


def test_answers_without_tokens_are_forecast_by_their_bound(folder):
    pairs = [{"prompt": f"q{n}", "chosen": "long", "rejected": "short"} for n in range(6)]
    write(folder, pairs, "pairs.jsonl")
    words = ("judge", "pairs.jsonl", "--judge", "judge.py:longer", "--price-input", 1)
    text = siftune_curate(*words, "--price-output", 1, "--pilot", 3)
    assert "input tokens: not known (name the judge's tokenizer, the judge states none)" in text
    found = re.search(r"cost: at most \$([\d.]+); \$([\d.]+) is counted", text)
    assert found is not None, text
    assert float(found[1]) == pytest.approx(2 * float(found[2]), abs=2e-4)


def test_a_panel_is_foretold_by_row_and_judge(folder):
    """Rows count once, and a judge whose tokens can be counted needs no pilot."""
    write(folder, rows(60))
    (folder / "other.py").write_text("def rate(messages):\n    return '3'\n")
    words = ("judge", "rows.jsonl", "--judge", "judge.py:rate", "--judge", "other.py:rate")
    out = siftune_curate(*words, "--dry-run")
    assert "calls: 120 on 60 rows" in out
    assert "not known (name the tokenizer of judge.py:rate, or pay a pilot; name the tok" in out
    out = siftune_curate(*words, "--pilot", 20)
    assert "calls: 80 on 60 rows (40 answers are in the cache)" in out
    assert "20 rows are judged" in out
    assert "not known (name the tokenizer of other.py:rate, the judge states none)" in out
    found = json.loads(siftune_curate(*words, "--dry-run", "--json"))
    assert (found["rows"], found["answered"], found["calls"]) == (60, 20, 80)


def test_what_judges_take_is_added(folder, monkeypatch):
    monkeypatch.chdir(folder)
    given = {"judge": "judge.py:rate", "panel": ("smollm2",), "price_input": 1.0, "cache": "c"}
    table = sf.read([{"prompt": f"q{n}", "response": "good " * n} for n in range(1, 41)]).kept
    scorer = JudgeRating(**given, task="deita_quality")
    list(scorer.judged(0, scorer.engine(0), table[:20]))
    counted = lambda questions: [10 for _ in questions]  # noqa: E731
    monkeypatch.setattr(call_forecast, "_tokens_of", lambda model: counted)
    one = forecast_calls(JudgeRating(**{**given, "panel": ()}, task="deita_quality"), [table])
    both = forecast_calls(scorer, [table])
    assert (both.rows, both.answered, both.calls) == (40, 0, 60)
    assert both.input_tokens.value == one.input_tokens.value + 400
    assert both.how == "from 20 answered rows; by the tokenizer, with its chat template"
    assert (both.cost, both.cost_left, both.paid) == (one.cost, one.cost_left, one.paid)
    assert both.output_tokens is None
    assert "; $0.0" in both.lines()[-1]
