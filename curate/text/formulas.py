"""Formulas compared by value: math-verify in a process of its own, which is ended when it hangs."""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from typing import Final

from siftune.curate.core.errors import UsageError

__all__ = ["require_library", "same_formula"]

_LONGEST: Final = 200  # characters of a formula
_SECONDS: Final = 60.0  # of one comparison, beside the processor time that the worker bounds
_START: Final = 300.0  # seconds for sympy to be imported on a busy machine
_HUGE: Final = re.compile(r"\d\s*\^\s*\{?\s*\d+\s*\^|\^\s*\{?\s*\d{5}|\d{4}\s*!")
"""Powers of powers, large powers and factorials: numbers that would fill the memory."""
_WORKER: Final = Path(__file__).with_name("formula_worker.py")


def require_library(who: str) -> None:
    """Refuse to compare formulas without math-verify.

    Raises:
        UsageError: it is not installed.
    """
    there = "math_verify" in sys.modules or find_spec("math_verify") is not None
    if not there or sys.modules.get("math_verify", sys) is None:
        raise UsageError(
            f"{who}: compare: math-verify is not installed: pip install 'siftune[math]', or "
            "take compare: plain"
        )


def same_formula(known: str, given: str) -> bool:
    """Whether two formulas have the same value by math-verify; one that takes too long has not.

    A comparison has five seconds of processor time, whatever the thread, and formulas 200
    characters. Towers of powers and the like differ without being computed.
    """
    if max(len(known), len(given)) > _LONGEST or _HUGE.search(f"{known} {given}"):
        return False
    with _lock:
        return _process.same(known, given)


_lock: Final = threading.Lock()


class _Process:
    """The worker, started when it is first needed and again after it was ended."""

    def __init__(self) -> None:
        self._running: subprocess.Popen[str] | None = None
        self._lines: Queue[str] = Queue()

    def same(self, known: str, given: str) -> bool:
        running = self._started()
        try:
            assert running.stdin is not None
            running.stdin.write(json.dumps([known, given]) + "\n")
            running.stdin.flush()
            return self._lines.get(timeout=_SECONDS) == "same"
        except (Empty, OSError):
            self.end()
            return False

    def _started(self) -> subprocess.Popen[str]:
        if self._running is not None and self._running.poll() is None:
            return self._running
        self.end()
        command = [sys.executable, "-P", str(_WORKER)]
        pipe = subprocess.PIPE
        running = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="utf-8"
        )
        self._running, self._lines = running, Queue()
        threading.Thread(target=_read, args=(running, self._lines), daemon=True).start()
        try:
            ready = self._lines.get(timeout=_START)
        except Empty:
            ready = ""
        if ready != "ready":
            self.end()
            raise UsageError("math-verify cannot be imported: pip install 'siftune[math]'")
        return running

    def end(self) -> None:
        """End the worker, if it runs."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()
            running.wait()


def _read(running: subprocess.Popen[str], lines: Queue[str]) -> None:
    """Pass lines of the worker on, and an empty one when it has ended."""
    assert running.stdout is not None
    with running.stdout:
        for line in running.stdout:
            lines.put(line.strip())
    lines.put("")


_process: Final = _Process()
atexit.register(_process.end)
