"""A judge on a scripted server, with the faults that servers have."""

import base64
import io
import logging
import random
import re
import threading
import time
from types import SimpleNamespace

import orjson
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.redact import hidden, protect
from siftune.curate.files.atomic import read_json, write_json
from siftune.curate.judge_calls.answer_cache import AnswerCache
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.responses import failure_of_status
from siftune.curate.judge_calls.spending import BILLION, Prices
from siftune.curate.judge_calls.types import Item
from siftune.curate.judge_tasks.alpagasus import AlpaGasus
from siftune.curate.judges.server import Server
from siftune.pipelines import cli
from tests.judge_server import FAULTS, OK, UNPARSED, FakeTime, JudgeServer, completion, number_of

TASK = AlpaGasus(explanation=False)


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def items(number):
    return [Item((("user", f"question {n}"),), (f"answer {n}",)) for n in range(number)]


def judge_of(server, **options):
    fake = FakeTime()
    given = {"sleep": fake.sleep, "clock": fake.clock, "give_up": 10_000, **options}
    return Judge(Server(server if isinstance(server, str) else server.url, "m"), TASK, **given)


def ratings(server, number, **options):
    verdicts = list(judge_of(server, **options).verdicts(items(number)))
    return [v.values and v.values["rating"] for v in verdicts], [v.error for v in verdicts]


def right(number):
    """What a server without faults answers."""
    found = []
    for item in items(number):
        messages = [
            {"role": role, "content": text} for role, text in TASK.questions(item)[0].messages
        ]
        found.append(float(number_of({"messages": messages})))
    return found


def test_a_clean_server_is_asked_once_for_each_item():
    with JudgeServer() as server:
        assert ratings(server, 12, in_flight=4) == (right(12), [None] * 12)
        assert len(server.bodies) == 12
        assert server.most <= 4
    assert len(set(right(12))) > 2
    body = server.bodies[0]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 16, 0.0)
    assert "logprobs" not in body
    assert "response_format" not in body


_SLOW = ("hang", "drip")
_QUICK = [fault for fault in FAULTS if fault not in _SLOW]


def options_for(fault):
    return {"timeout": 1.0} if fault in _SLOW else {}


def _asks_first(body):
    """Whether a request is no repeated asking: those with an answer in them are not faulted."""
    return len(body["messages"]) == 2


def _fault_of(body):
    """Of the n-th question the n-th fault."""
    return _QUICK[int(re.search(r"question (\d+)", body["messages"][1]["content"])[1])]


def test_after_each_fault_that_passes_ratings_are_those_of_a_clean_server():
    number = len(_QUICK)
    with JudgeServer(
        lambda b, times: _fault_of(b) if _asks_first(b) and times < 2 else OK
    ) as server:
        assert ratings(server, number, in_flight=4) == (right(number), [None] * number)


def test_each_fault_that_stays_leaves_its_row_without_a_rating():
    with JudgeServer(lambda body, times: _fault_of(body)) as server:
        found, errors = ratings(server, len(_QUICK), in_flight=4)
    assert found == [None] * len(_QUICK)
    by_fault = dict(zip(_QUICK, errors, strict=True))
    assert (by_fault["500"], by_fault["reset"], by_fault["list"]) == (
        "http_500",
        "connection",
        "bad_response",
    )
    assert (by_fault["nan"], by_fault["out of range"]) == ("unparsed", "out_of_range")
    assert max(server.times.values()) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_of_all_rows_ratings_are_those_of_a_clean_server(fault):
    with JudgeServer(
        lambda body, times: fault if _asks_first(body) and times < 2 else OK
    ) as server:
        found = ratings(server, 3, **options_for(fault))
    assert found == (right(3), [None] * 3)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_for_all_leaves_no_rating(fault):
    with JudgeServer(lambda body, times: fault) as server:
        found, errors = ratings(server, 2, **options_for(fault))
    assert found == [None, None]
    assert None not in errors
    expected = 3 if fault in UNPARSED else 5  # asked twice more, or tried five times
    assert len(server.bodies) <= 2 * expected


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_third_of_all_requests_failing_changes_no_rating(seed):
    chance = random.Random(seed)
    kinds = sorted(FAULTS.keys() - {"hang", "drip", "flood", *UNPARSED})

    def fault(body, times):  # of one question at most three in a row, or five tries were too few
        return chance.choice(kinds) if times < 3 and chance.random() < 0.3 else OK

    with JudgeServer(fault) as server:
        found = ratings(server, 40, in_flight=8)
    assert found == (right(40), [None] * 40)
    assert len(server.bodies) > 44


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_third_failing_in_every_way_changes_no_rating(seed):
    chance, kinds = random.Random(seed), sorted(FAULTS)

    def fault(body, times):
        mixed = chance.random() < 0.3 and times < 3 and _asks_first(body)
        return chance.choice(kinds) if mixed else OK

    with JudgeServer(fault) as server:
        found = ratings(server, 300, in_flight=16, timeout=2.0)
    assert found == (right(300), [None] * 300)


