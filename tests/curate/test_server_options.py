"""Options of a judge's server: which host gets which key, reasoning, fields of requests."""

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import Item
from siftune.curate.judge_tasks.alpagasus import AlpaGasus
from siftune.curate.judges.server import Server
from tests.judge_server import JudgeServer, completion

TASK = AlpaGasus(explanation=False)
ITEM = [Item((("user", "question"),), ("answer",))]


def test_the_key_of_openai_is_sent_to_no_other_host(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0004")
    with JudgeServer() as server:
        list(Judge(Server(server.url, "m"), TASK).verdicts(ITEM))
    assert "authorization" not in server.headers[0]
    assert Server("https://api.openai.com/v1", "m")._authorization() == "Bearer sk-canary-0004"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://api.openai.com/v1", {}),
        ("http://judge.example.org/v1", {"key_variable": "MY_KEY"}),
        ("http://8.8.8.8/v1", {"key_file": "key"}),
        ("http://me:password@judge.example.org/v1", {}),
    ],
)
def test_no_key_goes_unencrypted_to_a_host_that_is_not_local(url, options):
    with pytest.raises(UsageError, match="without encryption: use https"):
        Server(url, "m", **options)


def test_a_parameter_of_the_url_that_is_no_secret_is_left_in_answers():
    said = "signed on 2024-10-21 by canary-0005"
    with JudgeServer(reply=lambda body: completion(said)) as server:
        backend = Server(f"{server.url}?api-version=2024-10-21&code=canary-0005", "m")
        (verdict,) = Judge(backend, TASK, ask_again=0).verdicts(ITEM)
    assert verdict.answers[0].text == "signed on 2024-10-21 by ***"


@pytest.mark.parametrize(
    ("said", "finish", "error"),
    [
        ("<think>\n\n</think>\n\n3", "stop", None),
        ("<think>\nScore: 5\n</think>\n3", "stop", None),
        ("3", "stop", None),  # the reasoning is elsewhere, and its tokens are counted
        ("3", "length", "cut"),
        ("<think>\n3", "length", "cut"),
    ],
)
def test_a_server_that_reasons_is_parsed_after_its_reasoning(said, finish, error):
    options = {"extra_tokens": 100, "extra_body": {"reasoning_effort": "low"}}
    reply = completion(said, finish, completion_tokens=16)  # the limit without extra_tokens
    with JudgeServer(reply=lambda body: reply) as server:
        backend = Server(server.url, "m", **options)
        judge = Judge(backend, TASK, ask_again=0, prices=Prices(output=1.0), max_cost=1.0)
        (verdict,) = judge.verdicts(ITEM)
    assert verdict.error == error
    assert (verdict.values or {}).get("rating") == (None if error else 3)
    assert verdict.answers[0].text == said  # which the cache keeps
    body = server.bodies[0]
    assert (body["max_tokens"], body["reasoning_effort"]) == (116, "low")


def test_fields_of_the_question_are_not_set_otherwise():
    with pytest.raises(UsageError, match="extra_body: max_tokens, n cannot be set"):
        Server("http://localhost/v1", "m", extra_body={"n": 4, "max_tokens": 3})


def test_tokens_for_reasoning_are_part_of_the_bound(tmp_path):
    with JudgeServer(reply=lambda body: {**completion("3"), "usage": None}) as server:
        backend = Server(server.url, "m", extra_tokens=1_000)
        (verdict,) = Judge(backend, TASK, prices=Prices(output=1.0)).verdicts(ITEM)
    assert verdict.cost == 1_016_000


@pytest.mark.parametrize("key", ["sk-live-canary0006", "hf_canary0006", "canary0006" * 3, "é"])
def test_a_key_in_place_of_its_variable_is_refused_and_not_shown(key):
    with pytest.raises(UsageError, match="expected the name of the environment variable") as told:
        Server("http://localhost/v1", "m", key_variable=key)
    assert key not in str(told.value)
    Server("http://localhost/v1", "m", key_variable="TOGETHER_API_KEY_2")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"api_key": "canary0007"}, "api_key"),
        ({"provider": [{"X-Api-Key": "canary0007"}]}, "X-Api-Key"),
        ({"openai_api_key": "canary0007"}, "openai_api_key"),
        ({"headers": {"Authorization": "canary0007"}}, "Authorization"),
        ({"via": "sk-canary0007"}, "via"),
    ],
)
def test_a_key_among_the_fields_of_a_request_is_refused_and_not_shown(body, name):
    with pytest.raises(UsageError, match=f"extra_body: {name} looks like a key") as told:
        Server("http://localhost/v1", "m", extra_body=body)
    assert "canary" not in str(told.value)


def test_usual_fields_of_a_request_are_no_keys():
    usual = {"reasoning": {"max_tokens": 9}, "prompt_cache_key": "rows", "stop_token_ids": [1]}
    usual |= {"chat_template_kwargs": {"enable_thinking": False}, "session_id": "a", "user": "b"}
    assert Server("http://localhost/v1", "m", extra_body=usual).extra_body == usual


def test_a_key_in_the_path_of_a_url_is_hidden():
    backend = Server("https://host.ai/v1/sk-canary00080/chat", "m")
    assert backend.shown == "https://host.ai/v1/***/chat"
    assert Server("https://host.ai/v1/deployments/gpt-4o", "m").shown.endswith("/gpt-4o")
