"""A judge's cache of answers, and the cap on what they cost."""

import asyncio
import math
import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from siftune.curate.core.errors import DataError, SiftuneError, UsageError
from siftune.curate.judge_calls.answer_cache import AnswerCache, Receipt
from siftune.curate.judge_calls.calls import CallBook
from siftune.curate.judge_calls.spending import BILLION, Prices
from siftune.curate.judge_calls.types import Answer, BackendError, Item, Question
from siftune.curate.judge_tasks.pairwise import Pairwise
from tests.scripted_judge import Batches, Length, Server, items, judge_of, length_of

KINDS = pytest.mark.parametrize("kind", [Batches, Server])


@contextmanager
def opened(path):
    """The file as another program has it open: what that changes is committed at the end."""
    with closing(sqlite3.connect(path)) as other, other:
        yield other


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
    with opened(tmp_path / "c") as other:  # while the run goes on
        assert other.execute("SELECT count(*) FROM answers").fetchone()[0] >= 1
    verdicts.close()
    again = kind()
    list(judge_of(again, cache=tmp_path / "c").verdicts(items(50)))
    assert len(again.asked) <= 49


class OneByOne(Batches):
    """A backend that is asked one question at a time, as a function of one question is."""

    one_by_one = True


def test_answers_of_a_function_are_kept_one_by_one(tmp_path):
    """One that fails at its 50th call has asked nothing in vain, and reserves no money but its."""

    def reply(question):
        asked.append(question)
        if len(asked) == 50:
            raise RuntimeError("power")
        return Answer(length_of(question), cost=0)

    asked, prices = [], Prices(most_per_call=0.01)
    options = {"cache": tmp_path / "c", "max_cost": 1.0, "prices": prices}
    with pytest.raises(RuntimeError, match="power"):
        list(judge_of(OneByOne(reply), **options).verdicts(items(60)))
    cache = AnswerCache(tmp_path / "c", "", "")
    assert cache.money() == (0, BILLION // 100)
    cache.close()
    again = judge_of(OneByOne(reply), **options)
    assert [v.values for v in again.verdicts(items(60))] == [{"length": n} for n in range(60)]
    assert (again.totals.cached, again.totals.asked) == (49, 11)


def test_two_runs_at_once_share_the_questions_of_a_function(tmp_path):
    def slowly(question):
        time.sleep(0.001)
        return length_of(question)

    judges = [judge_of(OneByOne(slowly), cache=tmp_path / "c") for _ in range(2)]
    with ThreadPoolExecutor() as threads:
        found = [*threads.map(lambda judge: list(judge.verdicts(items(60))), judges)]
    assert [[v.values["length"] for v in verdicts] for verdicts in found] == [[*range(60)]] * 2
    assert 60 <= sum(judge.totals.asked for judge in judges) < 90


def test_a_file_that_another_run_makes_just_now_is_a_cache(tmp_path, monkeypatch):
    class Late(sqlite3.Connection):
        statements = 0

        def execute(self, *words):
            self.statements += 1
            if self.statements == 2:
                monkeypatch.undo()
                AnswerCache(tmp_path / "c", "", "m").close()
            return super().execute(*words)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Late))
    cache = AnswerCache(tmp_path / "c", "", "m")
    assert cache.money() == (0, 0)
    cache.close()


def test_a_call_that_failed_is_tried_again_after_the_others():
    failed = []

    def reply(question):
        if question.messages[0][1].endswith(": xx") and not failed:
            failed.append(question)
            raise BackendError("http_500")
        return length_of(question)

    judge = judge_of(backend := OneByOne(reply))
    assert [v.asked for v in judge.verdicts(items(5))] == [1, 1, 2, 1, 1]
    assert [int(length_of(question)) for question in backend.asked] == [0, 1, 2, 3, 4, 2]


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


def test_replay_answers_from_the_cache_alone(tmp_path):
    list(judge_of(Server(), cache=tmp_path / "c").verdicts(items(3)))
    backend = Server()
    verdicts = list(judge_of(backend, cache=tmp_path / "c", replay=True).verdicts(items(4)))
    assert [v.error for v in verdicts] == [None, None, None, "not_in_cache"]
    assert backend.asked == []


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


