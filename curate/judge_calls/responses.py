"""Responses of a chat-completions server, of which nothing is trusted: answers and failures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from siftune.curate.core.redact import without_protected
from siftune.curate.core.terminal import one_line
from siftune.curate.judge_calls.spending import BILLION
from siftune.curate.judge_calls.types import Answer, BackendError

if TYPE_CHECKING:
    import httpx2

__all__ = ["answer_of", "failure_of_status", "retry_after"]

_MAY_PASS: Final = (408, 409, 425, 429)
_DETAIL: Final = 300
_NO_DOLLARS: Final = 1e6  # of one answer
_NO_TOKENS: Final = 1 << 32  # more than any model reads, and than the columns hold
_NO_CREDIT: Final = "insufficient_quota"  # OpenAI's 429 that waiting does not mend


def answer_of(body: bytes) -> Answer:
    """The answer in the body of a response with status 200.

    Raises:
        BackendError: ``bad_response`` for what is no chat completion, ``refused`` where the server
            withheld the answer; both with what was billed.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BackendError("bad_response", f"no JSON ({error})", maybe_billed=True) from None
    usage = _usage(found)
    choices = found.get("choices") if isinstance(found, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        detail = f"no chat completion: {_shown(body)}"
        raise BackendError("bad_response", detail, billed=usage, maybe_billed=usage is None)
    reason, text = choice.get("finish_reason"), _text(message.get("content"))
    refusal = message.get("refusal")
    if reason == "content_filter" or (refusal and not text):
        detail = _line(str(refusal or "the server's content filter"))
        raise BackendError("refused", detail, permanent=True, billed=usage)
    known = usage or Answer()
    return Answer(
        without_protected(text),  # a server may repeat the key that it got
        input_tokens=known.input_tokens,
        output_tokens=known.output_tokens,
        cost=known.cost,
        truncated=reason == "length",
    )


def _text(content: Any) -> str:
    """The text of a message, which some servers give in parts; nothing where there is none."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _usage(found: Any) -> Answer | None:
    """Tokens, and the cost where the server states it, in an answer without a text."""
    usage = found.get("usage") if isinstance(found, dict) else None
    if not isinstance(usage, dict):
        return None
    tokens_in, tokens_out = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cost = usage.get("cost")
    stated = isinstance(cost, int | float) and not isinstance(cost, bool)
    dollars = float(cost) if stated and cost is not None else math.nan
    if not 0 <= dollars < _NO_DOLLARS:
        if tokens_in is None or tokens_out is None:
            return None
        return Answer(input_tokens=tokens_in, output_tokens=tokens_out)
    return Answer(input_tokens=tokens_in, output_tokens=tokens_out, cost=round(dollars * BILLION))


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _NO_TOKENS
    return value if fits else None


def failure_of_status(response: httpx2.Response) -> BackendError:
    """The failure that a status other than 200 is, with the pause that the server wants."""
    status = response.status_code
    if 300 <= status < 400:
        target = _line(response.headers.get("location", "nowhere"))
        return BackendError("redirected", f"to {target}, which is not followed")
    body = response.content
    passes = status in _MAY_PASS or status >= 500
    if status == 429 and _NO_CREDIT.encode() in body:
        passes = False
    return BackendError(
        f"http_{status}",
        _message(body),
        permanent=not passes,
        retry_after=retry_after(response.headers, datetime.now(UTC)),
        billed=_usage(_loaded(body)),
    )


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _message(body: bytes) -> str:
    """The message of an error's body, as one line without secrets."""
    found = _loaded(body)
    error = found.get("error", found) if isinstance(found, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return _line(message) if isinstance(message, str) else _shown(body)


def _shown(body: bytes) -> str:
    return _line(body.decode("utf-8", "replace"))


def _line(text: str) -> str:
    """The start of a text as one line without secrets, in time that a hostile one cannot extend."""
    return one_line(without_protected(text)[: 4 * _DETAIL])[:_DETAIL]


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds of the pause that a server wants; None where it names none that can be read.

    ``Retry-After`` holds seconds or a date (RFC 9110, 10.2.3); a date is compared with that of the
    response, so that the server's clock may be wrong. ``retry-after-ms`` is OpenAI's.

    >>> retry_after({"retry-after": "2.5"}, datetime.now(UTC))
    2.5
    >>> dates = {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}
    >>> retry_after(dates | {"date": "Sun, 06 Nov 1994 08:49:30 GMT"}, datetime.now(UTC))
    7.0
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _seconds(value)
    date = None if seconds is not None else _date(value)
    if date is None:
        return seconds
    return max(0.0, (date - (_date(headers.get("date", "")) or now)).total_seconds())


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
