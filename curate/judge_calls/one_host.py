"""HTTP transport of a judge's server: one host, and no more of a response than an answer needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import httpx2

__all__ = ["OneHost"]

_MOST_BYTES: Final = 4 << 20  # of a response


class OneHost(httpx2.AsyncHTTPTransport):
    """A transport that sends to one host alone, and reads at most 4 MiB of a response.

    ``headers`` are set in each request; those of None are taken out.
    """

    def __init__(self, base: str, limits: httpx2.Limits, headers: Mapping[str, str | None]) -> None:
        url = httpx2.URL(base)
        super().__init__(limits=limits, proxy=_proxy(url))
        self._host = _origin(url)
        self._headers = dict(headers)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``, unless its host is another than that of the judge."""
        if _origin(request.url) != self._host:
            raise httpx2.ConnectError("refused to send a request, with its key, to another host")
        for name, value in self._headers.items():
            request.headers.pop(name, None)
            if value is not None:
                request.headers[name] = value
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("a compressed response, which was not asked for")
        response.stream = _Bounded(response.stream)
        return response


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _proxy(url: httpx2.URL) -> str | None:
    """The proxy that the environment names for a URL; none for this machine."""
    if url.host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of a response, with an error after the most that an answer can have."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > _MOST_BYTES:
                raise httpx2.RemoteProtocolError(f"a response of more than {_MOST_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
