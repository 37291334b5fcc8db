"""Completions from an OpenAI-compatible server, with the log-probability of each token."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias

import orjson

from siftune.curate.core.errors import SiftuneError, UsageError
from siftune.curate.core.ranges import Count, NonNegative, check_ranges
from siftune.curate.judge_calls.server_client import ServerClient
from siftune.curate.judge_calls.types import BackendError
from siftune.curate.text.sampling import Sampling
from siftune.finetune.rl.rollouts.types import Draw, Sampled

__all__ = ["Server", "ServerOptions"]

Logprobs: TypeAlias = Literal["sampled", "raw"]

_TOKEN_ID: Final = "token_id:"
_ROUNDING: Final = 1e-4  # nats above 0 that a log-probability may have


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How a server is asked for completions.

    Options:
        logprobs: What the server's log-probabilities are of: the distribution that it samples from,
            at the temperature (sampled; vLLM with --logprobs-mode processed_logprobs, SGLang), or
            the model's before the temperature (raw; vLLM without), which serve at temperature 1
            alone.
        concurrency: Largest number of requests at once.
        tries: How often a request is sent that fails for a reason that may pass.
        pause: Seconds before it is sent again the first time, twice as many each time after.
        key_variable: Environment variable that holds the server's key.
        key_file: File that holds the server's key.
    """

    logprobs: Logprobs = "sampled"
    concurrency: Count = 16
    tries: Count = 5
    pause: NonNegative = 1.0
    key_variable: str = ""
    key_file: str = ""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Server:
    """Asks ``/completions`` for tokens after the very token ids of a prompt.

    Of each completion its token ids are read: from ``token_ids`` (vLLM), from tokens written as
    ``token_id:N``, or, where a server gives texts alone, by encoding the text again. Then the ids
    have to stand for the same tokens one by one; if they do not, the completion is refused, because
    its log-probabilities would be those of other tokens.

    Sampling filters that a server takes from the model's folder (top-k, penalties) are switched
    off. The server has to serve the policy's weights: nothing is sent to it but prompts. What it
    still differs by is weighed (`rl.importance`) and in the metrics; weights that have grown far
    from the server's show as a large share cut.
    """

    client: ServerClient
    tokenizer: Any
    sampling: Sampling
    options: ServerOptions = field(default_factory=ServerOptions)

    def __post_init__(self) -> None:
        if self.options.logprobs == "raw" and self.sampling.temperature != 1:
            raise UsageError(
                f"rollout_options: logprobs raw are those of temperature 1, and temperature is "
                f"{self.sampling.temperature:g}: set temperature 1, or start the server so that it "
                "gives those of what it samples (vLLM: --logprobs-mode processed_logprobs) and set "
                "logprobs: sampled"
            )

    @classmethod
    def at(
        cls, address: str, tokenizer: Any, sampling: Sampling, options: Mapping[str, Any]
    ) -> Server:
        """The server of ``URL#MODEL``.

        Raises:
            UsageError: it is no such address, or an option is unknown or out of range.
        """
        known = ServerOptions.__dataclass_fields__
        for name in options:
            if name not in known:
                raise UsageError(
                    f"rollout_options: unknown option {name!r}; there are {', '.join(known)}"
                )
        url, _, model = address.partition("#")
        made = ServerOptions(**options)
        client = ServerClient(url, model, made.key_variable, made.key_file)
        return cls(client, tokenizer, sampling, made)

    def __call__(self, policy: Any, draws: Sequence[Draw]) -> Sampled:
        """A completion of each draw.

        Raises:
            SiftuneError: the server fails, or an answer is no completion; the text names the row.
        """
        with ThreadPoolExecutor(1) as apart:  # a notebook has an event loop of its own running
            found = apart.submit(asyncio.run, self._all(draws)).result()
        return Sampled([ids for ids, _ in found], [logps for _, logps in found])

    async def _all(self, draws: Sequence[Draw]) -> list[tuple[list[int], list[float]]]:
        slots = asyncio.Semaphore(self.options.concurrency)

        async def one(draw: Draw) -> tuple[list[int], list[float]]:
            async with slots:
                return self._completion(draw, await self._answer(draw))

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(draw)) for draw in draws]
        except* SiftuneError as several:
            raise several.exceptions[0] from None
        finally:
            await self.client.close()
        return [task.result() for task in tasks]

    async def _answer(self, draw: Draw) -> bytes:
        """The body of the response, after as many tries as it takes."""
        pause = self.options.pause
        for left in reversed(range(self.options.tries)):
            try:
                return await self.client.post("/completions", self._body(draw))
            except BackendError as error:
                if error.permanent or not left:
                    raise self._refused(draw, f"{error}") from None
                await asyncio.sleep(error.retry_after or pause)
                pause *= 2
        raise AssertionError("tries is at least 1")

    def _body(self, draw: Draw) -> dict[str, Any]:
        return {
            "model": self.client.model,
            "prompt": list(draw.ids),
            "max_tokens": self.sampling.max_new_tokens,
            "temperature": self.sampling.temperature,
            "seed": _seed(draw.seed),
            "stop_token_ids": sorted(self.sampling.ends),
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "skip_special_tokens": False,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }

    def _completion(self, draw: Draw, body: bytes) -> tuple[list[int], list[float]]:
        """Token ids and log-probabilities in a response, of which nothing is trusted."""
        try:
            choice = orjson.loads(body)["choices"][0]
            shown = choice["logprobs"]
            tokens, given = list(shown["tokens"]), list(shown["token_logprobs"])
        except (orjson.JSONDecodeError, LookupError, TypeError):
            start = body[:200].decode(errors="replace")
            raise self._refused(draw, f"no completion with logprobs: {start!r}") from None
        ids = choice.get("token_ids")
        if not isinstance(ids, list):
            ids = self._ids_of(draw, tokens)
        if not ids or not all(type(one) is int and one >= 0 for one in ids):
            raise self._refused(draw, f"expected token ids, got {str(ids)[:200]}")
        if len(given) != len(ids):
            raise self._refused(draw, f"{len(ids)} tokens have {len(given)} log-probabilities")
        for value in given:
            if not isinstance(value, int | float) or not -math.inf < value <= _ROUNDING:
                raise self._refused(draw, f"{value!r} is no log-probability")
        ids, given = self._until_end(ids, given)
        if ids[-1] not in self.sampling.ends and len(ids) < self.sampling.max_new_tokens:
            raise self._refused(
                draw,
                f"it stopped after {len(ids)} of {self.sampling.max_new_tokens} tokens without an "
                "end token, so how likely its end was is not known",
            )
        return ids, [float(one) for one in given]

    def _ids_of(self, draw: Draw, tokens: Sequence[Any]) -> list[int]:
        """The ids of tokens that a server has written as ``token_id:N`` or as texts."""
        texts = [str(one) for one in tokens]
        if all(one.startswith(_TOKEN_ID) for one in texts):
            numbers = [one.removeprefix(_TOKEN_ID) for one in texts]
            if all(one.isdecimal() for one in numbers):
                return [int(one) for one in numbers]
        ids: list[int] = self.tokenizer.encode("".join(texts), add_special_tokens=False)
        if [self.tokenizer.decode([one]) for one in ids] != texts:
            raise self._refused(
                draw,
                "its text, encoded again, gives other tokens than the server's, so their "
                "log-probabilities do not fit; use a server that returns token ids (vLLM, SGLang)",
            )
        return ids

    def _until_end(self, ids: list[int], given: list[Any]) -> tuple[list[int], list[Any]]:
        ends = (at for at, one in enumerate(ids) if one in self.sampling.ends)
        most = min(next(ends, len(ids)) + 1, self.sampling.max_new_tokens)
        return ids[:most], given[:most]

    def _refused(self, draw: Draw, why: str) -> SiftuneError:
        return SiftuneError(f"{self.client.shown}: completion of row {draw.row['id']}: {why}")


def _seed(numbers: Sequence[int]) -> int:
    """One number of 31 bits for the seed of a draw."""
    digest = blake2b(repr(tuple(numbers)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
