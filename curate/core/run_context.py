"""What a component at work tells whoever runs it: facts it measured, and how far it is.

A component is called with rows and gives rows back; what else a run should know it says here. Where
nobody listens nothing happens, so a component can be called by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Heard", "listening", "note", "step"]

Step: TypeAlias = Callable[[int, int, str], None]
"""``(done, total, unit)``, such as ``(512, 8_192, "texts")``."""


@dataclass
class Heard:
    """What was said so far; facts of the same name replace each other."""

    facts: dict[str, Any] = field(default_factory=dict)
    step: Step | None = None


_HEARD: ContextVar[Heard | None] = ContextVar("heard", default=None)


def note(**facts: Any) -> None:
    """Say what was measured, as JSON-like values; a run writes it into its manifest."""
    heard = _HEARD.get()
    if heard is not None:
        heard.facts |= facts


def step(done: int, total: int, unit: str) -> None:
    """Say how far the work on the rows at hand is."""
    heard = _HEARD.get()
    if heard is not None and heard.step is not None:
        heard.step(done, total, unit)


@contextmanager
def listening(to_steps: Step | None = None) -> Iterator[Heard]:
    """Hear what components say inside."""
    heard = Heard(step=to_steps)
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)
