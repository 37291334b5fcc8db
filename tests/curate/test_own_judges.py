"""Judges and tasks of the user's own: a mistake is one line with the row and what to do."""

import math
from typing import ClassVar

import pytest

from siftune.curate.core.custom_file import custom_thing
from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.spec import judge_backend
from siftune.curate.judge_calls.types import Answer, BackendError, Item, UnparsedError
from siftune.curate.judge_tasks.deita_quality import DeitaQuality
from siftune.curate.judging.judge_task import OwnTask
from siftune.curate.judging.rating import answered
from tests.scripted_judge import Batches, Length, items, judge_of

ROWS = [
    Item((("user", "What is up?"),), ("a",), {"id": "q1"}),
    Item((("user", "And\ndown?"),), ("bad",), {"id": "q2"}),
]


JUDGE = """
WRONG = []


def rate(question):
    found = WRONG[-1] if "\\nbad\\n" in question.messages[-1][1] else {"1": 0.5, "2": 0.5}
    return found() if callable(found) else found
"""


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A function that gives what is last in its ``WRONG`` where an answer is ``bad``."""
    file = tmp_path_factory.mktemp("own") / "judges.py"
    file.write_text(JUDGE)
    return judge_backend(f"{file}:rate")


def fails():
    raise ZeroDivisionError("by nothing")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"1": None}, "expected probabilities of 1, 2, 3, 4, 5, 6, got {'1': None}"),
        ({"1": "0.5"}, "expected probabilities of .*got {'1': '0.5'}"),
        ({"1": math.nan, "2": 1.0}, "expected probabilities"),
        ({"1": 10**400}, "expected probabilities"),
        ({"7": 1.0}, "expected probabilities"),
        ({"1": 0}, "one has to be above 0"),
        (5, "expected a text, probabilities of labels, .*got int"),
        (fails, r"line \d+: ZeroDivisionError: by nothing"),
        (lambda: Answer(probabilities={"1": None}), "a number for each label, got None for '1'"),
        (lambda: Answer(probabilities=[1.0]), "a mapping of labels, got list"),
        (lambda: Answer("1", label_mass="all"), "label_mass: expected a number, got 'all'"),
        (lambda: BackendError(429), "expected the reason as a text, got 429"),
    ],
)
def test_a_function_that_gives_no_answer_is_named_with_the_row(judge, wrong, text, tmp_path):
    custom_thing(judge.function).__globals__["WRONG"].append(wrong)
    with pytest.raises(UsageError, match=text) as error:
        list(judge_of(judge, task=DeitaQuality(), cache=tmp_path / "c").verdicts(ROWS))
    told = str(error.value)
    assert told.startswith(f"{judge.function}: ")
    assert told.endswith("; it is about row 'q2', which begins 'And down?'")
    assert "[END" not in told


def test_a_row_is_named_by_its_id_or_its_first_words():
    assert Item((("system", " "), ("user", "Hi  you")), (), {"id": 7}).place == (
        "row 7, which begins 'Hi you'"
    )
    assert Item((), ("An answer",)).place == "the row that begins 'An answer'"


@pytest.mark.parametrize("identity", [None, "", 5])
def test_a_judge_without_a_name_for_the_cache_is_named(identity):
    backend = Batches(identity=identity)
    for make in (judge_backend, lambda one: list(judge_of(one).verdicts(items(1)))):
        with pytest.raises(UsageError, match=r"Batches\.identity: expected a text .*, got"):
            make(backend)


class Own(Length):
    """A task whose methods give ``wrong``, by name."""

    wrong: ClassVar = {}

    def questions(self, item):
        answered(item)
        return self.wrong.get("questions", super().questions(item))

    def parse(self, item, question, answer):
        if answer.text == "5":
            raise UnparsedError("not five", "five")
        return self.wrong["parse"]() if "parse" in self.wrong else int(answer.text)

    def verdict(self, item, parsed):
        return self.wrong.get("verdict", super().verdict(item, parsed))


def own(**wrong):
    return OwnTask(type("Own", (Own,), {"wrong": wrong})(), "bad.py:Own")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"questions": ["How long?"]}, "questions of .*: expected a list of Question, got"),
        ({"questions": None}, "questions of .*: expected a list of Question, got None"),
        ({"parse": fails}, "parse of .*: ZeroDivisionError: by nothing"),
        ({"verdict": {}}, "verdict of .*: expected values of length, got {}"),
        ({"verdict": {"length": "long"}}, "verdict of .*: expected length as Float64, got 'long'"),
        ({"verdict": 5}, "verdict of .*: expected values of length, got 5"),
    ],
)
def test_a_task_that_fails_is_named_with_the_method_and_the_row(wrong, text):
    with pytest.raises(UsageError, match=rf"task bad\.py:Own: {text}") as error:
        list(judge_of(Batches(), task=own(**wrong)).verdicts(items(2, start=1)))
    assert "the row that begins 'hi'" in str(error.value)


def test_what_a_task_refuses_is_an_error_of_the_row():
    found = list(judge_of(Batches(), task=own(), ask_again=0).verdicts(items(6)))
    assert [one.error for one in found] == ["no_answer", None, None, None, None, "five"]
    assert found[1].values == {"length": 1.0}


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ({"adds": {}}, "adds: expected a mapping of columns to polars types, got {}"),
        ({"adds": {"length": "a number"}}, "adds: expected"),
        ({"answers": "one"}, "answers: expected how many answers a row has, .*, got 'one'"),
    ],
)
def test_a_task_with_columns_or_answers_that_cannot_be_is_refused(named, text):
    task = type("Other", (Length,), {})()
    for name, value in named.items():
        object.__setattr__(task, name, value)
    with pytest.raises(UsageError, match=text):
        OwnTask(task, "bad.py:Own")