def test_a_server_that_fails_for_all_gets_few_requests():
    with JudgeServer(lambda body, times: "503") as server:
        _, errors = ratings(server, 300, in_flight=8, give_up=5)
    assert set(errors) == {"http_503", "not_asked"}
    assert len(server.bodies) <= (8 + 5) * 5


def test_a_server_that_is_not_there_is_an_error_of_each_row():
    with JudgeServer() as server:
        gone = server.url
    _, errors = ratings(gone, 2)
    assert errors == ["connection"] * 2


def test_a_refused_key_is_not_tried_again_and_named_without_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567")

    def refuse(handler, body):
        message = b'{"error": {"message": "Incorrect API key: sk-canary-1234567"}}'
        handler.send(401, message)

    monkeypatch.setitem(FAULTS, "401", refuse)
    with JudgeServer(lambda body, times: "401") as server:
        backend = Server(server.url, "m", key_variable="OPENAI_API_KEY")
        (verdict,) = Judge(backend, TASK).verdicts(items(1))
    assert (verdict.error, verdict.asked) == ("http_401", 1)
    assert verdict.detail == (
        "Incorrect API key: ***; the key is that of the environment variable OPENAI_API_KEY, which "
        "is set"
    )


def test_the_key_is_sent_to_its_own_host_alone(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-canary-7654321")
    with JudgeServer(lambda body, times: "redirect") as server, JudgeServer() as other:
        server.other = other.url.removesuffix("/v1")
        backend = Server(server.url, "m", key_variable="MY_KEY")
        (verdict,) = Judge(backend, TASK, sleep=FakeTime().sleep).verdicts(items(1))
    assert verdict.error == "redirected"
    assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-canary-7654321"}
    assert other.headers == []


def test_without_a_key_no_authorization_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai")
    with JudgeServer() as server:
        ratings(server, 1)
    assert not {"authorization", "openai-organization"} & set(server.headers[0])


def test_a_key_file_and_a_password_are_read(tmp_path):
    (tmp_path / "key").write_text("sk-of-a-file\n")
    with JudgeServer() as server:
        from_file = Server(server.url, "m", key_file=str(tmp_path / "key"))
        list(Judge(from_file, TASK).verdicts(items(1)))
        url = server.url.replace("http://", "http://me:pass%20word@")
        list(Judge(Server(url, "m"), TASK).verdicts(items(1)))
    pair = base64.b64encode(b"me:pass word").decode()
    assert [h["authorization"] for h in server.headers] == ["Bearer sk-of-a-file", f"Basic {pair}"]


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("user", ["", "me:canary-password@"])
def test_keys_and_passwords_are_in_no_file_and_no_text(monkeypatch, tmp_path, status, user):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0001")

    def repeat(handler, body):  # a server that repeats what it got
        text = f"you sent {handler.headers['Authorization']} to {handler.path}"
        found = completion(text) if status == 200 else {"error": {"message": text}}
        handler.send(status, orjson.dumps(found))

    monkeypatch.setitem(FAULTS, "repeat", repeat)
    with JudgeServer(lambda body, times: "repeat") as server:
        url = server.url.replace("http://", f"http://{user}") + "?token=canary-token"
        backend = Server(url, "m", key_variable="OPENAI_API_KEY")
        judge = Judge(backend, TASK, cache=tmp_path / "c", sleep=FakeTime().sleep)
        (verdict,) = judge.verdicts(items(1))
    secret = server.headers[0]["authorization"].partition(" ")[2]
    texts = [repr(verdict), repr(judge), judge.backend.identity, judge.backend.shown]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.iterdir()]
    assert "canary" in secret or "canary" in base64.b64decode(secret).decode()
    assert not any("canary" in text or secret in text for text in texts)
    assert "canary" not in hidden(f"{secret} and canary-token")


def test_a_traceback_has_no_keys(monkeypatch, capsys):
    protect("sk-canary-0002")

    def fail(**given):
        raise RuntimeError("sent sk-canary-0002 to https://me:pw@host")

    monkeypatch.setattr(cli.siftune, "main", fail)
    monkeypatch.setenv("SIFTUNE_TRACEBACK", "1")
    assert cli._run() == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "RuntimeError: sent *** to https://***@host" in error
    assert "sk-canary-0002" not in error


