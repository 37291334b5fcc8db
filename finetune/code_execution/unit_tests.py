"""Unit tests of rows as data sets have them: standard inputs with outputs, calls, or code."""

from __future__ import annotations

import ast
import builtins
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, Final

__all__ = [
    "CallTests",
    "CodeTests",
    "ScriptTests",
    "UnitTests",
    "same_output",
    "same_value",
    "unit_tests",
]

_LISTS: Final = ("tests", "test_cases", "unit_tests", "public_test_cases")
_RUN: Final = ("eval", "exec", "compile", "__import__")
_CONTESTS: Final = ("public_tests", "private_tests", "generated_tests")


@dataclass(frozen=True)
class ScriptTests:
    """A program reads each of ``inputs`` and writes the output of the same place."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class CallTests:
    """A call of the function ``names[0]`` with each list of arguments gives a value of outputs."""

    names: tuple[str, ...]
    calls: tuple[tuple[Any, ...], ...]
    outputs: tuple[Any, ...]


@dataclass(frozen=True)
class CodeTests:
    """Code whose asserts hold; ``names`` are its names of the program's functions."""

    code: str
    remote: Mapping[str, str]
    names: tuple[str, ...]


UnitTests = ScriptTests | CallTests | CodeTests


def unit_tests(row: Mapping[str, Any], field: str | None = None) -> UnitTests | None:
    """The tests of a raw row, of any of the layouts known, or of one ``field``; None without.

    Layouts: HumanEval (``test``, ``entry_point``), MBPP (``test_list`` with ``test_setup_code`` or
    ``test_imports``), APPS and TACO (``input_output``, also with ``fn_name``), CodeContests
    (``public_tests``, ``private_tests``, ``generated_tests``), LiveCodeBench
    (``public_test_cases``), and ``tests``, ``test_cases`` or ``unit_tests``: code, a list of
    asserts, or a list of ``{input, output}``.
    """
    try:
        found = _found(row, field)
    except (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError):
        return None
    if isinstance(found, ScriptTests | CallTests) and not found.outputs:
        return None
    return found


def _found(row: Mapping[str, Any], field: str | None) -> UnitTests | None:
    names = [name for name in row if field in (None, name) and row[name]]
    entry = row.get("entry_point") or row.get("fn_name")
    metadata = _loaded(row.get("metadata"))
    if not entry and isinstance(metadata, Mapping):
        entry = metadata.get("func_name")  # LiveCodeBench
    if "test" in names:
        check = f"\ncheck({entry})" if entry and "def check(" in row["test"] else ""
        return _code(row["test"] + check, entry)
    if "test_list" in names:
        before = row.get("test_setup_code") or row.get("test_imports") or ""
        listed = [before] if isinstance(before, str) else [*before]
        return _code("\n".join([*listed, *row["test_list"]]), entry)
    if "input_output" in names:
        return _given(_loaded(row["input_output"]), entry)
    contests = [_loaded(row[name]) for name in _CONTESTS if name in names]
    if contests:
        inputs = [text for one in contests for text in one["input"]]
        return _script(inputs, [text for one in contests for text in one["output"]])
    known = field if field in names else next((name for name in _LISTS if name in names), None)
    return None if known is None else _given(_loaded(row[known]), entry)