@KINDS
@pytest.mark.parametrize(("stated", "sent"), [(0.02, 2), (0.06, 1)])
def test_a_server_that_bills_more_than_its_prices_passes_the_cap_by_one_answer(
    tmp_path, kind, stated, sent
):
    backend = kind(lambda q: Answer(length_of(q), cost=round(stated * BILLION)))
    options = {"cache": tmp_path / "c", "max_cost": 0.05, "prices": Prices(0.15, 0.6)}
    judge = judge_of(backend, in_flight=32, **options)
    verdicts = list(judge.verdicts(items(100)))
    assert len(backend.asked) == sent
    assert "most_per_call" in verdicts[-1].detail
    again = judge_of(backend, **options)
    list(again.verdicts(items(100)))
    assert again.totals.asked == 0


@pytest.mark.parametrize(
    ("prices", "passes"),
    [(Prices(100, 0, 0.0001), False), (Prices(most_per_call=0.0001), True)],
)
def test_a_server_that_turns_dear_late_passes_the_cap_by_what_is_in_flight_at_most(prices, passes):
    """Where the prices of tokens are known it never does, though no answer was dear before."""
    dear = 20_000_000

    def reply(question):
        late = len(backend.asked) > 60
        return Answer(length_of(question), cost=dear if late else 100_000)

    class Held(Server):
        waiting = 0

        async def ask(self, question):
            self.waiting += len(self.asked) >= 60
            for _ in range(300 * (self.waiting > 0)):  # dear answers come when eight are open
                if self.waiting >= 8:
                    break
                await asyncio.sleep(0.001)
            return await super().ask(question)

    backend = Held(reply)
    judge = judge_of(backend, max_cost=0.06, prices=prices, in_flight=8)
    verdicts = list(judge.verdicts(items(100)))
    cap = 0.06 * BILLION
    assert "over_budget" in {one.error for one in verdicts}
    assert (judge.totals.cost > cap) == passes
    assert judge.totals.cost <= cap + 8 * dear


def test_after_an_answer_above_its_bound_calls_in_flight_end_before_another_is_sent():
    cache = AnswerCache(None, "", "m")
    book = CallBook(cache, Prices(0.15, 0.6), BILLION, replay=False)
    question = Question((("user", "hi"),))
    sent = [book.reserve(b"1", question, 0)]
    assert book.reserve(b"2", question, 0) is None  # until a first cost is known
    book.settle(sent[0], Answer("1", cost=1), 0.0)
    sent = [book.reserve(key, question, 0) for key in (b"2", b"3")]
    book.settle(sent[0], Answer("1", cost=200_000_000), 0.0)
    assert book.reserve(b"4", question, 0) is None
    book.settle(sent[1], Answer("1", cost=1), 0.0)
    assert book.reserve(b"4", question, 0).amount == 200_000_000
    cache.close()


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
        with opened(path) as other:
            other.execute("CREATE TABLE t (x)")
    else:
        path.write_bytes(content)
    with pytest.raises((UsageError, DataError), match=text):
        list(judge_of(Batches(), cache=path).verdicts(items(1)))


def test_an_answer_that_was_altered_on_disk_is_not_used(tmp_path):
    list(judge_of(Batches(), cache=tmp_path / "c").verdicts(items(1, start=4)))
    with opened(tmp_path / "c") as other:
        other.execute("""UPDATE answers SET answer = replace(answer, '"4"', '"5"')""")
    with pytest.raises(DataError, match="an answer does not match its checksum"):
        list(judge_of(Batches(), cache=tmp_path / "c").verdicts(items(1, start=4)))


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_cache_is_refused_or_gives_what_was_answered(tmp_path, whole_cache, seed):
    chance, content = random.Random(seed), bytearray(whole_cache)
    place = chance.randrange(len(content))
    if seed % 3 == 0:
        del content[place:]
    elif seed % 3 == 1:
        content[place] ^= 1 << chance.randrange(8)
    else:
        content[place : place + 512] = bytes(len(content[place : place + 512]))
    (tmp_path / "c").write_bytes(content)
    try:
        found = [v.values for v in judge_of(Batches(), cache=tmp_path / "c").verdicts(items(60))]
    except DataError as error:
        assert str(tmp_path / "c") in str(error)  # noqa: PT017 - either is right
    else:
        assert found == [{"length": float(n)} for n in range(60)]


