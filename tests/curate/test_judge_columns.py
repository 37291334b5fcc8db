"""Scorers that ask a judge: columns, errors, the ledger, what is asked again, exit code 4."""

import json

import polars as pl
import pytest
from click.testing import CliRunner

from siftune.curate.core.errors import PARTIAL, UsageError
from siftune.curate.core.progress import NoProgress
from siftune.curate.core.registry import build
from siftune.curate.judge_calls.responses import answer_of
from siftune.curate.judge_calls.types import Answer, Verdict
from siftune.curate.rows.score_errors import score_sums
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from siftune.curate.scorers.judge_pairwise import JudgePairwise
from siftune.curate.scorers.judge_rating import JudgeRating
from siftune.pipelines.cli import siftune

JUDGE = """
from pathlib import Path

from siftune.curate.judge_calls.types import Answer, BackendError

ASKED = Path(__file__).with_name("asked")


def rate(question):
    with ASKED.open("a") as file:
        file.write("1\\n")
    text = question.messages[1][1]  # also where it is asked again
    if "down" in text and not ASKED.with_name("up").exists():
        return BackendError("timeout", "no answer", permanent=True)
    if "odd" in text:
        return "It is hard to say."
    return Answer(str(text.count("good")), input_tokens=100, output_tokens=2)


def longer(question):
    text = question.messages[-1][1]
    first, second = text.find("long"), text.find("short")
    return "C" if "same" in text else "A" if "first" in text or first < second else "B"
"""
ROWS = ["good good", "odd", "down", "good"]


@pytest.fixture
def judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text(JUDGE)
    lines = (json.dumps({"prompt": f"q{n}", "response": text}) for n, text in enumerate(ROWS))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return tmp_path


def asked(folder):
    return len((folder / "asked").read_text().split())


RATE = {"score": "judge_rating", "judge": "judge.py:rate", "task_options": {"explanation": False}}


def ran(folder, *stages, out="run"):
    recipe = parse({"name": "x", "source": ["rows.jsonl"], "stages": [*stages]})
    return run(recipe, folder / out)


def ledger(folder, out="run"):
    table = pl.read_parquet(folder / out / "ledger.parquet")
    return {
        row["id"]: (row["reason"], json.loads(row["detail"] or "{}"))
        for row in table.iter_rows(named=True)
    }


def test_what_is_not_rated_is_null_with_a_reason_and_ends_in_the_ledger(judge):
    result = ran(judge, RATE, {"select": "threshold", "by": "judge_rating", "min": 1.5})
    scores = pl.read_parquet(next((judge / "run/stages").glob("judge_rating-*.parquet")))
    assert scores["judge_rating"].to_list() == [2, None, None, 1]
    assert scores["judge_rating_error"].to_list() == [None, "unparsed", "timeout", None]
    assert scores["judge_rating_input_tokens"].to_list() == [100, None, None, 100]
    found = ledger(judge)
    assert found["rows:2"] == (
        "not_scored",
        {"by": "judge_rating", "min": 1.5, "value": None} | {"error": "unparsed"},
    )
    assert found["rows:3"][1]["error"] == "timeout"
    assert "error" not in found["rows:4"][1]
    assert result.failed == 2
    assert result.manifest["stages"][1]["errors"] == {"timeout": 1, "unparsed": 1}


def test_a_panel_of_two_servers_with_one_name_of_a_model_is_refused():
    given = {"judge": "http://a/v1#local", "task": "alpagasus", "panel": ("http://b/v1#local",)}
    with pytest.raises(UsageError, match=r"two judges are 'server:local' .* the option name"):
        _ = JudgeRating(**given).backends
    named = JudgeRating(**given, judge_options={"name": "strong"})
    assert named.describe()["judge"] == "server:local strong, server:local"
    panel = ({"backend": "http://b/v1#local", "name": "b"},)
    made = build("curate.scorers", "judge_rating", {**given, "panel": panel})
    assert made.describe()["judge"] == "server:local, server:local b"


def test_each_judge_has_its_own_price(judge):
    (judge / "up").touch()
    (judge / "dear.py").write_text(JUDGE)
    panel = {**RATE, "panel": ["dear.py:rate"], "price_input": 1.0}
    ran(judge, {**panel, "prices": {"dear.py:rate": {"input": 5.0, "output": 50.0}}})
    kept = pl.read_parquet(judge / "run/kept.parquet")
    assert kept["judge_rating_cost"][0] == 0.0001 + 0.0006
    local = JudgeRating(judge="smollm2", task="alpagasus", panel=("http://h/v1#m",), price_input=1)
    assert [one.input for one in local.judge_prices] == [0.0, 1.0]
    for prices, text in (
        ({"other": {}}, "prices: no judge is other; the judges are smollm2"),
        ({"smollm2": {"in": 1}}, "prices of smollm2: expected input, output"),
    ):
        with pytest.raises(UsageError, match=text):
            JudgeRating(judge="smollm2", task="alpagasus", prices=prices)


