"""Two functions or objects have one text exactly where they compute the same."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from siftune.curate.core.object_hash import NoTextError, object_hash


class Model:
    """Scores by a value of its own."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def score(self, response: str) -> Any:
        """The value."""
        return self.value


@dataclass
class Settings:
    v: int = 1
    inner: list[SimpleNamespace] = field(default_factory=list)


class Slots:
    __slots__ = ("v",)

    def __init__(self, v: int) -> None:
        self.v = v


def using(value: Any) -> Any:
    """A function that uses ``value`` by name, in a function within it."""
    return lambda response: [value for _ in response]


def outer(value: int) -> Any:
    """A function that calls a function that uses ``value``."""
    inner = using(value)
    return lambda response: inner(response)


VALUES: dict[str, Any] = {
    "bound method": lambda n: Model(n).score,
    "method of an object within": lambda n: Model(Model(n)).score,
    "object": Model,
    "partial": lambda n: partial(pow, n),
    "closure": using,
    "closure of a function that is called": outer,
    "namespace": lambda n: using(SimpleNamespace(v=SimpleNamespace(v=n))),
    "dataclass": lambda n: using(Settings(v=n)),
    "within lists": lambda n: using(Settings(inner=[SimpleNamespace(v=[n])])),
    "slots": lambda n: using(Slots(n)),
    "array": lambda n: using(np.array([n, 2])),
    "numpy number": lambda n: using(np.float64(n)),
    "set": lambda n: using({n, "a", "b"}),
    "pattern": lambda n: re.compile(str(n)).match,
    "method of a mapping": lambda n: {"a": n}.get,
    "type": lambda n: using(type("T", (), {"v": n})),
    "default": lambda n: eval(f"lambda response, n={n}: n"),
    "keyword default": lambda n: eval(f"lambda response, *, n={n}: n"),
    "code": lambda n: eval(f"lambda response: response * {n}"),
    "nested code": lambda n: eval(f"lambda response: [r * {n} for r in response]"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_text_is_that_of_the_state(name):
    make = VALUES[name]
    assert object_hash(make(1)) == object_hash(make(1))
    assert object_hash(make(1)) != object_hash(make(2))


def test_a_tensor_is_its_numbers():
    torch = pytest.importorskip("torch")
    one, other = (using(torch.tensor([n, 2.0], dtype=torch.bfloat16)) for n in (1, 3))
    again = using(torch.tensor([1, 2.0], dtype=torch.bfloat16))
    assert object_hash(one) == object_hash(again) != object_hash(other)


WORDS = ["a"]


def test_a_name_of_the_module_that_is_used_within_an_inner_function_counts():
    def rule(response: str) -> bool:
        return any(word in response for word in WORDS)

    first = object_hash(rule)
    WORDS.append("b")
    try:
        assert object_hash(rule) != first
    finally:
        WORDS.pop()
    assert object_hash(rule) == first


CELLS = {
    "function": "@decorate\ndef found(r): return {n}",
    "call": "class C:\n @decorate\n def __call__(self, r): return {n}\nfound = C()",
    "helper": "@decorate\ndef help(r): return {n}\ndef found(r): return help(r)",
    "global": "N = {n}\n@decorate\ndef found(r): return N",
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("decorator", ["no_grad", "inference_mode", "contextmanager", "lru_cache"])
def test_what_a_decorator_of_a_library_wraps_counts(cell, decorator):
    torch = pytest.importorskip("torch")
    known = {"contextmanager": contextmanager, "lru_cache": lru_cache}
    decorate = known[decorator] if decorator in known else getattr(torch, decorator)()

    def text(n: int) -> str:
        space = {"__name__": "__main__", "decorate": decorate}
        exec(CELLS[cell].format(n=n), space)
        return object_hash(space["found"])

    assert text(1) == text(1) != text(2)


def test_a_value_of_a_module_within_modules_counts():
    deep, top = ModuleType("lib.deep"), ModuleType("lib")
    deep.D, top.deep, deep.top = 1, deep, top
    space = {"__name__": "cell", "lib": top}
    exec("def rule(response): return lib.deep.D", space)
    first = object_hash(space["rule"])
    deep.D = 2
    assert object_hash(space["rule"]) != first


def test_an_object_that_holds_itself_has_a_text():
    one, other = ({"a": n} for n in (1, 2))
    one["self"], other["self"] = one, other
    assert object_hash(using(one)) != object_hash(using(other))


def test_a_logger_is_its_name():
    assert object_hash(using(logging.getLogger("a"))) != object_hash(using(logging.getLogger("b")))


def deep() -> Any:
    """Lists within lists."""
    found: Any = []
    for _ in range(100):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("value", "kind"),
    [(threading.Lock(), "lock"), ((n for n in "a"), "generator"), (deep(), "list")],
)
def test_what_cannot_be_written_has_no_text(value, kind):
    with pytest.raises(NoTextError, match=rf"'value' \({kind}\)"):
        object_hash(using(value))
