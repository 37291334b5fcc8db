"""The side of the tests: runs them in a process that the program cannot reach, over its replies.

Of the standard library only. The program's functions are stand-ins here: a call sends plain data
and gets plain data, so what a test compares are built-in values, with built-in comparisons.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from siftune.finetune.code_execution.values import read, written

__all__ = ["run_calls", "run_tests"]

_PREFIX: Final = "test_"
_RECORD: Final = "__record_assert__"
_METHODS: Final = {
    name for kind in (str, bytes, list, tuple, dict, set, int, float) for name in dir(kind)
}


class _GoneError(BaseException):
    """The program has ended, or answers what is no answer."""


class _Program:
    """A connection to the program."""

    def __init__(self, requests: int, replies: int, limit: int) -> None:
        self.requests, self.limit = requests, limit
        self.replies = os.fdopen(replies, "rb")
        self.is_gone = self.is_asked = self.is_unsent = self.has_classes = False

    def result(self) -> Any:
        """The value of the next reply; raises what the program raised."""
        line = self.replies.readline(self.limit)
        try:
            if not line.endswith(b"\n"):
                raise ValueError("no whole line")
            message = json.loads(line)
            if "ok" in message:
                return read(message["ok"], lambda number: _Remote(self, number))
            kinds, text = list(message["raises"]), str(message["text"])
        except (ValueError, TypeError, LookupError, RecursionError):
            self.is_gone = True
            raise _GoneError from None
        raise _exception(kinds)(text)

    def ask(self, on: str | int, do: str, *arguments: Any, **named: Any) -> Any:
        """The result of something that the program is to do."""
        if self.is_gone:
            raise _GoneError
        self.is_asked = True
        sent = [_sendable(one) for one in arguments]
        try:
            given = written((sent, named), _number_of)
        except TypeError:
            self.is_unsent = True
            raise
        line = json.dumps({"on": on, "do": do, "arguments": given}).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self.requests, line) :]
        except OSError:
            self.is_gone = True
            raise _GoneError from None
        return self.result()


def _exception(kinds: list[Any]) -> type[Exception]:
    """The built-in exception that the program's is, or is a kind of."""
    for name in kinds:
        found = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(found, type) and issubclass(found, Exception):
            return found
    return RuntimeError


def _sendable(value: Any) -> Any:
    """A range as a list, a function of the program by its number; all else as it is."""
    if isinstance(value, _Remote) and isinstance(value._on, str):
        return value._program.ask(value._on, "value")
    return list(value) if isinstance(value, range) else value


def _number_of(value: Any) -> int:
    if isinstance(value, _Remote) and isinstance(value._on, int):
        return value._on
    raise TypeError(f"a program's function is given plain data, not {type(value).__name__}")


class _Remote:
    """A function or an object of the program; equal to itself alone.

    Where the tests name no class of the program, its objects stand in for plain data at best: they
    have their items alone, which are searched and counted here, and no method of plain data.
    """

    def __init__(self, program: _Program, on: str | int) -> None:
        self._program, self._on = program, on

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._program.ask(self._on, "call", *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if isinstance(self._on, int) and not self._program.has_classes and name in _METHODS:
            raise AttributeError(f"an object of the program is no plain data, and has no {name}")
        return self._program.ask(self._on, "attribute", name)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._program.ask(self._on, "items")))

    def __len__(self) -> int:
        if self._program.has_classes:
            return int(self._program.ask(self._on, "length"))
        return len(self._program.ask(self._on, "items"))

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        return self._program.ask(self._on, "item", key)

    def __contains__(self, value: Any) -> bool:
        if self._program.has_classes:
            return self._program.ask(self._on, "holds", value) is True
        return value in self._program.ask(self._on, "items")

    def __str__(self) -> str:
        return str(self._program.ask(self._on, "text"))


