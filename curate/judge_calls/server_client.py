"""Connection of a judge to its server: the key, the one host that gets it, failures."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from siftune.curate.core.errors import UsageError
from siftune.curate.core.redact import hidden, is_secret, looks_like_key, protect
from siftune.curate.judge_calls.responses import failure_of_status
from siftune.curate.judge_calls.types import BackendError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["ServerClient"]

_METADATA: Final = tuple(  # addresses at which clouds give their machines' keys to whoever asks
    map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192"))
)
_ALLOW: Final = "if it is meant, set the option allow_link_local"


@dataclass
class ServerClient:
    """Requests to the server at ``url`` over the ``openai`` client, each sent once.

    The key is sent to the host of ``url`` alone, over http only within a local network; redirects
    are not followed. ``user:password@`` in the URL is sent instead of a key. Without
    ``key_variable`` and ``key_file`` only a host of OpenAI gets a key, ``OPENAI_API_KEY``. ``name``
    distinguishes judges whose models have the same name. `close` ends what one event loop has
    opened.
    """

    url: str = field(repr=False)
    model: str
    key_variable: str = ""
    key_file: str = ""
    allow_link_local: bool = False
    name: str = ""
    _client: Any = field(default=None, init=False, repr=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = self._parts
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
            raise UsageError(
                f"expected the URL of a server, such as http://localhost:8000/v1, got {self.shown}"
            )
        if not self.model.strip():
            raise UsageError(f"the judge at {self.shown} needs the name of a model: URL#MODEL")
        if self.key_variable and not _is_variable(self.key_variable):
            raise UsageError(
                "key_variable: expected the name of the environment variable that holds the key, "
                "such as MY_KEY, and not the key (what was given is not shown)"
            )
        for part in parts.path.split("/"):
            if looks_like_key(unquote(part)):
                protect(unquote(part))
        protect(unquote(parts.password or ""))
        protect(parts.netloc.rpartition("@")[0])
        for name, value in parse_qsl(parts.query):
            if is_secret(name):
                protect(value)
        secret = parts.username is not None or self.key_file or self._variable
        if parts.scheme == "http" and secret and not _is_local(parts.hostname):
            raise UsageError(
                f"{self.shown} would get its key without encryption: use https, or a tunnel that "
                "ends at localhost"
            )
        with suppress(ValueError):  # a name, whose addresses are looked up by the first question
            self._refuse_address(parts.hostname)
        if find_spec("openai") is None:
            raise UsageError(
                "a judge on a server needs the openai client: pip install 'siftune[judge]'"
            )

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return hidden(self.url)

    async def connect(self) -> None:
        """Check the address, read the key and import the client, which may take seconds.

        None of it counts for the time of an answer. `post` does it where nobody did.

        Raises:
            UsageError: the server's address or key cannot be used at all.
        """
        async with self._opening:
            if self._client is None:
                await self._check_address()
                self._client = self._connect()

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of the response to a request with status 2xx.

        Raises:
            BackendError: none came, or one with another status.
            UsageError: the server's address or key cannot be used at all.
        """
        await self.connect()
        import httpx2
        import openai

        try:
            response = await self._client.post(path, cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            failure = failure_of_status(error.response)
            if failure.reason == "http_401":
                failure.detail += f"; {self._key_source}"
            raise failure from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            sent = not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise BackendError(
                "connection",
                hidden(f"{type(cause).__name__}: {cause}" if cause else str(error)),
                maybe_billed=sent,
            ) from None
        content: bytes = response.content
        return content

    async def close(self) -> None:
        """Close connections; the next question opens new ones."""
        client, self._client = self._client, None
        self._opening = asyncio.Lock()  # the next event loop may be another
        if client is not None:
            await client.close()

    def _connect(self) -> AsyncOpenAI:
        import httpx2
        from openai import AsyncOpenAI

        from siftune.curate.judge_calls.one_host import OneHost

        # The client adds its own from the environment, which are for OpenAI and no other host.
        headers = {"accept-encoding": "identity", "authorization": self._authorization()}
        if not self._is_openai:
            headers |= {"openai-organization": None, "openai-project": None}
        for name in ("httpx2", "openai._base_client"):  # they log addresses and headers
            logging.getLogger(name).addFilter(_redacted)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        base = self._parts._replace(netloc=_host_and_port(self._parts), query="").geturl()
        return AsyncOpenAI(
            base_url=base,
            api_key="unused",
            default_query=dict(parse_qsl(self._parts.query)),
            max_retries=0,
            timeout=None,
            http_client=httpx2.AsyncClient(
                transport=OneHost(base, limits, headers), timeout=None, follow_redirects=False
            ),
        )

    def _authorization(self) -> str | None:
        """The header's value; None where there is neither a password nor a key."""
        parts = self._parts
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            protect(pair)
            return f"Basic {b64encode(pair.encode()).decode()}"
        key = self._key()
        return None if key is None else f"Bearer {key}"

    @property
    def _key_source(self) -> str:
        if self._parts.username is not None:
            return "user and password are those of the URL"
        if self.key_file:
            return f"the key is that of the file {self.key_file}"
        if not self._variable:
            return "no key was sent: name its key_variable or key_file"
        state = "set" if os.environ.get(self._variable, "").strip() else "not set"
        return f"the key is that of the environment variable {self._variable}, which is {state}"

    @property
    def _variable(self) -> str:
        return self.key_variable or ("OPENAI_API_KEY" if self._is_openai else "")

    @property
    def _named(self) -> str:
        """The model, with the name that distinguishes it from another of the same name."""
        return f"{self.model} {self.name}" if self.name else self.model

    def _key(self) -> str | None:
        if self.key_file:
            try:
                key = Path(self.key_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"key_file {self.key_file} cannot be read ({error})") from None
        else:
            key = os.environ.get(self._variable, "").strip() if self._variable else ""
        protect(key)
        if not key.isascii() or not key.isprintable():
            raise UsageError("the key of the judge's server holds characters that no key has")
        return key or None

    async def _check_address(self) -> None:
        """Refuse a host that is, or resolves to, a link-local or metadata address."""
        parts, loop = self._parts, asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        except OSError:  # connecting will say so; behind a proxy names need not resolve here
            return
        for *_, address in found:
            self._refuse_address(str(address[0]))

    def _refuse_address(self, address: str) -> None:
        if not self.allow_link_local and _is_refused(address):
            raise UsageError(
                f"the judge's server {self.shown} has the address {address}, which is "
                f"link-local or of cloud metadata: {_ALLOW}"
            )

    @cached_property
    def _parts(self) -> SplitResult:
        try:
            parts = urlsplit(self.url)
            _ = parts.port  # raises where it is no number
        except ValueError as error:
            raise UsageError(f"{self.shown} is no URL ({error})") from None
        return parts

    @property
    def _is_openai(self) -> bool:
        return (self._parts.hostname or "").endswith(".openai.com")


def _is_variable(name: str) -> bool:
    """Whether a text can be the name of an environment variable, and is not a key instead.

    >>> [_is_variable(name) for name in ("MY_KEY", "sk-live-1234", "hf_abcdefgh", "A1" * 10)]
    [True, False, False, False]
    """
    return name.isascii() and name.isidentifier() and not looks_like_key(name)


def _host_and_port(parts: SplitResult) -> str:
    """The network location without user and password."""
    return parts.netloc.rpartition("@")[2]


def _is_local(host: str) -> bool:
    """Whether a host is of this machine or its network.

    >>> [_is_local(host) for host in ("localhost", "127.0.0.1", "::1", "10.0.0.1", "vllm")]
    [True, True, True, True, True]
    >>> [_is_local(host) for host in ("api.host.ai", "8.8.8.8", "2852039166")]
    [False, False, False]
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        plain = "." not in host and not host[0].isdigit()  # a number is an address, too
        return plain or host.endswith((".localhost", ".local", ".internal"))
    return address.is_private


def _is_refused(text: str) -> bool:
    """Whether an address is link-local or one of cloud metadata.

    >>> [_is_refused(a) for a in ("169.254.169.254", "fe80::1%eth0", "::ffff:169.254.1.1")]
    [True, True, True]
    >>> [_is_refused(a) for a in ("127.0.0.1", "10.0.0.1", "::1")]
    [False, False, False]
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local or address in _METADATA


def _redacted(record: logging.LogRecord) -> bool:
    """Take the secrets out of a record of a log."""
    record.msg, record.args = hidden(record.getMessage()), ()
    return True
