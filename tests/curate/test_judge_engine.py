"""The engine of a judge: order, repeated asking, retries and pace."""

import asyncio
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.pacing import Pacer
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import Answer, BackendError, Item
from siftune.curate.judge_tasks.alpagasus import AlpaGasus
from tests.scripted_judge import Batches, Length, Server, items, judge_of, length_of

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
def test_a_limit_of_tokens_is_reached_where_the_judge_knows_no_better(kind):
    known = {False: None, None: "cut", True: "cut"}
    for truncated, error in known.items():
        said = Answer("3", output_tokens=16, truncated=truncated)
        judge = judge_of(
            kind(lambda question, said=said: said), task=AlpaGasus(explanation=False), ask_again=0
        )
        (verdict,) = judge.verdicts(items(1, start=1))
        assert verdict.error == error


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


def test_an_item_with_another_number_of_answers_is_not_asked_about():
    judge = judge_of(Batches())
    (verdict,) = judge.verdicts([Item((), ("a", "b"))])
    assert (verdict.error, judge.totals.asked) == ("wrong_number_of_answers", 0)


@pytest.mark.parametrize(
    ("values", "detail"),
    [
        (None, "the task gave no value of length"),
        ({"length": None, "words": 1.0}, "the task gave no value of length"),
        ({"length": math.nan}, "expected a finite number of length, got nan"),
        ({"length": 1.0, "words": np.float32("inf")}, "expected a finite number of words, got inf"),
        ({"length": 1.0, "words": [0.5, math.nan]}, "a finite number of words, got [0.5, nan]"),
    ],
)
def test_a_row_without_a_value_has_an_error(values, detail):
    class Mine(Length):
        def verdict(self, item, parsed):
            return values

    judge = judge_of(Batches(), task=Mine())
    (verdict,) = judge.verdicts(items(1))
    assert (verdict.values, verdict.error, judge.totals.unscored) == (None, "no_value", 1)
    assert detail in verdict.detail


def test_a_verdict_may_have_no_further_value():
    class Mine(Length):
        def verdict(self, item, parsed):
            return {"length": 0.0, "words": None, "flag": True}

    (verdict,) = judge_of(Batches(), task=Mine()).verdicts(items(1))
    assert verdict.error is None


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


def test_a_server_that_answers_one_after_the_other_gets_no_more_than_come_in_time():
    """32 at once, 5 s each, would all take longer than the 60 s that each has."""

    class OneByOne(Server):
        async def ask(self, question):
            said = await super().ask(question)
            judge.time.now += 5
            return said

    # each is open for a moment of real time, so that all of a round begin before the first ends
    judge = judge_of(backend := OneByOne(seconds=0.05), in_flight=32, timeout=60.0)
    list(judge.verdicts(items(100)))
    assert 4 < backend.most <= 8  # 8 take 40 s, more than half of the time

    judge = judge_of(backend := Server(seconds=0.05), in_flight=32, timeout=60.0)
    list(judge.verdicts(items(300)))
    assert 16 < backend.most <= 32  # a slow machine does not begin the last ones in time


def test_a_server_that_is_down_for_all_is_left_alone():
    def reply(question):
        raise BackendError("connection", "refused")

    backend = Server(reply)
    judge = judge_of(backend, in_flight=32)
    errors = [v.error for v in judge.verdicts(items(1000))]
    assert set(errors) == {"connection", "not_asked"}
    assert len(backend.asked) <= 2 * 32
    assert 15 <= judge.time.now < 180  # 20 requests, eight seconds apart at most
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
    ("options", "text"),
    [
        ({"max_cost": 1.0}, "max_cost needs prices"),
        ({"replay": True}, "replay needs the cache"),
        ({"replay": True, "cache": Path("none")}, "replay: there is no cache none"),
        ({"in_flight": 0}, "in_flight: expected 1 or more, got 0"),
        ({"timeout": float("nan")}, "timeout: expected a number above 0, got nan"),
        ({"max_cost": -1.0, "prices": Prices()}, "expected dollars, 0 to a billion"),
    ],
)
def test_options_that_cannot_be_are_refused(options, text):
    with pytest.raises(UsageError, match=text):
        judge_of(Batches(), **options)


def test_a_place_that_becomes_free_goes_to_the_first_in_line():
    order, tasks = [], []

    async def one(pacer, name):
        async with pacer.slot():
            order.append(name)
            await asyncio.sleep(0)
            if name == "first":  # this one comes as a place is free, before the second wakes up
                tasks.append(asyncio.ensure_future(one(pacer, "third")))

    async def run():
        pacer = Pacer(1, None, 1, lambda: 0.0, asyncio.sleep)
        await asyncio.gather(one(pacer, "first"), one(pacer, "second"))
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert order == ["first", "second", "third"]


class _Texts:
    identity = "texts"

    def answer(self, questions):
        return [length_of(one) for one in questions]


class _Nothing(_Texts):
    def answer(self, questions):
        return None


class _AsyncTexts(_Texts):
    async def ask(self, question):
        return length_of(question)

    async def close(self):
        pass


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        (_Texts(), "gave str where an Answer or a BackendError"),
        (_AsyncTexts(), "gave str where an Answer or a BackendError"),
        (_Nothing(), "gave NoneType for 3 questions: expected a list"),
    ],
)
def test_a_judge_of_the_users_own_that_gives_something_else_is_named(backend, text):
    with pytest.raises(UsageError, match=text):
        list(judge_of(backend).verdicts(items(3)))
