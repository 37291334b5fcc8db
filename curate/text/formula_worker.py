"""Worker of `formulas`: compares pairs of formulas by math-verify, a line of JSON each.

It is run as a file and imports nothing of siftune, so that it starts in the time of sympy.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any, Final

_SECONDS: Final = 5.0  # of processor time for one comparison
_END: Final = 6.0  # of processor time after which the process ends: it is in a loop of C
_MEMORY: Final = 4 << 30  # bytes


class _TooLongError(BaseException):
    """No `Exception`: math-verify catches those, and tries the next way to read a formula."""


def main() -> None:
    """Answer each line with ``same`` or ``differ``."""
    _limit_memory()
    from math_verify import parse, verify

    def stop(*_: Any) -> None:
        raise _TooLongError

    if hasattr(signal, "SIGPROF"):
        signal.signal(signal.SIGPROF, stop)
    out, sys.stdout = sys.stdout, sys.stderr  # a library may print
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        known, given = json.loads(line)
        print("same" if _same(parse, verify, known, given) else "differ", file=out, flush=True)


def _same(parse: Any, verify: Any, known: str, given: str) -> bool:
    timed = hasattr(signal, "setitimer")
    try:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, _SECONDS)
            signal.setitimer(signal.ITIMER_VIRTUAL, _END)  # its signal ends the process
        sides = [
            parse(f"${text}$", parsing_timeout=None) or parse(text, parsing_timeout=None)
            for text in (known, given)
        ]
        return bool(all(sides) and verify(*sides, timeout_seconds=None))
    except (_TooLongError, RecursionError, MemoryError, OverflowError):
        return False
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except (ImportError, ValueError, OSError):
        return


if __name__ == "__main__":
    main()
