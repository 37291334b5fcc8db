"""Which test runs which line: measured once, so that a mutant meets the tests that can see it."""

from __future__ import annotations

import ast
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Reach", "measure", "seeing"]

PACKAGES = ("curate", "finetune", "pipelines")


@dataclass(frozen=True)
class Reach:
    """A test that passes, the CPU seconds it takes, and the lines of each file that it runs."""

    test: str
    seconds: float
    lines: dict[str, list[int]]


@dataclass
class _Watched:
    """A plugin of pytest that tells coverage which test is running, and times each."""

    coverage: Any
    seconds: dict[str, float] = field(default_factory=dict)
    passed: dict[str, bool] = field(default_factory=dict)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        begun = time.process_time()
        yield
        self.seconds[item.nodeid] = time.process_time() - begun
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed[report.nodeid] = self.passed.get(report.nodeid, True) and report.passed


def measure(root: Path, file: str, out: Path) -> None:
    """Append what the tests of ``file`` reach, and the file's name when all is written.

    For a process of its own: coverage and pytest stay in it.
    """
    from coverage import Coverage

    traced = Coverage(
        data_file=None, source=[str(root / one) for one in PACKAGES], config_file=False
    )
    watched = _Watched(traced)
    traced.start()
    pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", file], plugins=[watched])
    traced.stop()
    found: dict[str, dict[str, list[int]]] = {}
    for name in traced.get_data().measured_files():
        where = os.path.relpath(name, root).removeprefix("siftune/")
        for line, tests in traced.get_data().contexts_by_lineno(name).items():
            for test in filter(None, tests):
                found.setdefault(test, {}).setdefault(where, []).append(line)
    rows: list[dict[str, Any]] = [
        {"test": test, "s": round(watched.seconds[test], 4), "lines": found.get(test, {})}
        for test, passed in watched.passed.items()
        if passed
    ]
    with out.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in [*rows, {"file": file}])


def measured(out: Path) -> tuple[list[Reach], set[str]]:
    """What `measure` wrote, and the test files it is through with."""
    rows = [json.loads(line) for line in out.open(encoding="utf-8")] if out.exists() else []
    reaches = [Reach(row["test"], row["s"], row["lines"]) for row in rows if "test" in row]
    return reaches, {row["file"] for row in rows if "file" in row}


def seeing(reaches: Sequence[Reach], file: str, source: str, line: int) -> list[Reach]:
    """The tests that run ``line``, the cheapest first.

    A line of a class or module runs at import, in nobody's name: those that run one of its
    functions see it, and after them the others of their test files.
    """
    lines, of_import = _of_interest(ast.parse(source), line)
    found = [one for one in reaches if lines & set(one.lines.get(file, ()))]
    found.sort(key=lambda one: one.seconds)
    if of_import:
        files = {one.test.partition("::")[0] for one in found}
        near = [one for one in reaches if one.test.partition("::")[0] in files]
        known = {one.test for one in found}
        found += sorted((one for one in near if one.test not in known), key=lambda one: one.seconds)
    return found


def _of_interest(tree: ast.Module, line: int) -> tuple[set[int], bool]:
    """The lines of which one has to run, and whether ``line`` itself runs at import."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    functions = [node for node in around if isinstance(node, ast.FunctionDef)]
    if functions and functions[-1].body[0].lineno <= line:
        innermost = max(around, key=lambda node: node.lineno)
        return {line, innermost.lineno}, False
    inside: ast.AST = next((node for node in around if isinstance(node, ast.ClassDef)), tree)
    bodies = [node.body for node in ast.walk(inside) if isinstance(node, ast.FunctionDef)]
    ranges = [range(body[0].lineno, (body[-1].end_lineno or 0) + 1) for body in bodies]
    return {one for lines in ranges for one in lines}, True
