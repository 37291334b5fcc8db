"""A judge behind the decision endpoint of `transformers serve`: its questions and answers."""

from typing import Any

import orjson
import pytest

from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.spec import judge_backend
from siftune.curate.judge_calls.types import Item, Question
from siftune.curate.judge_tasks.deita_quality import DeitaQuality
from siftune.curate.judges.decision_server import DecisionServer


def of_decision(answer: Any) -> bytes:
    usage = {"input_tokens": 7, "output_tokens": 0}
    return orjson.dumps({"model": "m", "answers": {"verdict": answer}, "usage": usage})


def answered(labels: tuple[str, ...], body: Any, url: str = "http://localhost:1/v1") -> Any:
    """The verdict of a task that returns what it is given, and what was sent."""
    sent: list[Any] = []

    class Fake(DecisionServer):
        async def post(self, path: str, body_sent: dict[str, Any]) -> bytes:
            sent.extend((path, body_sent))
            return body if isinstance(body, bytes) else of_decision(body)

    class Task:
        answers, adds = None, {}

        def questions(self, item: Item) -> list[Question]:
            return [Question((("system", "Rate."), ("user", "Text \ud800")), labels=labels)]

        def parse(self, item: Item, question: int, answer: Any) -> Any:
            return answer

        def verdict(self, item: Item, parsed: Any) -> Any:
            return parsed[0]

    judge = Judge(Fake(url, "m"), Task(), tries=1)
    return next(iter(judge.verdicts([Item(())]))), sent


def test_labels_are_asked_for_by_their_type() -> None:
    choice = {"type": "choice", "choice": "B", "probabilities": {"A": 0.25, "B": 0.75}}
    verdict, (path, body) = answered(("B", "A"), choice)
    assert verdict.values.probabilities == {"B": 0.75, "A": 0.25}
    assert (verdict.values.text, verdict.input_tokens, verdict.output_tokens) == (None, 7, 0)
    assert (path, body["model"], body["state"]) == ("/systemone", "m", "Rate.\n\nText ?")
    assert body["questions"]["verdict"] == {"type": "choice", "criteria": {"B": None, "A": None}}

    score = {"type": "score", "score": 0.5, "probabilities": {"0": 0.5, "1": 0.5, "2": 0.0}}
    verdict, (_, body) = answered(("2", "3", "10"), score)
    assert verdict.values.probabilities == {"2": 0.5, "3": 0.5, "10": 0.0}
    assert body["questions"]["verdict"] == {"type": "score", "criteria": ["2", "3", "10"]}

    verdict, (_, body) = answered(("No", "Yes"), {"type": "noul", "noul": 0.75})
    assert verdict.values.probabilities == {"No": 0.25, "Yes": 0.75}
    assert body["questions"]["verdict"] == {"type": "noul"}


def test_the_url_may_end_before_v1() -> None:
    noul = {"type": "noul", "noul": 0.75}
    assert answered(("Yes", "No"), noul, "http://localhost:1")[1][0] == "/v1/systemone"
    assert answered(("Yes", "No"), noul, "http://localhost:1/v1/")[1][0] == "/systemone"
    named = judge_backend("decision+http://localhost:1#m")
    assert isinstance(named, DecisionServer)
    assert named.identity == "decision_server:m"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"{}", b'"x"', b'{"answers": {}}', b'{"answers": {"verdict": 3}}'),
        {"type": "choice", "probabilities": {"A": 0.5, "C": 0.5}},
        {"type": "choice", "probabilities": {"A": 1.0}},
        {"type": "choice", "probabilities": {"A": 0.2, "B": 0.3}},
        {"type": "choice", "probabilities": {"A": 1.5, "B": -0.5}},
        {"type": "choice", "probabilities": {"A": "1", "B": "0"}},
        {"type": "choice", "probabilities": {"A": None, "B": 1.0}},
        {"type": "choice", "probabilities": {"A": 0.5, "B": 0.25, "C": 0.25}},
        {"type": "choice", "choice": "A"},
        {"type": "noul", "noul": "yes"},
    ],
)
def test_what_is_no_distribution_over_the_labels_is_an_error(body: Any) -> None:
    verdict, _ = answered(("A", "B"), body)
    assert (verdict.values, verdict.error) == (None, "bad_response")


def test_a_question_without_labels_is_an_error() -> None:
    verdict, sent = answered((), b"")
    assert (verdict.error, sent) == ("no_labels", [])


def test_a_task_gets_an_expected_score() -> None:
    class Even(DecisionServer):
        async def post(self, path: str, body: dict[str, Any]) -> bytes:
            levels = body["questions"]["verdict"]["criteria"]
            shares = {str(at): 1 / len(levels) for at in range(len(levels))}
            return of_decision({"type": "score", "probabilities": shares})

    item = Item((("user", "Name a prime."),), ("Seven.",))
    judge = Judge(Even("http://localhost:1", "m"), DeitaQuality())
    assert next(iter(judge.verdicts([item]))).values["quality"] == pytest.approx(3.5)
