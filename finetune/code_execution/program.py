"""The side of the program: runs its text, and answers what its tests ask over two pipes.

Of the standard library only; in the process of the program, which can change all of this. It
knows neither what the tests expect nor where their verdict goes.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from siftune.finetune.code_execution.values import read, written

__all__ = ["run_script", "serve"]

_FAILED: Final = 1


def run_script(text: str) -> int:
    """Run a program on its standard input and output; its exit status."""
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout)  # those of the start are closed
    sys.argv = ["program.py"]
    atexit._clear()  # what is registered from here on is the program's
    status = 0
    try:
        _run(text, "__main__")
        _join_threads()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # a program may raise anything
        status = _FAILED
    _end_as_an_interpreter()
    return status


def _end_as_an_interpreter() -> None:
    """Call what is registered for the end, and write what streams hold; either may be broken."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.__stdout__):
        with contextlib.suppress(BaseException):
            stream.flush()  # type: ignore[union-attr]


def _run(text: str, name: str) -> dict[str, Any]:
    for ending in ("exit", "quit"):  # site makes them, and it is not imported here
        setattr(builtins, ending, sys.exit)
    space: dict[str, Any] = {"__name__": name, "__builtins__": __builtins__}
    module = type(sys)(name)
    module.__dict__.update(space)
    sys.modules[name] = module  # pickle, dataclasses and typing look a class's module up
    exec(compile(text, "program.py", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def _join_threads() -> None:
    """Wait for threads as an interpreter does at its end."""
    threading: Any = sys.modules.get("threading")
    for thread in threading.enumerate() if threading else ():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()


def serve(text: str, requests: int, replies: int, seconds: float | None) -> None:
    """Run a program, then answer requests, one a line, until there are no more.

    ``seconds``: each call is made in a process of its own, as if it were the first, and has that
    long. None makes all calls here.
    """
    server = _Server(replies, seconds)
    try:
        server.space = _run(text, "program")
        server.reply({"ok": "null"})
    except BaseException as error:
        server.reply(_raised(error))
        return
    with open(requests, "rb", closefd=False) as lines:
        for line in lines:
            server.answer(line)


def _raised(error: BaseException) -> dict[str, Any]:
    try:
        text = str(error)[:200]
    except BaseException:
        text = ""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"raises": kinds, "text": text}


class _Server:
    """Objects of the program that its tests have numbers of, and what can be done with them."""

    def __init__(self, replies: int, seconds: float | None) -> None:
        self.replies, self.seconds = replies, seconds
        self.space: dict[str, Any] = {}
        self.objects: list[Any] = []

    def answer(self, line: bytes) -> None:
        """Answer one request, here or in a process of its own."""
        if self.seconds is None:
            self.reply(self._result(line))
            return
        ends, begins = os.pipe()
        process = os.fork()
        if not process:
            self.replies = begins
            try:
                self.reply(self._result(line))
            finally:
                os._exit(0)
        os.close(begins)
        self._pass_on(ends, process, self.seconds)

    def _pass_on(self, ends: int, process: int, seconds: float) -> None:
        """Hand on the reply of a process; what it does not end in time is a failure."""
        found = bytearray()
        while select.select([ends], [], [], seconds)[0] and (part := os.read(ends, 1 << 16)):
            found += part
            if found.endswith(b"\n"):
                break
        os.close(ends)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        if found.endswith(b"\n"):
            _write(self.replies, bytes(found))
        else:
            self.reply({"raises": ["TimeoutError"], "text": "killed, or out of time"})

    def reply(self, message: Mapping[str, Any]) -> None:
        """Write one line."""
        _write(self.replies, json.dumps(message).encode() + b"\n")

    def _result(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
            arguments, named = read(message["arguments"], self._object)
            done = self._do(message["do"], self._target(message["on"]), arguments, named)
            return {"ok": written(done, self._number)}
        except BaseException as error:
            return _raised(error)

    def _number(self, value: Any) -> int:
        self.objects.append(value)
        return len(self.objects) - 1

    def _object(self, number: int) -> Any:
        return self.objects[number]

    def _target(self, on: str | int) -> Any:
        if isinstance(on, int):
            return self.objects[on]
        if on in self.space:
            return self.space[on]
        solution = self.space.get("Solution")  # the class that LeetCode's tasks ask for
        if solution is not None and hasattr(solution, on):
            return getattr(solution(), on)
        raise NameError(f"name {on!r} is not defined")

    def _do(self, what: str, thing: Any, arguments: Any, named: Any) -> Any:
        steps: dict[str, Callable[..., Any]] = {
            "value": lambda: thing,
            "call": lambda *own: thing(*own, **named),
            "attribute": lambda name: getattr(thing, name),
            "items": lambda: list(thing),
            "length": lambda: len(thing),
            "item": lambda key: thing[key],
            "text": lambda: str(thing),
            "holds": lambda value: value in thing,
        }
        return steps[what](*arguments)


def _write(pipe: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(pipe, rest) :]
