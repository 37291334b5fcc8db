"""`siftune curate judge`: rows judged, labelled, forecast; a panel; the list of what there is."""

import base64
import json
import random
import re

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import siftune as sf
from siftune.curate.core.errors import PARTIAL, UsageError
from siftune.curate.judging import call_forecast
from siftune.curate.judging.call_forecast import forecast_calls
from siftune.curate.judging.predicted_sums import predicted_sum
from siftune.curate.scorers.judge_rating import JudgeRating
from siftune.pipelines.cli import siftune
from tests.judge_server import JudgeServer

JUDGE = """
import random
from pathlib import Path

from siftune.curate.judge_calls.types import Answer

ASKED = Path(__file__).with_name("asked")


def rate(question):
    with ASKED.open("a") as file:
        file.write("1\\n")
    text = question.messages[1][1]
    draw = random.Random(text)
    size = len(text.encode()) // 4 + 11  # its tokens; the price of an answer is at random
    return Answer("4", input_tokens=size, output_tokens=2, cost=round(draw.uniform(5e4, 9e5)))


def longer(messages):
    text = messages[1]["content"]
    if "torn" in text:
        return "A"
    first, second = (text.find(word) for word in ("long", "short"))
    return "C" if first < 0 or second < 0 else "A" if first < second else "B"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(JUDGE)
    return tmp_path


def write(folder, records, name="rows.jsonl"):
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))


def siftune_curate(*words, code=0):
    done = CliRunner().invoke(siftune, ["curate", *map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def rows(number):
    draw = random.Random(3)
    return [
        {"prompt": f"q{n}", "response": "word " * draw.randrange(1, 300)} for n in range(number)
    ]


def asked(folder):
    path = folder / "asked"
    return len(path.read_text().split()) if path.exists() else 0


def test_rows_are_rated(folder):
    write(folder, rows(3))
    out = siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:rate", "--out", "run")
    assert "3 rows = 3 kept" in out
    assert pl.read_parquet("run/kept.parquet")["judge_rating"].to_list() == [4.0] * 3
    again = siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:rate", "--out", "run")
    assert "every stage was done before" in again
    assert asked(folder) == 3


def test_pairs_are_compared_by_default(folder):
    write(folder, [{"prompt": "q", "chosen": "long", "rejected": "short"}])
    siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:longer", "--out", "run")
    assert pl.read_parquet("run/kept.parquet")["judge_pairwise_winner"].to_list() == ["first"]


def test_answers_to_a_prompt_become_labelled_pairs(folder):
    answers = [
        ("a", "short"),
        ("b", "torn 1"),
        ("a", "long"),
        ("b", "torn 2"),
        ("c", "x"),
        ("c", "y"),
    ]
    write(folder, [{"prompt": p, "response": r} for p, r in [*answers, ("d", "alone")]])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    siftune_curate(*words)
    kept = pl.read_parquet("run/kept.parquet")
    sides = [kept[side].list.first().struct.field("content")[0] for side in ("chosen", "rejected")]
    assert (kept.height, sides) == (1, ["long", "short"])
    assert kept["judge_pairwise_winner"].to_list() == ["first"]
    ledger = pl.read_parquet("run/ledger.parquet")
    assert dict(ledger.select("id", "reason").iter_rows()) == {
        "rows:1": "confirmed",
        "rows:2": "inconsistent",
        "rows:5": "tie",
        "rows:7": "too_few_answers",
    }
    assert "every stage was done before" in siftune_curate(*words)


def test_rows_and_answers_that_make_no_pair_have_a_decision(folder):
    answers = ["short", "long", "long 3"], ["alone"], ["same", "same"]
    records = [
        {"prompt": p, "response": r} for p, said in zip("abc", answers, strict=True) for r in said
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + "{no\n")
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    out = siftune_curate(*words, code=PARTIAL)
    assert "6 rows = 1 kept, 4 dropped, 1 quarantined" in out
    assert "dropped/equal_answers                    2" in out
    ledger = pl.read_parquet("run/ledger.parquet").select("id", "decision", "reason", "detail")
    assert ledger.rows()[:-1] == [
        ("rows:1", "kept", "confirmed", '{"winner":"first"}'),
        ("rows:3", "dropped", "odd_answer", '{"answers":3}'),
        ("rows:4", "dropped", "too_few_answers", '{"answers":1}'),
        ("rows:5", "dropped", "equal_answers", '{"answers":2}'),
        ("rows:6", "dropped", "equal_answers", '{"answers":2}'),
    ]
    assert ledger["decision"][-1] == "quarantined"
    assert "odd_answer" in siftune_curate("explain", "run", "rows:3")
    assert "rows:1" in siftune_curate("explain", "run", "rows:2")  # the pair that it is in
    assert "every stage was done before" in siftune_curate(*words, code=PARTIAL)


def test_a_call_that_succeeds_once_pairs_are_made_labels_its_pair(folder):
    """The first call fails, so the pair is made as it came; then the judge prefers its second."""
    (folder / "moody.py").write_text(MOODY)
    write(folder, [{"prompt": "a", "response": r} for r in ("short", "long")])
    words = ("judge", "rows.jsonl", "--judge", "moody.py:longer", "--label", "--out", "run")
    assert "1 rows = 1 kept" in siftune_curate(*words, "--tries", "1")
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["chosen"].list.first().struct.field("content").to_list() == ["long"]


MOODY = """
from pathlib import Path

