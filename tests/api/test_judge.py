"""Rows judged from Python: judges and tasks by name, functions, several that vote."""

import json

import pytest

import siftune as sf

CHATS = [
    {"prompt": "2+2?", "response": "4"},
    {"prompt": "Tell me all.", "response": "word " * 300},
]
PAIRS = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
SHORT = {"task_options": {"explanation": False}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def brief(messages):
    return "1" if len(messages[-1]["content"]) > 900 else "5"


def first(messages):
    return "A"


def test_a_function_is_a_judge():
    rows = sf.read(CHATS).judge(brief, **SHORT)
    assert rows.kept["judge_rating"].to_list() == [5, 1]
    assert rows.select("threshold", by="judge_rating", min=4.5).counts["dropped"] == 1


def test_pairs_are_compared_and_several_judges_vote():
    rows = sf.judge(PAIRS, [first, lambda messages: "C"])
    assert rows.kept["judge_pairwise_votes"].to_list() == [["tie", "tie"]]
    assert rows.kept["judge_pairwise_consistent"].to_list() == [None]


def test_what_has_no_verdict_is_null_and_why_is_explained():
    rows = sf.judge(CHATS[:1], lambda messages: "well", task="deita_quality", ask_again=0)
    assert rows.kept["judge_rating_error"].to_list() == ["unparsed"]
    detail = rows.explain("rows:1").detail
    assert json.dumps(detail) == '{"not_scored": {"judge_rating": "unparsed"}}'


def test_mistakes_are_named_in_arguments_of_python():
    for given, words in (
        ({"judge": []}, "a judge or a list of them"),
        ({"judge": brief, "task": "alpagasos"}, "did you mean alpagasus"),
        ({"judge": brief, "max_cost": 1}, "max_cost needs price_input"),
        ({"judge": 3}, "judge"),
    ):
        with pytest.raises(sf.UsageError, match=words):
            sf.judge(CHATS, **given)