class _Recorded(ast.NodeTransformer):
    """Each assert records whether it held; the code after it is run either way.

    One of a true constant is no test. One of a false constant marks what may not be reached.
    """

    def __init__(self) -> None:
        self.count = 0
        self.count_false = 0

    def visit_Assert(self, node: ast.Assert) -> ast.Try | ast.Assert:
        """The assert in a ``try`` that records."""
        if isinstance(node.test, ast.Constant):
            if node.test.value:
                return node
            self.count_false += 1
        site, self.count = self.count, self.count + 1
        held, failed = (_recording(site, held) for held in (True, False))
        handler = ast.ExceptHandler(ast.Name("BaseException", ast.Load()), None, [failed])
        made = ast.Try([node], [handler], [held], [])
        return ast.fix_missing_locations(ast.copy_location(made, node))


def _recording(site: int, held: bool) -> ast.Expr:
    values: list[ast.expr] = [ast.Constant(site), ast.Constant(held)]
    return ast.Expr(ast.Call(ast.Name(_RECORD, ast.Load()), values, []))


class _Verdict:
    """Writes what each assert came to, once a change, and whether the tests ran to their end."""

    def __init__(self, pipe: int, program: _Program) -> None:
        self.pipe, self.program = pipe, program
        self.state: dict[int, bool] = {}

    def record(self, site: int, held: bool) -> None:
        """An assert held, or failed; one that failed once has failed."""
        held = held and not self.program.is_gone and self.state.get(site, True)
        if self.state.get(site) is not held:
            self.state[site] = held
            self.write({"site": site, "held": held})

    def write(self, message: Mapping[str, Any]) -> None:
        """One line."""
        line = json.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self.pipe, line) :]


def run_tests(
    code: str, names: Mapping[str, str], requests: int, replies: int, verdict: int, limit: int
) -> None:
    """Run the code of tests; ``names`` are those in it of the program's, and what they are there.

    Functions ``test_...`` without parameters are called after the rest.
    """
    program = _Program(requests, replies, limit)
    program.has_classes = any(own[:1].isupper() for own in names.values())
    report = _Verdict(verdict, program)
    recorded = _Recorded()
    tree = recorded.visit(ast.parse(code))
    report.write({"sites": recorded.count})
    space: dict[str, Any] = {"__name__": "tests", _RECORD: report.record}
    space |= {own: _Remote(program, theirs) for own, theirs in names.items()}
    ended = _ends(program.result) and _ends(lambda: exec(compile(tree, "tests", "exec"), space))
    for name, thing in list(space.items()) if ended else ():
        if name.startswith(_PREFIX) and isinstance(thing, types.FunctionType) and _is_bare(thing):
            ended = _ends(thing) and ended
    if ended and program.is_asked and not report.state and recorded.count == recorded.count_false:
        for site in range(recorded.count):
            report.record(site, True)  # as with `try: f(-1)`, `except ValueError`, `else: assert 0`
    if program.is_unsent:
        report.write({"unsent": True})
    report.write({"ended": ended and not program.is_gone})


def _is_bare(function: types.FunctionType) -> bool:
    return function.__code__.co_argcount == len(function.__defaults__ or ())


def _ends(step: Callable[[], Any]) -> bool:
    try:
        step()
    except BaseException:  # of the tests or, by way of its reply, of the program
        return False
    return True


def run_calls(name: str, given: str, requests: int, replies: int, verdict: int, limit: int) -> None:
    """Call one function with each of several lists of arguments; write each result."""
    program = _Program(requests, replies, limit)
    report = _Verdict(verdict, program)
    try:
        program.result()
    except _GoneError:
        return
    except Exception as error:
        report.write({"failed": f"{type(error).__name__}: {error}"[:200]})
        return
    for at, arguments in enumerate(read(given, int)):
        try:
            result = program.ask(name, "call", *arguments)
            report.write({"call": at, "result": written(result, _no_object)})
        except _GoneError:
            return
        except Exception as error:
            report.write({"call": at, "raises": f"{type(error).__name__}: {error}"[:200]})


def _no_object(value: Any) -> int:
    raise TypeError("the function gave an object that is no plain data")
