"""The engine of a judge with backends in this process and tasks of one number."""

import asyncio
import itertools
import re
import sqlite3
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.judging.answer_cache import AnswerCache
from siftune.curate.judging.engine import Judge
from siftune.curate.judging.spending import BILLION, Prices
from siftune.curate.judging.types import Answer, BackendError, Item, Question, UnparsedError
from tests.judge_server import FakeTime


@dataclass(frozen=True)
class Length:
    """How long is the answer? Asked ``times`` times over; the numbers are added."""

    answers: int | None = 1
    adds: ClassVar = {"length": pl.Float64}
    times: int = 1
    version: str = "1"

    def questions(self, item):
        text = ("user", f"How long is: {item.answers[0]}")
        return [
            Question((text,), max_tokens=8, version=f"{self.version}.{number}")
            for number in range(self.times)
        ]

    def parse(self, item, question, answer):
        found = re.fullmatch(r"\d+", answer.text)
        if found is None:
            raise UnparsedError("expected a whole number")
        return int(found[0])

    def verdict(self, item, parsed):
        return {"length": float(sum(parsed))}


def length_of(question):
    """What a judge that is always right answers."""
    return str(len(question.messages[0][1].removeprefix("How long is: ")))


@dataclass
class Scripted:
    """``reply`` gives the answer to a question, or fails."""

    reply: object = length_of
    identity: str = "scripted"
    asked: list = field(default_factory=list)

    def _one(self, question):
        try:
            said = self.reply(question)
        except BackendError as error:
            return error
        return said if isinstance(said, Answer) else Answer(said, input_tokens=10, output_tokens=1)


class Batches(Scripted):
    """A backend in this process."""

    def answer(self, questions):
        self.asked += questions
        return [self._one(question) for question in questions]


@dataclass
class Server(Scripted):
    """A server, of which ``most`` requests were open at once."""

    open: int = 0
    most: int = 0
    seconds: float = 0.0

    async def ask(self, question):
        self.asked.append(question)
        self.open += 1
        self.most = max(self.most, self.open)
        said = self._one(question)
        await asyncio.sleep(self.seconds)
        self.open -= 1
        if isinstance(said, BackendError):
            raise said
        return said

    async def close(self):
        pass


def items(number, start=0):
    return [Item((("user", "hi"),), ("x" * n,)) for n in range(start, start + number)]


def judge_of(backend, *, task=None, **options):
    time = FakeTime()
    judge = Judge(backend, task or Length(), clock=time.clock, sleep=time.sleep, **options)
    judge.time = time
    return judge


KINDS = pytest.mark.parametrize("kind", [Batches, Server])


@KINDS
def test_verdicts_come_in_the_order_of_items(kind):
    judge = judge_of(kind(), in_flight=3, batch=4)
    assert [v.values for v in judge.verdicts(items(30))] == [
        {"length": float(n)} for n in range(30)
    ]
    assert (judge.totals.items, judge.totals.asked, judge.totals.input_tokens) == (30, 30, 300)


@KINDS
def test_items_are_taken_as_verdicts_are_given_out(kind):
    taken = []
    judge = judge_of(kind(), in_flight=2, batch=4)
    verdicts = judge.verdicts(taken.append(n) or item for n, item in enumerate(items(100)))
    next(verdicts)
    assert len(taken) <= 8
    verdicts.close()


@KINDS
def test_an_answered_question_is_never_asked_again(tmp_path, kind):
    first, second = kind(), kind()
    before = list(judge_of(first, cache=tmp_path / "c").verdicts(items(10)))
    after = list(judge_of(second, cache=tmp_path / "c").verdicts(items(12)))
    assert len(first.asked) == 10
    assert len(second.asked) == 2
    assert [v.values for v in after[:10]] == [v.values for v in before]
    assert [(v.asked, v.cached) for v in after] == [(0, 1)] * 10 + [(1, 0)] * 2


@KINDS
def test_what_is_committed_when_a_run_ends_abruptly_is_what_was_answered(tmp_path, kind):
    backend = kind()
    verdicts = judge_of(backend, cache=tmp_path / "c", in_flight=2, batch=4).verdicts(items(50))
    next(verdicts)
    with sqlite3.connect(tmp_path / "c") as other:  # while the run goes on
        assert other.execute("SELECT count(*) FROM answers").fetchone()[0] >= 1
    verdicts.close()
    again = kind()
    list(judge_of(again, cache=tmp_path / "c").verdicts(items(50)))
    assert len(again.asked) <= 49


