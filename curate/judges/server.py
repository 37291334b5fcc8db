"""A judge behind any OpenAI-compatible endpoint: vLLM, Ollama, llama.cpp, hosted ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from siftune.curate.judging.responses import answer_of
from siftune.curate.judging.server_client import ServerClient
from siftune.curate.judging.types import Answer, Question

__all__ = ["Server"]


@dataclass
class Server(ServerClient):
    """Chat completions of ``model`` at ``url``, over the ``openai`` client.

    The text of an answer is what is parsed: ``response_format`` and ``logprobs`` are not asked for,
    because servers accept and ignore them. Tokens are those that the server states, or unknown.

    A key is sent to the host of ``url`` alone, and redirects are not followed. ``user:password@``
    in the URL is sent instead of a key. For the cache, answers depend on the model and not on the
    server, so another server of the same model may go on where one was stopped.

    Options:
        url: The server, up to ``/v1``, such as http://localhost:8000/v1.
        model: The model's name on the server.
        key_variable: The environment variable that holds the server's key; none is sent without it.
        key_file: A file that holds the key instead.
        allow_link_local: Allow a server at a link-local or cloud metadata address.
        max_tokens_field: How the limit of tokens is named; some models refuse the usual name.
        send_temperature: Send the temperature; some models refuse any but their own.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    send_temperature: bool = True

    @property
    def identity(self) -> str:
        """The model and what is sent besides the question."""
        return f"server:{self.model}" + ("" if self.send_temperature else " default temperature")

    async def ask(self, question: Question) -> Answer:
        """The answer to one question.

        Raises:
            BackendError: none came, or none that has the form of one.
            UsageError: the server's address or key cannot be used at all.
        """
        return answer_of(await self.post("/chat/completions", self._body(question)))

    def _body(self, question: Question) -> dict[str, Any]:
        turns = [{"role": role, "content": _utf8(text)} for role, text in question.messages]
        body: dict[str, Any] = {"model": self.model, "messages": turns}
        body[self.max_tokens_field] = question.max_tokens
        if self.send_temperature:
            body["temperature"] = question.temperature
        return body


def _utf8(text: str) -> str:
    """``text`` with a question mark for each half of a surrogate pair, which no server takes."""
    return text.encode("utf-8", "replace").decode()
