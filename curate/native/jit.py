"""Loops compiled by numba, or plain Python where numba is switched off or cannot be imported.

Other packages import compiled code through this one. Only `native.numba_cache`, `native.llvm`,
`native.blake2b_simd` and `native.gemm_kernel` import numba or llvmlite, and only if `PLAIN_REASON`
is None. Both forms of a routine give the same results; plain Python is slower, often 100 times.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Final, TypeVar

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import announce

__all__ = ["PLAIN_REASON", "compiled", "intrinsic", "threads"]

_Loop = TypeVar("_Loop", bound=Callable[..., Any])


def _plain_reason() -> str | None:
    """Why loops are plain Python; None where they are compiled.

    Raises:
        UsageError: ``SIFTUNE_NATIVE`` is neither 0 nor 1.
    """
    switch = os.environ.get("SIFTUNE_NATIVE", "1") or "1"
    if switch not in ("0", "1"):
        raise UsageError(
            f"SIFTUNE_NATIVE: expected 1 (compiled loops) or 0 (plain Python), found {switch!r}"
        )
    if switch == "0":
        return "SIFTUNE_NATIVE=0"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set"
    try:
        from siftune.curate.native import llvm, numba_cache  # noqa: F401
    except (ImportError, OSError) as error:  # not installed, or not for this Python or platform
        return f"numba cannot be used: {error}"
    return None


PLAIN_REASON: Final = _plain_reason()
"""Why loops are plain Python (for `siftune doctor`); None where numba compiles them."""


def compiled(
    *, plain: Callable[..., Any] | None = None, **options: Any
) -> Callable[[_Loop], _Loop]:
    """Decorator: compile a loop (`numba_cache.compile_cached`), or leave it plain Python.

    Args:
        plain: what to run instead of the loop itself where it is not compiled.
        options: numba's (``inline``, ``fastmath``).
    """

    def decorate(function: _Loop) -> _Loop:
        if PLAIN_REASON is None:
            from siftune.curate.native.numba_cache import compile_cached

            return compile_cached(function, **options)
        if options.get("inline"):  # called by other loops only
            return function
        run: Any = _in_plain_python(plain or function)
        loop: _Loop = run
        return loop

    return decorate


def _in_plain_python(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with numpy's warnings off: integers wrap around as in compiled code."""

    @wraps(function)
    def run(*args: Any) -> Any:
        _announce_plain()
        with np.errstate(all="ignore"):
            return function(*args)

    return run


@cache
def _announce_plain() -> None:
    announce(f"plain Python loops: same results, much slower ({PLAIN_REASON}; see siftune doctor)")


def intrinsic(plain: _Loop) -> _Loop:
    """Decorator: the function of the same name in `native.llvm`, or ``plain`` without numba."""
    if PLAIN_REASON is not None:
        return plain
    from siftune.curate.native import llvm

    result: _Loop = getattr(llvm, plain.__name__)
    return result


def threads() -> int:
    """Threads for our loops: ``NUMBA_NUM_THREADS`` or all cores, at most ``OMP_NUM_THREADS``."""
    cores = (
        len(os.sched_getaffinity(0))  # type: ignore[attr-defined,unused-ignore]
        if sys.platform == "linux"
        else os.cpu_count() or 1
    )
    limits = [os.environ.get(name, "") for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")]
    most, cap = (int(text) if text.isdecimal() and int(text) else None for text in limits)
    return min(most or cores, cap or most or cores)