@KINDS
@pytest.mark.parametrize(
    "change",
    [
        lambda judge: replace(judge, task=Length(version="2")),
        lambda judge: replace(judge, backend=replace(judge.backend, identity="another")),
    ],
)
def test_another_rubric_or_model_is_asked_anew(tmp_path, kind, change):
    list(judge_of(kind(), cache=tmp_path / "c").verdicts(items(3)))
    judge = change(judge_of(kind(), cache=tmp_path / "c"))
    list(judge.verdicts(items(3)))
    assert judge.totals.asked == 3


@KINDS
def test_equal_questions_are_asked_once(kind):
    backend = kind()
    backend.seconds = 0.2  # of a server: all six are in flight
    judge = judge_of(backend, in_flight=8)
    verdicts = list(judge.verdicts(items(1, start=5) * 6))
    assert judge.totals.asked == 1
    assert [v.values for v in verdicts] == [{"length": 5.0}] * 6
    assert [v.asked for v in verdicts] == [1, 0, 0, 0, 0, 0]


@KINDS
def test_an_answer_without_a_number_is_asked_again_with_what_was_expected(kind):
    backend = kind(lambda q: "4" if len(q.messages) == 5 else "four, I think")
    judge = judge_of(backend)
    (verdict,) = judge.verdicts(items(1, start=4))
    assert verdict.values == {"length": 4.0}
    assert judge.totals.asked_again == 2
    assert backend.asked[-1].messages[1:3] == (
        ("assistant", "four, I think"),
        (
            "user",
            "That answer cannot be used: expected a whole number. Answer again in the form asked"
            " for.",
        ),
    )


@KINDS
def test_what_never_parses_has_no_value(kind):
    judge = judge_of(kind(lambda q: "no idea"), ask_again=1)
    (verdict,) = judge.verdicts(items(1))
    assert (verdict.values, verdict.error) == (None, "unparsed")
    assert (verdict.detail, verdict.asked) == ("expected a whole number", 2)
    assert judge.totals.unscored == 1


@KINDS
def test_a_failure_that_passes_is_tried_again(kind):
    failures = iter([BackendError("http_500"), BackendError("connection")])

    def reply(question):
        for failure in failures:
            raise failure
        return length_of(question)

    judge = judge_of(kind(reply))
    (verdict,) = judge.verdicts(items(1, start=3))
    assert verdict.values == {"length": 3.0}
    assert (verdict.asked, judge.totals.failed) == (3, 2)


@KINDS
def test_a_failure_that_stays_ends_after_five_tries_without_a_value(tmp_path, kind):
    def reply(question):
        raise BackendError("http_503", "busy")

    judge = judge_of(kind(reply), cache=tmp_path / "c")
    (verdict,) = judge.verdicts(items(1))
    assert (verdict.values, verdict.error, verdict.asked) == (None, "http_503", 5)
    judge = judge_of(kind(), cache=tmp_path / "c")  # no error is cached
    assert next(judge.verdicts(items(1))).values == {"length": 0.0}


@KINDS
def test_a_permanent_failure_is_tried_once(kind):
    def reply(question):
        raise BackendError("refused", permanent=True)

    assert next(judge_of(kind(reply)).verdicts(items(1))).asked == 1


def test_replay_answers_from_the_cache_alone(tmp_path):
    list(judge_of(Server(), cache=tmp_path / "c").verdicts(items(3)))
    backend = Server()
    verdicts = list(judge_of(backend, cache=tmp_path / "c", replay=True).verdicts(items(4)))
    assert [v.error for v in verdicts] == [None, None, None, "not_in_cache"]
    assert backend.asked == []


def test_an_item_with_another_number_of_answers_is_not_asked_about():
    judge = judge_of(Batches())
    (verdict,) = judge.verdicts([Item((), ("a", "b"))])
    assert (verdict.error, judge.totals.asked) == ("wrong_number_of_answers", 0)


def test_a_mistake_in_the_task_ends_the_run():
    class Broken(Length):
        def parse(self, item, question, answer):
            raise ValueError("a mistake")

    for kind in (Batches, Server):
        with pytest.raises(ValueError, match="a mistake"):
            list(judge_of(kind(), task=Broken()).verdicts(items(200)))