def test_a_log_has_no_keys():
    written = io.StringIO()
    handler, level = logging.StreamHandler(written), logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    try:
        with JudgeServer() as server:
            list(judge_of(f"{server.url}?token=canary-token").verdicts(items(1)))
    finally:
        logging.root.setLevel(level)
        logging.root.removeHandler(handler)
    assert "HTTP Request: POST http://127.0.0.1" in written.getvalue()
    assert "canary" not in written.getvalue()


def test_a_hostile_error_text_is_shown_at_once():
    begun = time.process_time()
    response = SimpleNamespace(status_code=500, headers={}, content=b"://:x" * 800_000)
    assert len(failure_of_status(response).detail) <= 300
    assert time.process_time() - begun < 1


def test_a_missing_client_is_named(monkeypatch):
    monkeypatch.setattr("siftune.curate.judge_calls.server_client.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'siftune\[judge\]'"):
        Server("http://localhost/v1", "m")


def test_a_file_that_is_written_has_no_keys(tmp_path):
    protect("sk-canary-0003")
    write_json(tmp_path / "f", {"judge": "https://host/v1?key=sk-canary-0003"})
    assert read_json(tmp_path / "f") == {"judge": "https://host/v1?key=***"}


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/v1",
        "http://2852039166/v1",  # the same as one number
        "http://[::ffff:169.254.169.254]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://100.100.100.200/v1",
    ],
)
def test_metadata_addresses_are_refused(url):
    with pytest.raises(UsageError, match=r"link-local or of cloud metadata: .* allow_link_local"):
        list(judge_of(url).verdicts(items(1)))


def test_costs_are_counted_to_the_billionth_and_the_cap_holds():
    chance = random.Random(3)
    billed = []

    def reply(body):
        dollars = round(chance.uniform(0.0001, 0.01), 9)
        with server.lock:
            billed.append(round(dollars * BILLION))
            spent.append(sum(billed))
        return completion(str(number_of(body)), cost=dollars)

    spent = []
    with JudgeServer(reply=reply) as server:
        judge = judge_of(server, max_cost=0.5, prices=Prices(most_per_call=0.01))
        verdicts = list(judge.verdicts(items(200)))
    assert judge.totals.cost == sum(v.cost for v in verdicts) == sum(billed)
    assert max(spent) <= 0.5 * BILLION
    assert judge.totals.cost > 0.49 * BILLION  # and what was left did not fit the dearest answer
    assert {v.error for v in verdicts} == {None, "over_budget"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_cap_holds_over_a_thousand_rows_with_failures_and_restarts(tmp_path, seed):
    chance = random.Random(seed)
    billed = []

    def reply(body):
        dollars = round(chance.uniform(0.0001, 0.01), 9)
        with server.lock:
            billed.append(round(dollars * BILLION))
        unparsed = chance.random() < 0.1
        return completion("?" if unparsed else str(number_of(body)), cost=dollars)

    with JudgeServer(lambda b, t: "500" if chance.random() < 0.1 else OK, reply) as server:
        for part in (300, 700, 1000):  # the same command, stopped twice
            judge = judge_of(
                server, cache=tmp_path / "c", max_cost=3.0, prices=Prices(most_per_call=0.01)
            )
            verdicts = list(judge.verdicts(items(part)))
    assert sum(billed) <= 3 * BILLION
    assert sum(billed) > 2.98 * BILLION
    assert "over_budget" in {v.error for v in verdicts}


def test_answers_come_in_order_while_one_is_slow():
    first = threading.Event()

    def fault(body, times):
        if "question 0" in body["messages"][-1]["content"]:
            first.wait(5)
        elif "question 5" in body["messages"][-1]["content"]:
            first.set()
        return OK

    with JudgeServer(fault) as server:
        assert ratings(server, 8, in_flight=4)[0] == right(8)
    assert first.is_set()


def test_a_mistake_in_the_key_costs_nothing_and_connecting_is_no_part_of_an_answer(tmp_path):
    options = {"cache": tmp_path / "c", "max_cost": 1.0, "prices": Prices(1.0, 1.0)}
    wrong = Judge(Server("http://127.0.0.1:1/v1", "m", key_file="nofile"), TASK, **options)
    with pytest.raises(UsageError, match="key_file nofile cannot be read"):
        list(wrong.verdicts(items(3)))
    cache = AnswerCache(tmp_path / "c", "", "m")
    assert cache.money() == (0, 0)
    cache.close()
    with JudgeServer() as server:
        backend = Server(server.url, "m")
        ask, connected = backend.ask, []

        async def timed(question):
            connected.append(backend._client is not None)
            return await ask(question)

        backend.ask = timed
        (verdict,) = Judge(backend, TASK).verdicts(items(1))
    assert (verdict.error, connected) == (None, [True])
