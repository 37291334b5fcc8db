"""Which test holds which objective: said where the test stands, and true when it runs.

A test under `holds` fails unless it calls each objective it is said to be an oracle of, so a claim
cannot outlive the code that makes it good. `test_registry` lets no objective go unclaimed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

from siftune.curate.core import registry
from siftune.finetune.training.build_loss import ANSWERS, LISTS, LOSSES

__all__ = ["GROUPS", "HELD", "NAMES", "holds", "holds_each"]

GROUPS = (LOSSES, *ANSWERS, *LISTS)
NAMES = {name: group for group in GROUPS for name in registry.names(group)}
"""Every objective, and the registry group it is of."""

HELD: dict[str, set[str]] = {}
"""By objective: the tests that are an oracle of it."""

Test = Callable[..., None]


def holds(*names: str) -> Callable[[Test], Test]:
    """The test is an oracle of these objectives: it calls every one of them, each time it runs.

    Raises:
        KeyError: there is no such objective.
    """
    return _claimed(names, lambda _: set(names))


def holds_each(table: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Callable[[Test], Test]:
    """As `holds`, the test being run on every ``name, options`` of a table."""

    def mark(test: Test) -> Test:
        claimed = _claimed([name for name, _ in table.values()], lambda given: {given["name"]})(
            test
        )
        rows = [pytest.param(*row, id=label) for label, row in table.items()]
        return pytest.mark.parametrize(("name", "options"), rows)(claimed)

    return mark


def _claimed(
    names: Any, expected: Callable[[Mapping[str, Any]], set[str]]
) -> Callable[[Test], Test]:
    classes = {name: registry.find(NAMES[name], name) for name in names}

    def mark(test: Test) -> Test:
        if not test.__name__.startswith("test_"):
            raise ValueError(f"{test.__name__} is no test that pytest would run")
        for name in classes:
            HELD.setdefault(name, set()).add(test.__name__)

        @wraps(test)
        def held(*args: Any, **given: Any) -> None:
            with _called(classes) as found:
                test(*args, **given)
            silent = expected(given) - found
            assert not silent, f"said to be an oracle of {sorted(silent)}, which it does not call"

        held.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
        return held

    return mark


@contextmanager
def _called(classes: Mapping[str, type[Any]]) -> Iterator[set[str]]:
    """Meanwhile: the names of those that have been called."""
    found: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        for name, loss in classes.items():
            patch.setattr(loss, "__call__", _noting(loss.__call__, name, found))
        yield found


def _noting(own: Callable[..., Any], name: str, found: set[str]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **given: Any) -> Any:
        found.add(name)
        return own(self, *args, **given)

    return call