def test_rows_that_a_run_keeps_unscored_are_named_too(judge):
    ran(judge, RATE)
    assert ledger(judge)["rows:3"] == ("read", {"not_scored": {"judge_rating": "timeout"}})
    assert ledger(judge)["rows:1"] == ("read", {})


def test_the_same_run_again_asks_only_what_failed_by_the_call(judge):
    ran(judge, RATE)
    before = asked(judge)
    ran(judge, RATE)
    assert asked(judge) == before + 1
    (judge / "up").touch()
    result = ran(judge, RATE)
    assert asked(judge) == before + 2
    assert result.manifest["stages"][1]["errors"] == {"unparsed": 1}
    assert ran(judge, RATE).worked == []
    assert asked(judge) == before + 2


def test_another_run_takes_all_answers_from_the_cache_of_the_project(judge):
    (judge / "up").touch()
    ran(judge, RATE)
    before = asked(judge)
    result = ran(judge, {**RATE, "price_input": 2.0, "replay": True}, out="other")
    assert asked(judge) == before
    kept = pl.read_parquet(judge / "other/kept.parquet")
    assert kept["judge_rating_cost"].to_list() == [0.0002, None, 0.0002, 0.0002]
    assert result.failed == 1


def test_the_command_ends_partial_where_rows_are_unscored(judge):
    words = ["curate", "score", "rows.jsonl", "judge_rating", "--judge", "judge.py:rate"]
    done = CliRunner().invoke(siftune, [*words, "--out", "run"])
    assert done.exit_code == PARTIAL
    (judge / "rows.jsonl").write_text(json.dumps({"prompt": "q", "response": "good"}))
    done = CliRunner().invoke(siftune, [*words, "--out", "run", "--overwrite"])
    assert done.exit_code == 0, done.output


def test_a_pair_is_compared_in_both_orders(judge):
    pairs = pl.DataFrame(
        {
            "prompt": ["a", "b", "c", "d"],
            "chosen": ["a long one", "short", "first", "a same one"],
            "rejected": ["short", "a long one", "the other", "the same"],
        }
    )
    scores = JudgePairwise(judge="judge.py:longer")(pairs)
    shown = scores.select(pl.all().name.replace("judge_pairwise_", ""))
    assert shown["winner"].to_list() == ["first", "second", "tie", "tie"]
    assert shown["preference"].to_list() == [1, 0, 0.5, 0.5]
    assert shown["consistent"].to_list() == [True, True, False, True]
    assert shown["first_position"].to_list() == [1, 1, 2, 1]
    assert shown["error"].null_count() == 4


