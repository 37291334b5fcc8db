"""What a component's own test file, ``test_NAME.py``, gives the tests that every component passes.

Literals at its top level, so nothing is imported: ``OPTIONS``, a list of options to try, for a
component that needs some; ``SLOW_CONTRACTS``, true for one that trains a model in each of these
tests; ``NO_PATHS``, its options that are texts and name no file; ``BUGS``, pairs of a loss's text
and what a bug would have in its place.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["bugs_of", "files_of", "marks_of", "no_paths_of", "options_of"]

TESTS = Path(__file__).parent


def options_of(name: str) -> Sequence[dict[str, Any]]:
    """Options with which the contracts build a component; one build without any by default."""
    given = _constant(name, "OPTIONS")
    return given if isinstance(given, list) else [{}]


def no_paths_of(name: str) -> set[str]:
    """Options that are texts and never the path of a file."""
    return set(_constant(name, "NO_PATHS") or ())


def marks_of(name: str) -> Sequence[pytest.MarkDecorator]:
    """Marks of the contracts of a component: ``slow`` where its file has ``SLOW_CONTRACTS``."""
    return [pytest.mark.slow] if _constant(name, "SLOW_CONTRACTS") else []


def bugs_of(name: str) -> Sequence[tuple[str, str]]:
    """What of a loss's file is to be replaced by what, for its tests to fail."""
    return _constant(name, "BUGS") or ()


@cache
def files_of(name: str) -> tuple[Path, ...]:
    """The test files of a component."""
    return tuple(sorted(TESTS.glob(f"*/test_{name}.py")))


def _constant(name: str, constant: str) -> Any:
    for file in files_of(name):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and _names(node) == {constant}:
                return ast.literal_eval(node.value)
    return None


def _names(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}