@pytest.fixture(scope="module")
def whole_cache(tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "c"
    list(judge_of(Batches(), cache=path).verdicts(items(60)))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (sqlite3.SQLITE_FULL, OSError, "No space left"),
        (sqlite3.SQLITE_IOERR_WRITE, SiftuneError, "look at its disk"),
        (sqlite3.SQLITE_BUSY, SiftuneError, "locked by another process for 60 s"),
        (sqlite3.SQLITE_READONLY, UsageError, "cannot be written"),
        (sqlite3.SQLITE_CORRUPT, DataError, "is damaged"),
    ],
)
def test_an_error_of_the_disk_is_not_taken_for_a_damaged_file(tmp_path, code, kind, text):
    cache = AnswerCache(tmp_path / "c", "", "m")
    cache.close()
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    found = cache._error_of(error)
    assert type(found) is kind
    assert text in str(found)
    assert str(tmp_path / "c") in str(found)


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


def test_an_answer_that_is_no_text_is_not_used(tmp_path):
    list(judge_of(Batches(), cache=tmp_path / "c").verdicts(items(1)))
    with opened(tmp_path / "c") as other:
        other.execute("UPDATE answers SET answer = CAST(answer AS BLOB)")
    with pytest.raises(DataError, match="an answer does not match its checksum"):
        list(judge_of(Batches(), cache=tmp_path / "c").verdicts(items(1)))


def test_replay_of_an_empty_file_has_no_answers(tmp_path):
    (tmp_path / "c").touch()
    (verdict,) = judge_of(Batches(), cache=tmp_path / "c", replay=True).verdicts(items(1))
    assert verdict.error == "not_in_cache"
    assert (tmp_path / "c").read_bytes() == b""


def test_probabilities_that_are_none_are_no_others_from_the_cache(tmp_path):
    def reply(question):
        return Answer(probabilities=dict.fromkeys(question.labels, math.nan))

    row = [Item((("user", "q"),), ("a", "b"))]
    task = Pairwise()
    for asked in (2, 0):
        backend = Batches(reply)
        (verdict,) = judge_of(backend, task=task, cache=tmp_path / "c").verdicts(row)
        assert (verdict.error, len(backend.asked)) == ("out_of_range", asked)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"text": 5}, "Answer text: expected a text, got int"),
        ({"cost": -1}, "Answer cost: expected billionths of a dollar, a whole number from 0"),
        ({"cost": 10**19}, "Answer cost: expected billionths"),
        ({"input_tokens": 1.5}, "Answer input_tokens: expected a whole number from 0"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(wrong, text):
    with pytest.raises(UsageError, match=text):
        Answer(**wrong)


def test_the_sum_of_money_stays_a_number_of_the_file(tmp_path):
    account = AnswerCache(tmp_path / "c", "", "m")
    for _ in range(3):
        with account.transaction():
            account.settle(Receipt(b"k", "answered", cost=1 << 61))
    assert account.money() == (1 << 62, 0)
    account.close()


def test_probabilities_of_numpy_and_costs_beyond_a_column_are_kept(tmp_path):
    cache = AnswerCache(tmp_path / "judge.sqlite", "", "m")
    answer = Answer(text="A", probabilities={"A": np.float32(0.5), "B": np.float64(0.5)})
    with cache.transaction():
        cache.settle(Receipt(b"k", "answered", answer, cost=1 << 70))
    found = cache.get(b"k")
    cache.close()
    assert found is not None
    assert found.probabilities == {"A": 0.5, "B": 0.5}


def test_a_label_mass_of_numpy_is_kept(tmp_path):
    judge = judge_of(
        Server(lambda q: Answer(length_of(q), label_mass=np.float32(0.5))), cache=tmp_path / "c"
    )
    assert [v.error for v in judge.verdicts(items(2))] == [None, None]
    again = judge_of(Server(), cache=tmp_path / "c", replay=True)
    assert [v.answers[0].label_mass for v in again.verdicts(items(2))] == [0.5, 0.5]
