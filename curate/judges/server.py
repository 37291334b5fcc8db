"""A judge behind any OpenAI-compatible endpoint: vLLM, Ollama, llama.cpp, hosted ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import orjson

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Natural, check_ranges
from siftune.curate.core.redact import begins_as_key
from siftune.curate.judge_calls.responses import answer_of
from siftune.curate.judge_calls.server_client import ServerClient
from siftune.curate.judge_calls.types import Answer, Question

__all__ = ["Server"]

_OURS: Final = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "stream"),
    *("n", "best_of"),  # more answers than one are paid, and none of them is read
)


@dataclass
class Server(ServerClient):
    """Chat completions of ``model`` at ``url``, over the ``openai`` client.

    The text of an answer is what is parsed: ``response_format`` and ``logprobs`` are not asked for,
    because servers accept and ignore them. Tokens are those that the server states, or unknown.

    A key is sent to the host of ``url`` alone, and redirects are not followed. ``user:password@``
    in the URL is sent instead of a key. For the cache, answers depend on the model and not on the
    server, so another server of the same model may go on where one was stopped. A block
    ``<think>…</think>`` that an answer begins with is not parsed.

    Options:
        url: The server, up to ``/v1``, such as http://localhost:8000/v1.
        model: The model's name on the server.
        key_variable: The environment variable with the server's key; OPENAI_API_KEY at openai.com.
        key_file: A file that holds the key instead.
        allow_link_local: Allow a server at a link-local or cloud metadata address.
        name: A word that distinguishes this judge from another whose model has the same name.
        extra_tokens: Tokens for reasoning, added to the limit of each answer.
        extra_body: Further fields of each request, as ``{reasoning_effort: low}``.
        max_tokens_field: How the limit of tokens is named; some models refuse the usual name.
        send_temperature: Send the temperature; some models refuse any but their own.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    send_temperature: bool = True
    extra_tokens: Natural = 0
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a server that cannot be, and fields of a request that are ours."""
        super().__post_init__()
        check_ranges(self)
        if taken := sorted(self.extra_body.keys() & set(_OURS)):
            raise UsageError(f"extra_body: {', '.join(taken)} cannot be set, it is of the question")
        if secret := _secret_in(self.extra_body):
            raise UsageError(
                f"extra_body: {secret} looks like a key, and fields of a request are written to "
                "the manifest and the cache: keys come from the environment (key_variable) or a "
                "file (key_file)"
            )

    @property
    def identity(self) -> str:
        """The model and what is sent besides the question."""
        more = [] if self.send_temperature else ["default temperature"]
        more += [f"{self.extra_tokens} more tokens"] if self.extra_tokens else []
        if self.extra_body:
            more.append(orjson.dumps(self.extra_body, option=orjson.OPT_SORT_KEYS).decode())
        return " ".join([f"server:{self._named}", *more])

    async def ask(self, question: Question) -> Answer:
        """The answer to one question.

        Raises:
            BackendError: none came, or none that has the form of one.
            UsageError: the server's address or key cannot be used at all.
        """
        answer = answer_of(await self.post("/chat/completions", self._body(question)))
        most = question.max_tokens + self.extra_tokens
        cut = answer.output_tokens is not None and answer.output_tokens >= most
        return replace(answer, truncated=answer.truncated or cut)

    def _body(self, question: Question) -> dict[str, Any]:
        turns = [{"role": role, "content": _utf8(text)} for role, text in question.messages]
        body: dict[str, Any] = {"model": self.model, "messages": turns}
        body[self.max_tokens_field] = question.max_tokens + self.extra_tokens
        if self.send_temperature:
            body["temperature"] = question.temperature
        return body | dict(self.extra_body)


_SECRET: Final = re.compile(
    r"(?:.*[-_])?(?:(?:api|private|access|secret|auth)[-_]?key|authorization|passw(?:or)?d|secret"
    r"|credentials?|(?:access|auth|bearer|api|id|refresh|session)[-_]?token)|token|key|bearer",
    re.IGNORECASE,
)


def _secret_in(value: Any, name: str = "") -> str:
    """The name of a field that holds a key, by its name or by how its text begins; '' if none."""
    if isinstance(value, Mapping):
        return next(filter(None, (_secret_in(one, str(key)) for key, one in value.items())), "")
    if isinstance(value, list | tuple):
        return next(filter(None, (_secret_in(one, name) for one in value)), "")
    if not isinstance(value, str):
        return ""
    begins = begins_as_key(value) or value.startswith(("Bearer ", "Basic "))
    return name if _SECRET.fullmatch(name) or begins else ""


def _utf8(text: str) -> str:
    """``text`` with a question mark for each half of a surrogate pair, which no server takes."""
    return text.encode("utf-8", "replace").decode()