from siftune.curate.judge_calls.types import BackendError

FAILED = Path(__file__).with_name("failed")


def longer(messages):
    if not FAILED.exists():
        FAILED.touch()
        return BackendError("timeout")
    text = messages[1]["content"]
    return "A" if text.find("long") < text.find("short") else "B"
"""


def test_any_two_answers_to_a_prompt_are_compared_where_all_pairs_are_asked_for(folder):
    write(folder, [{"prompt": "a", "response": r} for r in ("short", "long 1", "short")])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    siftune_curate(*words, "--pairs", "all")
    kept = pl.read_parquet("run/kept.parquet")  # the first and the third answer are equal
    assert kept["id"].to_list() == ["rows:1#1-2", "rows:1#2-3"]
    assert {row[0]["content"] for row in kept["chosen"]} == {"long 1"}


def test_pairs_are_labelled_anew(folder):
    write(folder, [{"prompt": "q", "chosen": "short", "rejected": "long"}])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    siftune_curate(*words)
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["chosen"].list.first().struct.field("content").to_list() == ["long"]


def test_a_quorum_of_one_judge_is_refused_and_no_label_at_all_is_said(folder):
    write(folder, [{"prompt": "q", "chosen": "x", "rejected": "y"}])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    done = CliRunner().invoke(siftune, ["curate", *words, "--quorum", "2"])
    assert "quorum: there is one judge" in str(done.exception)
    assert "no pair was labelled" in siftune_curate(*words)


def test_labels_need_two_answers_and_a_task_that_compares(folder):
    write(folder, [{"prompt": "q", "response": "alone"}])
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    done = CliRunner().invoke(siftune, ["curate", *words])
    assert "no prompt has two different answers" in str(done.exception)
    done = CliRunner().invoke(siftune, ["curate", *words, "--task", "alpagasus"])
    assert "compares no two answers" in str(done.exception)
    assert not (folder / "run").exists()


def test_ranked_answers_are_paired_in_order(folder):
    answers = ["short 1", "long 1", "long 2", "short 2", "left over"]
    record = {"prompt": "q", "completions": answers, "scores": [1, 2, 3, 4, 5]}
    write(folder, [record, {**record, "prompt": "r"}])
    siftune_curate("judge", "rows.jsonl", "--judge", "judge.py:longer", "--label", "--out", "run")
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["id"].to_list() == ["rows:1#1", "rows:1#2", "rows:2#1", "rows:2#2"]
    chosen = kept["chosen"].list.first().struct.field("content").to_list()
    assert chosen == ["long 1", "long 2"] * 2
    ledger = pl.read_parquet("run/ledger.parquet")
    dropped = ledger.filter(decision="dropped").select("id", "reason").rows()
    assert dropped == [("rows:1#3", "odd_answer"), ("rows:2#3", "odd_answer")]
    assert "rows:2#1" in siftune_curate("explain", "run", "rows:2")


def test_a_classifier_scores_both_sides_of_pairs(folder, tiny_reward_dir):
    write(folder, [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    siftune_curate(
        "judge", "rows.jsonl", "--judge", f"classifier:{tiny_reward_dir}", "--out", "run"
    )
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["chosen_judge_rating"][0] != kept["rejected_judge_rating"][0]
    assert kept["chosen_judge_rating_error"].null_count() == 1


def test_a_panel_is_several_judges(folder):
    write(folder, [{"prompt": "q", "chosen": "long", "rejected": "short"}])
    (folder / "other.py").write_text("def first(messages):\n    return 'A'\n")
    words = ("--judge", "judge.py:longer", "--judge", "other.py:first", "--out", "run")
    siftune_curate("judge", "rows.jsonl", *words)
    kept = pl.read_parquet("run/kept.parquet")
    assert kept["judge_pairwise_votes"].to_list() == [["first", "tie"]]
    assert kept["judge_pairwise_agreement"].to_list() == [0.5]


def test_biases_are_reported_with_intervals(folder):
    write(
        folder,
        [{"prompt": f"q{n}", "chosen": f"long {n}", "rejected": f"short {n}"} for n in range(40)]
        + [{"prompt": f"t{n}", "chosen": f"torn {n}", "rejected": f"torn, {n}"} for n in range(40)],
    )
    words = ("judge", "rows.jsonl", "--judge", "judge.py:longer", "--out", "run", "--report")
    found = json.loads(siftune_curate(*words, "--json").splitlines()[-1])["report"]["figures"]
    assert found["position_bias"]["value"] == pytest.approx(0.5)
    assert found["inconsistent"]["value"] == pytest.approx(0.5)
    assert found["win_rate"]["value"] == pytest.approx(0.75)
    shown = siftune_curate(*words)
    assert "position_bias  " in shown
    assert "length_controlled" in shown


def test_ratings_are_reported_by_length_and_panels_by_their_agreement(folder):
    (folder / "judge.py").write_text(
        "def longer(messages):\n    return str(min(5, len(messages[1]['content']) // 300))\n"
        "def same(messages):\n    return longer(messages)\n"
    )
    write(folder, rows(60))
    words = ("--judge", "judge.py:longer", "--judge", "judge.py:same", "--out", "run", "--report")
    found = json.loads(siftune_curate("judge", "rows.jsonl", *words, "--json"))["report"]["figures"]
    assert found["length_correlation"]["value"] > 0.9
    assert found["panel_alpha"]["value"] == pytest.approx(1)


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


def test_a_password_in_the_url_of_a_judge_is_in_no_file_and_no_line(folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    write(folder, rows(2))
    with JudgeServer() as server:
        judge = server.url.replace("//", "//me:hunter2222@") + "#m"
        recipe = {"source": "rows.jsonl", "stages": [{"score": "judge_rating", "judge": judge}]}
        (folder / "recipe.json").write_text(json.dumps(recipe))
        words = ("run", "recipe.json", "--out", "run", "--json")
        shown = [CliRunner().invoke(siftune, ["curate", *words]) for _ in range(2)]
    assert [done.exit_code for done in shown] == [0, 0]
    assert len(server.bodies) == 2
    assert server.headers[0]["authorization"].startswith("Basic ")
    (folder / "recipe.json").unlink()
    texts = [done.output.encode() for done in shown]
    texts += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    secrets = [b"hunter2222", b"sk-0123456789", base64.b64encode(b"me:hunter2222")]
    assert not [text for text in texts for secret in secrets if secret in text]


def test_a_run_that_broke_off_asks_no_answered_question_again(folder):
    write(folder, rows(150))
    (folder / "judge.py").write_text(BREAKS)
    words = ("curate", "judge", "rows.jsonl", "--judge", "judge.py:rate", "--out", "run")
    assert "RuntimeError: power" in str(CliRunner().invoke(siftune, words).exception)
    before = asked(folder)
    assert before == 2 * 64  # batches of questions, each of them answered and kept
    (folder / "up").touch()
    siftune_curate(*words[1:])
    assert asked(folder) == 150


BREAKS = """
from pathlib import Path