@pytest.mark.parametrize(
    ("scorer", "options", "words"),
    [
        ("judge_rating", {"task": "pairwise"}, "the task pairwise gives no number of one answer"),
        ("judge_pairwise", {"task": "alpagasus"}, "the task alpagasus compares no pairs"),
        ("judge_pairwise", {"task": "instag"}, "the task instag compares no pairs"),
        ("judge_ranking", {"task": "pairwise"}, "ranks no answers"),
        ("tags", {"task": "critique"}, "gives no tags"),
        ("judgement", {"task": "pairwise"}, "is not about one conversation"),
        ("judge_rating", {"task": "alpagasos"}, "did you mean alpagasus"),
        ("judge_rating", {"task_options": {"dimensions": "x"}}, "did you mean dimension"),
        ("judge_rating", {"judge": "http://host/v1"}, "name the model"),
        ("judge_rating", {"max_cost": 1}, "max_cost needs price_input"),
        ("judge_rating", {"column": "a b"}, "expected a word"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(scorer, options, words):
    with pytest.raises(UsageError, match=words):
        build("curate.scorers", scorer, {"judge": "smollm2", **options})


def test_a_judge_is_a_component_with_its_options(judge):
    scorer = JudgeRating(judge={"backend": "scripted", "function": "judge.py:rate"})
    assert scorer(pl.DataFrame({"prompt": ["q"], "response": ["good"]}))["judge_rating"][0] == 1
    with pytest.raises(UsageError, match="expected the name or folder"):
        JudgeRating(judge={"function": "judge.py:rate"})


def test_two_stages_of_one_scorer_have_names_of_their_own():
    scorer = JudgeRating(judge="smollm2", task="deita_quality", column="quality")
    assert list(scorer.adds)[:3] == [
        "judge_rating_quality",
        "judge_rating_quality_quality_turns",
        "judge_rating_quality_error",
    ]


def test_columns_of_the_rows_are_given_to_the_task(judge):
    reply = "return 'Heard.' if 'too terse' in messages[1]['content'] else '?'"
    (judge / "judge.py").write_text(f"def reply(messages):\n    {reply}")
    rows = pl.DataFrame({"prompt": ["q"], "response": ["a"], "said": ["too terse"]})
    scorer = build(
        "curate.scorers",
        "judgement",
        {"judge": "judge.py:reply", "task": "revision", "given": {"critique": "said"}},
    )
    assert scorer(rows)["judgement_revision"][0] == "Heard."


def test_a_file_of_principles_is_part_of_what_scores_depend_on(judge):
    file = judge / "principles.txt"
    described = []
    for text in ("Be kind.", "Be brief."):
        file.write_text(text)
        options = {"judge": "judge.py:rate", "task_options": {"principles": str(file)}}
        described.append(build("curate.scorers", "judgement", options).describe())
    assert described[0]["task_options"] == {"principles": ["Be kind."]}
    assert described[0] != described[1]


def test_a_task_of_your_own_is_a_class_in_a_file(judge):
    (judge / "task.py").write_text(TASK)
    scorer = JudgeRating(judge="judge.py:rate", task="task.py:Words", task_options={"most": 3})
    assert scorer(pl.DataFrame({"prompt": ["q"], "response": ["good"]}))["judge_rating"][0] == 3
    with pytest.raises(UsageError, match=r"task judge\.py:rate lacks adds"):
        JudgeRating(judge="judge.py:rate", task="judge.py:rate")


TASK = """
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.judge_calls.types import Question


@dataclass(frozen=True)
class Words:
    most: int = 5
    answers: ClassVar = 1
    adds: ClassVar = {"words": pl.Float64}

    def questions(self, item):
        return [Question((("system", ""), ("user", item.answers[0])))]

    def parse(self, item, question, answer):
        return self.most

    def verdict(self, item, parsed):
        return {"words": parsed[0]}
"""


def test_labels_that_the_judge_hardly_thinks_of_are_an_error(judge):
    (judge / "unsure.py").write_text(UNSURE)
    rows = pl.DataFrame({"prompt": ["q"] * 3, "response": ["a", "unsure", "text"]})
    options = {"judge": "unsure.py:rate", "task": "deita_quality"}
    any_mass = JudgeRating(**options)(rows)
    assert any_mass["judge_rating_label_mass"].to_list() == [0.9, 0.01, None]
    assert any_mass["judge_rating"].null_count() == 0
    scores = JudgeRating(**options, min_label_mass=0.5)(rows)
    assert scores["judge_rating_error"].to_list() == [None, "label_mass", None]
    assert scores["judge_rating"].is_null().to_list() == [False, True, False]


UNSURE = """
from siftune.curate.judge_calls.types import Answer


def rate(question):
    text = question.messages[1][1]
    if "text" in text.split("[BEGIN answer")[1]:
        return "3"
    shares = {label: 1 / len(question.labels) for label in question.labels}
    return Answer(None, shares, label_mass=0.01 if "unsure" in text else 0.9)
"""


def test_a_panel_votes_and_says_how_much_its_judges_agree(judge):
    (judge / "judge.py").write_text(PANEL)
    rows = pl.DataFrame({"prompt": ["q"] * 3, "response": ["a", "hard", "torn"]})
    scorer = JudgeRating(
        judge="judge.py:low", panel=("judge.py:high", "judge.py:odd"), task="additive", ask_again=0
    )
    scores = scorer(rows)
    assert scores.schema == pl.Schema(scorer.adds)
    assert scores["judge_rating"].to_list() == [2.0, 3.0, None]
    assert scores["judge_rating_agreement"].to_list() == [None, None, None]  # numbers have a spread
    assert scores["judge_rating_votes"].to_list() == [[1, 4, 1], [1, 5, None], None]
    assert scores["judge_rating_judges"].to_list() == [3, 2, None]
    assert scores["judge_rating_error"].to_list() == [None, None, "no_quorum"]
    with pytest.raises(UsageError, match="a judge is named twice"):
        JudgeRating(judge="m", panel=("m",))


PANEL = """
def low(messages):
    return "?" if "torn" in messages[1]["content"] else "Score: 1"


def high(messages):
    return "Score: 5" if "hard" in messages[1]["content"] else "Score: 4"


def odd(messages):
    text = messages[1]["content"]
    return "?" if "hard" in text or "torn" in text else "Score: 1"
"""


def test_calibration_divides_out_a_liking_for_a_score(judge):
    (judge / "liking.py").write_text(
        "def rate(question):\n"
        "    k = question.messages[1][1].count('good')\n"
        "    return {'0': 1 + k, '1': 1, '2': 1, '3': 1, '4': 1, '5': 9}\n"
    )
    options = {"judge": "liking.py:rate", "task_options": {"explanation": False}, "cache": "a"}
    rows = pl.DataFrame({"prompt": ["q"], "response": ["good"]})
    biased, fair = (
        build("curate.scorers", "judge_rating", {**options, "calibrate": one})(rows)
        for one in (False, True)
    )
    assert biased["judge_rating"].to_list() == pytest.approx([(10 + 45) / 15])
    assert fair["judge_rating"].to_list() == pytest.approx([15 / 7])


def test_a_stage_reads_what_an_earlier_one_wrote(judge):
    (judge / "judge.py").write_text(WRITER)
    critique = {"score": "judgement", "judge": "judge.py:write"}
    read = {"critique": "judgement_critique", "principle": "judgement_principle"}
    revision = {**critique, "task": "revision", "column": "revised", "given": read}
    drawn_up = {**critique, "task": "checklist_items", "column": "list"}
    listed = {"checklist": "judgement_list_checklist"}
    checked = {"score": "judge_rating", "judge": "judge.py:write", "task": "checklist"}
    ran(judge, critique, revision, drawn_up, {**checked, "given": listed})
    kept = pl.read_parquet(judge / "run/kept.parquet")
    assert kept["judgement_revised_revision"].to_list() == ["A better answer."] * 4
    assert kept["judgement_revised_principle"].equals(kept["judgement_principle"])
    assert kept["judge_rating"].to_list() == [0.25] * 4


WRITER = """
def write(messages):
    rubric, data = messages[0]["content"], messages[1]["content"]
    if "checklist" in rubric.lower() and "criterion" not in data:
        return '[{"text": "Is it short?", "weight": 30, "check": null}, ' \\
            '{"text": "Is it kind?", "weight": 10, "check": null}]'
    if "Is it short?" in data:
        return "No"
    if "Is it kind?" in data:
        return "Yes"
    return "A better answer." if "too terse" in data else "It is too terse."
"""


SERVERS = {"judge": "http://h/v1#a", "panel": ("http://h/v1#b",), "task": "alpagasus"}


def test_a_cap_needs_the_price_of_every_judge():
    paid = {"http://h/v1#a": {"input": 1, "output": 1}}
    with pytest.raises(UsageError, match="max_cost: the judge http://h/v1#b has no price"):
        JudgeRating(**SERVERS, max_cost=1.0, prices=paid)
    free = JudgeRating(**SERVERS, max_cost=1.0, prices={**paid, "http://h/v1#b": {"input": 0}})
    assert [one.max_cost for one in free.engines] == [1.0, 1.0]  # it may state costs, after all
    local = JudgeRating(**{**SERVERS, "panel": ("smollm2",)}, max_cost=1.0, prices=paid)
    assert local.prices_known == [True, True]


def test_a_quorum_of_more_judges_than_there_are_is_refused():
    with pytest.raises(UsageError, match="quorum: 5 of 2 judges can never give a verdict"):
        JudgeRating(**SERVERS, quorum=5)


def test_calibration_of_a_server_is_refused_before_it_is_asked():
    with pytest.raises(UsageError, match="a chat server gives no probabilities"):
        JudgeRating(**SERVERS, calibrate=True)


def test_tokens_that_no_column_holds_are_not_known():
    verdict = Verdict({"rating": 3.0}, answers=(Answer("3", input_tokens=1 << 33, cost=5),) * 2)
    spent = JudgeRating(**SERVERS).spent(verdict)
    assert (spent["input_tokens"], spent["cost"]) == (None, 1e-8)
    usage = b'{"choices": [{"message": {"content": "3"}}], "usage": {"prompt_tokens": %d,'
    usage += b'"completion_tokens": 1}}'
    assert answer_of(usage % (1 << 33)).input_tokens is None
    assert answer_of(usage % 1_000_000).input_tokens == 1_000_000
    whole = pl.DataFrame({"a_input_tokens": pl.Series([2**32 - 1] * 2, dtype=pl.UInt32)})
    assert score_sums(whole, ["input_tokens"]) == {"input_tokens": 2**33 - 2}


def test_a_second_stage_says_what_it_replaces_and_what_keeps_both(judge):
    ran(judge, RATE)
    told = []

    class Lines(NoProgress):
        def __call__(self, line):
            told.append(line)

    for column in ("again", ""):
        stages = [{**RATE, "column": column}]
        run(parse({"name": "x", "source": ["run"], "stages": stages}), judge / "two", say=Lines())
    assert [line for line in told if "replaces" in line] == [
        "1:judge_rating: replaces judge_rating and 5 more columns that the rows came with; the "
        "option column keeps both"
    ]


def test_a_replay_of_a_finished_run_needs_its_cache(judge):
    ran(judge, {**RATE, "cache": "answers"})
    for again in (RATE, {**RATE, "replay": True, "cache": "answers"}):
        ran(judge, again)
    with pytest.raises(UsageError, match="replay: there is no cache lost"):
        ran(judge, {**RATE, "replay": True, "cache": "lost"})