def _loaded(given: Any) -> Any:
    """What JSON text holds; a text that is none stays."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def _given(tests: Any, entry: str | None) -> UnitTests | None:
    if isinstance(tests, str):
        return _code(tests, entry)
    if isinstance(tests, Mapping):
        inputs = tests.get("inputs", tests.get("input"))
        outputs = tests.get("outputs", tests.get("output"))
        name = tests.get("fn_name") or entry
        return _calls(name, inputs, outputs) if name else _script(inputs, outputs)
    if all(isinstance(one, str) for one in tests):
        return _code("\n".join(tests), entry)
    inputs, outputs = ([one[key] for one in tests] for key in ("input", "output"))
    if tests[0].get("testtype") == "functional":
        if not entry:
            return None
        lines = [[json.loads(line) for line in text.splitlines()] for text in inputs]
        return _calls(entry, lines, [json.loads(text) for text in outputs])
    return _calls(entry, inputs, outputs) if entry else _script(inputs, outputs)


def _script(inputs: Sequence[Any], outputs: Sequence[Any]) -> ScriptTests:
    if len(inputs) != len(outputs):
        raise ValueError("expected an output for each input")
    return ScriptTests(tuple(map(_lines, inputs)), tuple(map(_lines, outputs)))


def _lines(given: Any) -> str:
    """APPS has some as lists of lines."""
    return given if isinstance(given, str) else "\n".join(map(str, given))


def _calls(name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> CallTests:
    if len(inputs) != len(outputs) or not all(isinstance(one, list | tuple) for one in inputs):
        raise ValueError("expected a list of arguments and an output for each call")
    return CallTests((name,), tuple(map(tuple, inputs)), tuple(outputs))


def _code(code: str, entry: str | None) -> CodeTests | None:
    """Tests from code; None where they need a package, could not fail, or run texts as code.

    None, too, where a call is to change its argument: the program has a copy of that.
    A text that the program gave would run beside the verdict.
    """
    tree = ast.parse(code)
    taken = _ProgramImports()
    tree = ast.fix_missing_locations(taken.visit(tree))
    checks = any(map(_may_fail, ast.walk(tree)))
    runs_texts = any(isinstance(node, ast.Name) and node.id in _RUN for node in ast.walk(tree))
    if taken.lacks or not checks or runs_texts:
        return None
    names, modules = _free_names(tree, entry)
    remote = {name: name for name in names} | taken.names
    if _changes_argument(tree, remote):
        return None
    before = "".join(f"import {name}\n" for name in modules)
    called = (entry,) if entry else tuple(remote.values())
    return CodeTests(before + ast.unparse(tree), remote, called)


def _changes_argument(tree: ast.AST, remote: Mapping[str, str]) -> bool:
    """Whether an assert follows a call, without a use of its result, and reads its argument."""
    bodies = (getattr(node, "body", None) for node in ast.walk(tree))
    for body in (one for one in bodies if isinstance(one, list)):
        for step, check in pairwise(body):
            call = step.value if isinstance(step, ast.Expr) else None
            if not isinstance(call, ast.Call) or not isinstance(check, ast.Assert):
                continue
            given = {one.id for one in call.args if isinstance(one, ast.Name)}
            read = {one.id for one in ast.walk(check) if isinstance(one, ast.Name)}
            if isinstance(call.func, ast.Name) and call.func.id in remote and given & read:
                return True
    return False


def _may_fail(node: ast.AST) -> bool:
    """Whether it raises, or asserts what is no true constant."""
    if isinstance(node, ast.Assert):
        return not (isinstance(node.test, ast.Constant) and node.test.value)
    return isinstance(node, ast.Raise)


class _ProgramImports(ast.NodeTransformer):
    """Takes out ``from solution import f``; notes packages that are not there."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.lacks: list[str] = []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Of a module that is not of the standard library, names of the program."""
        if (node.module or "").split(".")[0] in sys.stdlib_module_names:
            return node
        self.names |= {one.asname or one.name: one.name for one in node.names}
        return ast.copy_location(ast.Pass(), node)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """Note what is not of the standard library."""
        tops = (one.name.split(".")[0] for one in node.names)
        self.lacks += [top for top in tops if top not in sys.stdlib_module_names]
        return node


def _free_names(tree: ast.AST, entry: str | None) -> tuple[list[str], list[str]]:
    """Names of the program that the code reads, and modules that it did not import.

    A built-in name is the program's only where it is the ``entry``, or where no other name could
    be: a program's own ``set`` or ``sorted`` would otherwise decide what is equal.
    """
    loaded: set[str] = set()
    called: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(tree):
        bound.update(_bound(node))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            loaded.add(node.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called.add(node.func.id)
    free = loaded - bound
    own = {name for name in free if not hasattr(builtins, name)}
    modules = {name for name in own if name in sys.stdlib_module_names} - called - {entry}
    own = own - modules | ({entry} & free if entry else set())
    if not own:
        own = {name for node in ast.walk(tree) for name in _tested(node)} & free
    return sorted(own), sorted(modules)


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that a node binds."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name


def _tested(node: ast.AST) -> Iterator[str]:
    """The function whose result an assert compares: ``assert NAME(...) == ...``."""
    if isinstance(node, ast.Assert):
        left = node.test.left if isinstance(node.test, ast.Compare) else node.test
        if isinstance(left, ast.Call) and isinstance(left.func, ast.Name):
            yield left.func.id


_TOLERANCE: Final = 1e-6
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def same_output(written: str, expected: str) -> bool:
    r"""Whether texts have the same words; numbers with a point may differ by 1e-6 of their size.

    >>> same_output("3  0.3333333\n", "3\n0.33333334"), same_output("3", "3.5")
    (True, False)
    """
    words = zip_longest(written.split(), expected.split())
    return all(own == known or _near(own, known) for own, known in words)


def _near(own: str | None, known: str | None) -> bool:
    if own is None or known is None or "." not in known:
        return False
    if not _NUMBER.fullmatch(known) or not _NUMBER.fullmatch(own):
        return False
    return math.isclose(float(own), float(known), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def same_value(given: Any, expected: Any) -> bool:
    """Whether a call gave what a row of JSON expects: tuples are lists there, keys are texts."""
    try:
        own = _as_json(given)
        return bool(own == expected or [own] == expected)
    except (ArithmeticError, ValueError, TypeError, RecursionError):  # a signalling NaN, a depth
        return False


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _as_json(own) for key, own in value.items()}
    return value
