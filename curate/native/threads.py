"""Number of threads that loops of ours use."""

from __future__ import annotations

import os

import numba

__all__ = ["threads"]


def threads() -> int:
    """Threads to use: numba's (``NUMBA_NUM_THREADS``), no more than ``OMP_NUM_THREADS``."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return min(most, int(asked)) if asked.isdecimal() and int(asked) else most