def test_no_more_requests_are_open_than_asked_for():
    backend = Server()
    list(judge_of(backend, in_flight=5).verdicts(items(60)))
    assert backend.most == 5


@KINDS
def test_the_cap_is_never_passed_and_what_does_not_fit_has_no_value(kind):
    backend = kind(lambda q: Answer(length_of(q), cost=7_000_000))
    judge = judge_of(backend, max_cost=0.1, prices=Prices(most_per_call=0.01), in_flight=8)
    verdicts = list(judge.verdicts(items(40)))
    errors = [v.error for v in verdicts]
    assert judge.totals.cost == sum(v.cost for v in verdicts) == 13 * 7_000_000
    assert errors.count(None) == 13  # 0.091 dollars; the dearest of one more is above 0.1
    assert errors.count("over_budget") == 27


@KINDS
def test_money_spent_counts_over_runs(tmp_path, kind):
    options = {"cache": tmp_path / "c", "max_cost": 0.1, "prices": Prices(most_per_call=0.01)}

    def reply(question):
        return Answer(length_of(question), cost=10_000_000)

    list(judge_of(kind(reply), **options).verdicts(items(6)))
    again = judge_of(kind(reply), **options)
    errors = [v.error for v in again.verdicts(items(20))]
    assert errors == [None] * 10 + ["over_budget"] * 10
    assert again.totals.asked == 4
    other = judge_of(kind(reply), account="another", **options)
    assert [v.error for v in other.verdicts(items(12, start=50))].count(None) == 10


@KINDS
def test_a_failed_call_that_was_billed_counts(kind):
    def reply(question):
        raise BackendError("bad_response", billed=Answer(input_tokens=1000, output_tokens=0))

    judge = judge_of(kind(reply), prices=Prices(input=2.0), tries=3)
    (verdict,) = judge.verdicts(items(1))
    assert verdict.cost == judge.totals.cost == 3 * 2_000_000


def test_after_a_call_that_costs_more_than_its_bound_more_is_reserved():
    judge = judge_of(
        Server(lambda q: Answer(length_of(q), cost=20_000_000)),
        max_cost=0.1,
        prices=Prices(most_per_call=0.01),
        in_flight=1,
    )
    list(judge.verdicts(items(20)))
    assert judge.totals.cost == 0.1 * BILLION


def test_a_call_that_may_have_been_billed_goes_on_counting_against_the_cap(tmp_path):
    def reply(question):
        raise BackendError("timeout", maybe_billed=True)

    options = {"cache": tmp_path / "c", "max_cost": 0.1, "prices": Prices(most_per_call=0.04)}
    judge = judge_of(Server(reply), **options)
    (verdict,) = judge.verdicts(items(1))
    assert (verdict.error, verdict.asked, verdict.cost) == ("over_budget", 2, 0)
    cache = AnswerCache(tmp_path / "c", "", "scripted")
    assert cache.money() == (0, 80_000_000)
    cache.close()


@KINDS
def test_tokens_that_are_not_stated_cost_their_bound(kind):
    judge = judge_of(kind(lambda q: Answer(length_of(q))), prices=Prices(output=1.0))
    list(judge.verdicts(items(1)))
    assert judge.totals.cost == 8 * 1000  # max_tokens at 1,000 billionths each


def test_a_server_that_is_down_for_all_is_left_alone():
    def reply(question):
        raise BackendError("connection", "refused")

    backend = Server(reply)
    judge = judge_of(backend, in_flight=32)
    errors = [v.error for v in judge.verdicts(items(1000))]
    assert set(errors) == {"connection", "not_asked"}
    assert len(backend.asked) <= 2 * 32
    assert 15 <= judge.time.now < 60
    asked = len(backend.asked)
    assert [v.error for v in judge.verdicts(items(3))] == ["not_asked"] * 3  # the next batch
    assert len(backend.asked) == asked


def test_the_pause_that_a_server_wants_is_kept_by_all_requests():
    limited = iter([True])

    def reply(question):
        starts.append(judge.time.now)
        if next(limited, False):
            raise BackendError("http_429", retry_after=20.0)
        return length_of(question)

    starts = []
    judge = judge_of(Server(reply), in_flight=1)
    list(judge.verdicts(items(3)))
    assert starts[0] == 0.0
    assert min(starts[1:]) >= 20.0