HERE = Path(__file__).parent


def rate(questions):
    with (HERE / "asked").open("a") as file:
        if file.tell() >= 2 * 128 and not (HERE / "up").exists():
            raise RuntimeError("power")
        file.write("1\\n" * len(questions))
    return ["4"] * len(questions)
"""


def test_what_there_is_is_listed(folder):
    out = siftune_curate("judges")
    assert "local_model" in out
    assert "deita_quality" in out
    assert "listwise (judge_ranking)" in out
    found = json.loads(siftune_curate("judges", "--json"))
    assert found["tasks"]["pairwise"].endswith(".")
    assert found["tasks"].keys() == found["scorers"].keys()
    assert found["scorers"]["ultrafeedback"] == "judge_rating"


def test_a_run_needs_a_folder_and_unscored_rows_end_partial(folder):
    write(folder, [{"prompt": "q", "response": "torn"}])
    done = CliRunner().invoke(
        siftune, ["curate", "judge", "rows.jsonl", "--judge", "judge.py:longer"]
    )
    assert "--out FOLDER" in str(done.exception)
    words = ("--judge", "judge.py:longer", "--ask-again", 0, "--out", "run")
    assert "not scored: unparsed 1" in siftune_curate("judge", "rows.jsonl", *words, "--pilot", 1)
    done = CliRunner().invoke(siftune, ["curate", "judge", "rows.jsonl", *map(str, words)])
    assert done.exit_code == PARTIAL
    assert "1:judge_rating: scored 1 rows, 1 not scored (unparsed 1)" in done.stderr
    assert "1:judge_rating: unparsed: expected a line 'Score: k'" in done.stderr


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


def test_a_key_of_a_server_is_in_no_file_and_no_line_wherever_it_was_written(folder):
    write(folder, rows(1))
    words = ("curate", "judge", "rows.jsonl", "--out", "run", "--tries", "1")
    url = "http://127.0.0.1:1/v1"
    shown = []
    for judge, options, text in (
        (f"{url}#m", ("--judge-options", "key_variable=sk-canary-0009"), "key_variable: expected"),
        (f"{url}#m", ("--judge-options", "extra_body={api_key: canary-0009}"), "like a key"),
        (f"{url}/sk-canary-0009#m", (), "4"),
    ):
        done = CliRunner().invoke(siftune, [*words, "--judge", judge, *options])
        assert text in str(done.exception)
        shown += [done.output.encode(), str(done.exception).encode()]
    shown += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not [text for text in shown if b"canary" in text]


def test_answers_without_tokens_are_forecast_by_their_bound(folder):
    pairs = [{"prompt": f"q{n}", "chosen": "long", "rejected": "short"} for n in range(6)]
    write(folder, pairs, "pairs.jsonl")
    words = ("judge", "pairs.jsonl", "--judge", "judge.py:longer", "--price-input", 1)
    text = siftune_curate(*words, "--price-output", 1, "--pilot", 3)
    assert "input tokens: not known (name the judge's tokenizer, the judge states none)" in text
    found = re.search(r"cost: at most \$([\d.]+); \$([\d.]+) is counted", text)
    assert found is not None, text
    assert float(found[1]) == pytest.approx(2 * float(found[2]), abs=2e-4)


def test_standard_input_needs_the_name_of_the_task(folder):
    line = json.dumps({"prompt": "q", "chosen": "long", "rejected": "short"})
    words = ["curate", "judge", "-", "--judge", "judge.py:longer", "--out", "run"]
    done = CliRunner().invoke(siftune, words, input=line)
    assert isinstance(done.exception, UsageError)
    assert "name what is judged, --task pairwise for pairs" in str(done.exception)


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
