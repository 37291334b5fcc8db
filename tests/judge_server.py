"""A chat-completions server on loopback whose answers and faults a test decides."""

import asyncio
import hashlib
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

OK = "ok"


@dataclass
class FakeTime:
    """A clock that moves when all sleep, to the time at which the first wakes."""

    now: float = 0.0
    slept: list = field(default_factory=list)
    wakes: list = field(default_factory=list)

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        wake = self.now + seconds
        self.wakes.append(wake)
        while self.now < wake:
            for _ in range(10):
                await asyncio.sleep(0)
            if wake == min(self.wakes):
                self.now = max(self.now, wake)
        self.wakes.remove(wake)


def number_of(body):
    """The right answer to a request: a number from 0 to 5 that depends on its messages."""
    return hashlib.sha256(orjson.dumps(body["messages"][:2])).digest()[0] % 6


def completion(content, finish="stop", **usage):
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    counts = {"prompt_tokens": 100, "completion_tokens": 2, **usage}
    return {"object": "chat.completion", "model": "m", "choices": [choice], "usage": counts}


class JudgeServer:
    """Serves until it is closed; ``fault(body, times)`` names what to do with a request.

    ``times`` counts the earlier requests with the same messages. ``bodies`` are all that came,
    ``answered`` those whose whole answer was sent, ``headers`` the headers of each.
    """

    def __init__(self, fault=lambda body, times: OK, reply=None):
        self.fault, self.reply = fault, reply or (lambda body: completion(str(number_of(body))))
        self.bodies, self.answered, self.headers = [], Counter(), []
        self.times, self.lock = Counter(), threading.Lock()
        self.other = "http://127.0.0.1:1"  # where redirects lead
        self.closing = threading.Event()
        self.open = self.most = 0
        outer = self

        class Handler(_Handler):
            judge = outer

        self.http = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """What a client breaks off is no error of a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        """Nothing is logged."""

    def do_GET(self):
        self.judge.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.send(200, b"{}")

    def do_POST(self):
        judge = self.judge
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = orjson.loads(raw)
        key = orjson.dumps(body["messages"])
        with judge.lock:
            judge.bodies.append(body)
            judge.headers.append({name.lower(): value for name, value in self.headers.items()})
            times = judge.times[key]
            judge.times[key] += 1
            judge.open += 1
            judge.most = max(judge.most, judge.open)
        try:
            fault = judge.fault(body, times)
            if fault == OK:
                self.send(200, orjson.dumps(judge.reply(body)))
                judge.answered[key] += 1
            else:
                FAULTS[fault](self, body)
        finally:
            with judge.lock:
                judge.open -= 1

    def send(self, status, content, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def say(self, content, **more):
        self.send(200, orjson.dumps(completion(content, **more)))

    def reset(self):
        """Close the connection with a reset instead of an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def cut(self):
        self.send(200, orjson.dumps(completion("3")), length=10_000)
        self.reset()

    def end(self):
        self.close_connection = True

    def hang(self):
        self.judge.closing.wait(20)
        self.close_connection = True

    def drip(self):
        content = orjson.dumps(completion("3"))
        with suppress(OSError):
            self.send(200, b"", length=len(content))
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.judge.closing.wait(0.05):
                    return

    def flood(self):
        with suppress(OSError):
            self.send(200, b"", length=1 << 30)
            for _ in range(64):
                self.wfile.write(b"x" * (1 << 20))
        self.close_connection = True


def _error(status, message="no", **headers):
    content = orjson.dumps({"error": {"message": message, "type": "t", "code": "c"}})
    return lambda handler, body: handler.send(status, content, **headers)


FAULTS = {
    "429": _error(429, Retry_After="0"),
    "429 fraction": _error(429, Retry_After="0.01"),
    "429 date": lambda handler, body: handler.send(
        429, b"{}", Retry_After=formatdate(time.time(), usegmt=True)
    ),
    "429 no pause": _error(429),
    "429 nonsense pause": _error(429, Retry_After="soon"),
    "500": _error(500),
    "502 page": lambda handler, body: handler.send(502, b"<html>Bad Gateway</html>"),
    "503": _error(503, Retry_After="0"),
    "529": _error(529),
    "408": _error(408),
    "reset": lambda handler, body: handler.reset(),
    "end": lambda handler, body: handler.end(),
    "cut": lambda handler, body: handler.cut(),
    "hang": lambda handler, body: handler.hang(),
    "drip": lambda handler, body: handler.drip(),
    "flood": lambda handler, body: handler.flood(),
    "truncated json": lambda handler, body: handler.send(200, orjson.dumps(completion("3"))[:40]),
    "garbage": lambda handler, body: handler.send(200, b"\x00\xff\xfe garbage \x80"),
    "page": lambda handler, body: handler.send(200, b"<html>log in</html>"),
    "empty body": lambda handler, body: handler.send(200, b""),
    "wrong schema": lambda handler, body: handler.send(200, b'{"result": "3"}'),
    "list": lambda handler, body: handler.send(200, b'["3"]'),
    "no choices": lambda handler, body: handler.send(200, b'{"choices": [], "usage": {}}'),
    "no message": lambda handler, body: handler.send(200, b'{"choices": [{"text": "3"}]}'),
    "error in 200": lambda handler, body: handler.send(200, b'{"error": {"message": "busy"}}'),
    "compressed": lambda handler, body: handler.send(200, b"\x1f\x8b", Content_Encoding="gzip"),
    "redirect": lambda handler, body: handler.send(
        307, b"", Location=f"{handler.judge.other}/v1/chat/completions"
    ),
    "redirect to itself": lambda handler, body: handler.send(302, b"", Location=handler.path),
    "null": lambda handler, body: handler.say(None),
    "no text": lambda handler, body: handler.say(""),
    "number": lambda handler, body: handler.say(3),
    "out of range": lambda handler, body: handler.say("11"),
    "negative": lambda handler, body: handler.say("-1"),
    "nan": lambda handler, body: handler.say("NaN"),
    "infinite": lambda handler, body: handler.say("1e999"),
    "extra text": lambda handler, body: handler.say("I would say 3, or rather 4 of 5."),
    "truncated answer": lambda handler, body: handler.say('{"score": 3', finish="length"),
    "refuses": lambda handler, body: handler.say("I cannot rate this."),
}
"""What a server may do instead of answering, by name."""

UNPARSED = (
    *("null", "no text", "number", "out of range", "negative", "nan", "infinite", "extra text"),
    *("truncated answer", "refuses"),
)
"""Faults of an answer, not of the call: it is asked again, with what was expected."""
