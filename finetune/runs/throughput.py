"""How fast a training is: tokens per second, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from siftune.curate.core.progress import duration

__all__ = ["Pace"]


@dataclass
class Pace:
    """Rates since the last time it was asked, and the time left by the rate since it was begun."""

    clock: Callable[[], float] = time.monotonic
    _began: tuple[int, float] = (0, 0.0)  # step and time
    _last: tuple[float, float] = (0.0, 0.0)  # tokens and time
    _begun: bool = field(default=False)

    def begin(self, step: int, tokens: float = 0.0) -> None:
        """Count from here: ``step`` steps and ``tokens`` tokens were done before."""
        now = self.clock()
        self._began, self._last, self._begun = (step, now), (tokens, now), True

    def __call__(self, step: int, total: int, tokens: float | None = None) -> str:
        """What to append to a line on ``step`` of ``total``; empty where no time has passed.

        >>> times = iter([0.0, 10.0])
        >>> pace = Pace(clock=lambda: next(times))
        >>> pace.begin(0)
        >>> pace(5, 20, 12_345)
        ', 1,234 tokens/s, about 30 s left'
        """
        now = self.clock()
        passed, since = now - self._began[1], now - self._last[1]
        if not self._begun or passed <= 0 or since <= 0:
            return ""
        found = ""
        if tokens is not None and tokens > self._last[0]:
            found += f", {int((tokens - self._last[0]) / since):,} tokens/s"
            self._last = (tokens, now)
        done = step - self._began[0]
        if done > 0 and step < total:
            found += f", about {duration((total - step) * passed / done)} left"
        return found
