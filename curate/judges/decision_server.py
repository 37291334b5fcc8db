"""A judge behind the decision endpoint of `transformers serve`, which gives probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from siftune.curate.judge_calls.server_client import ServerClient
from siftune.curate.judge_calls.types import Answer, BackendError, Question

__all__ = ["DecisionServer"]

_NAME: Final = "verdict"
_YES_NO: Final = ["no", "yes"]


@dataclass
class DecisionServer(ServerClient):
    """Label probabilities of ``model`` from ``POST /v1/systemone``: no text, nothing to parse.

    `transformers serve` runs the question once through the model and reads the logits of one token
    a label, as `local_model` does in this process. Labels Yes and No are asked for as its type
    ``noul``, ascending whole numbers as ``score``, others as ``choice``. The server writes the
    prompt: our turns in one, then a list of the labels as A, B, C ... and a request to name one, so
    probabilities differ from those of `local_model`. It answers one question after another; a
    question without labels is an error.

    Options:
        url: The server, with or without ``/v1``, such as http://localhost:8000.
        model: The model's name on the server.
        key_variable: The environment variable with the server's key; OPENAI_API_KEY at openai.com.
        key_file: A file that holds the key instead.
        allow_link_local: Allow a server at a link-local or cloud metadata address.
        name: A word that distinguishes this judge from another whose model has the same name.
    """

    @property
    def identity(self) -> str:
        """The model, and the endpoint, whose prompt is its own."""
        return f"decision_server:{self._named}"

    async def ask(self, question: Question) -> Answer:
        """The probabilities of the question's labels.

        Raises:
            BackendError: none came, or no probabilities.
            UsageError: the server's address or key cannot be used at all.
        """
        if not question.labels:
            raise BackendError(
                "no_labels",
                "a decision server names one of several labels and writes no text: take a task "
                "with labels, or the judge URL#MODEL",
                permanent=True,
            )
        text = "\n\n".join(text for _, text in question.messages)
        body = {
            "model": self.model,
            "state": text.encode("utf-8", "replace").decode(),  # no half of a surrogate pair
            "questions": {_NAME: _typed(question.labels)},
        }
        path = "/systemone" if self.url.rstrip("/").endswith("/v1") else "/v1/systemone"
        return _answer(await self.post(path, body), question.labels)


def _typed(labels: Sequence[str]) -> dict[str, Any]:
    """The question in the server's terms.

    >>> [_typed(labels)["type"] for labels in (("Yes", "No"), ("1", "2", "3"), ("A", "B"))]
    ['noul', 'score', 'choice']
    """
    if sorted(label.lower() for label in labels) == _YES_NO:
        return {"type": "noul"}
    if all(label.isdecimal() for label in labels) and [*labels] == sorted(labels, key=int):
        return {"type": "score", "criteria": [*labels]}
    return {"type": "choice", "criteria": dict.fromkeys(labels)}


def _answer(body: bytes, labels: Sequence[str]) -> Answer:
    try:
        found = orjson.loads(body)
        answer = found["answers"][_NAME]
        shares = _shares(answer, labels)
        tokens = found["usage"]["input_tokens"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        shares, tokens = None, None
    if shares is None or not _is_distribution(shares):
        raise BackendError(
            "bad_response", f"no probabilities: {body[:200].decode('utf-8', 'replace')}"
        )
    usable = type(tokens) is int and 0 <= tokens < 1 << 32
    total = math.fsum(shares.values())
    return Answer(
        None,
        {label: share / total for label, share in shares.items()},
        input_tokens=tokens if usable else None,
        output_tokens=0,
    )


def _shares(answer: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """What the server gives for each label, by the type of its answer."""
    if answer["type"] == "noul":
        yes = answer["noul"]
        return {label: yes if label.lower() == "yes" else 1 - yes for label in labels}
    given = answer["probabilities"]
    keys = map(str, range(len(labels))) if answer["type"] == "score" else labels
    shares = dict(zip(labels, (given[key] for key in keys), strict=True))
    return shares if len(given) == len(labels) else {}


def _is_distribution(shares: Mapping[str, Any]) -> bool:
    numbers = [*shares.values()]
    if not all(isinstance(one, int | float) and 0 <= one <= 1 for one in numbers):
        return False
    return abs(math.fsum(numbers) - 1) < 1e-3