def test_a_server_that_is_away_for_ten_seconds_loses_no_row():
    def reply(question):
        if 5 <= judge.time.now < 15:
            raise BackendError("connection", "refused")
        return length_of(question)

    backend = Server(reply)
    judge = judge_of(backend, in_flight=8, per_minute=240)
    assert [v.error for v in judge.verdicts(items(80))] == [None] * 80
    assert judge.totals.failed < 40


def test_a_server_of_three_requests_at_once_gets_no_more_in_the_end():
    class Limited(Server):
        async def ask(self, question):
            if self.open >= 3:
                raise BackendError("http_429", retry_after=1.0)
            return await super().ask(question)

    judge = judge_of(Limited(), in_flight=32)
    assert [v.error for v in judge.verdicts(items(200))] == [None] * 200


def test_a_pause_of_an_hour_is_not_waited_for():
    def reply(question):
        raise BackendError("http_429", retry_after=3600.0)

    judge = judge_of(Server(reply), in_flight=1)
    assert [v.error for v in judge.verdicts(items(3))] == ["http_429", "not_asked", "not_asked"]
    assert judge.time.slept == []


def test_requests_per_minute_are_spaced_after_a_pause_too():
    starts = []

    def reply(question):
        starts.append(judge.time.now)
        if len(starts) == 3:
            raise BackendError("http_429", retry_after=20.0)
        return length_of(question)

    judge = judge_of(Server(reply), in_flight=4, per_minute=30)
    list(judge.verdicts(items(10)))
    for first, later in itertools.pairwise(starts):
        assert later - first >= 2.0 - 1e-9


def test_a_server_that_hangs_is_a_timeout():
    class Hanging(Server):
        async def ask(self, question):
            self.asked.append(question)
            await asyncio.sleep(60)

    judge = judge_of(Hanging(), timeout=0.01, tries=2)
    (verdict,) = judge.verdicts(items(1))
    assert (verdict.error, verdict.detail) == ("timeout", "no whole answer within 0.01 s")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"not a database at all" * 100, "is damaged .* or remove it"),
        (None, "database of another program: name another file"),
    ],
)
def test_a_file_that_is_no_cache_is_refused_in_one_line(tmp_path, content, text):
    path = tmp_path / "c"
    if content is None:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE t (x)")
    else:
        path.write_bytes(content)
    with pytest.raises((UsageError, DataError), match=text):
        list(judge_of(Batches(), cache=path).verdicts(items(1)))


def test_an_answer_that_was_altered_on_disk_is_not_used(tmp_path):
    list(judge_of(Batches(), cache=tmp_path / "c").verdicts(items(1, start=4)))
    with sqlite3.connect(tmp_path / "c") as other:
        other.execute("""UPDATE answers SET answer = replace(answer, '"4"', '"5"')""")
    with pytest.raises(DataError, match="an answer does not match its checksum"):
        list(judge_of(Batches(), cache=tmp_path / "c").verdicts(items(1, start=4)))


def test_the_cache_is_readable_for_its_user_alone(tmp_path):
    list(judge_of(Batches(), cache=tmp_path / "c").verdicts(items(1)))
    assert (tmp_path / "c").stat().st_mode & 0o077 == 0


def test_the_journal_counts_calls_by_run_and_outcome(tmp_path):
    prices = Prices(input=1.0)
    list(judge_of(Batches(), cache=tmp_path / "c", prices=prices).verdicts(items(2)))

    def reply(question):
        raise BackendError("refused", permanent=True)

    list(judge_of(Batches(reply), cache=tmp_path / "c").verdicts(items(3)))
    cache = AnswerCache(tmp_path / "c", "", "scripted")
    rows = [(row["run"], row["outcome"], row["calls"], row["cost"]) for row in cache.journal()]
    cache.close()
    assert rows == [(1, "answered", 2, 20_000), (2, "refused", 1, 0)]
    assert BILLION == 10**9


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_cost": 1.0}, "max_cost needs prices"),
        ({"replay": True}, "replay needs the cache"),
        ({"replay": True, "cache": Path("none")}, "replay: there is no cache none"),
        ({"in_flight": 0}, "in_flight: expected 1 or more, got 0"),
        ({"timeout": float("nan")}, "timeout: expected a number above 0, got nan"),
        ({"max_cost": -1.0, "prices": Prices()}, "expected dollars, 0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(options, text):
    with pytest.raises(UsageError, match=text):
        judge_of(Batches(), **options)
