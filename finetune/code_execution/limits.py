"""How much a program that a model wrote may use of the machine."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, fields

from siftune.curate.core.errors import UsageError

__all__ = ["Limits", "check_platform"]


@dataclass(frozen=True)
class Limits:
    """Limits of one run of a program; of one test where it is run once a test.

    ``cpu_seconds``, ``memory_mb`` and ``files`` (open ones) are of each process, of which there are
    ``processes`` (threads count), so a program has at most the product. ``wall_seconds`` is of the
    run, ``disk_mb`` and ``files`` of its folder in memory, ``output_kb`` of what it writes.
    ``network`` leaves it that of the machine, where a namespace cannot be had.
    """

    cpu_seconds: int = 10
    wall_seconds: float = 20.0
    memory_mb: int = 512
    disk_mb: int = 16
    files: int = 64
    processes: int = 8
    output_kb: int = 1024
    network: bool = False

    def __post_init__(self) -> None:
        """Refuse limits under which Python itself could not run."""
        least = {"memory_mb": 64, "files": 16, "wall_seconds": 0.1}
        for field in fields(self)[:-1]:
            value, floor = getattr(self, field.name), least.get(field.name, 1)
            if not floor <= value < 1 << 20:  # NaN fails, too
                raise ValueError(f"{field.name}: expected {floor:g} or more, got {value}")


def check_platform() -> None:
    """Refuse a machine on which the limits are not known to hold.

    Raises:
        UsageError: it is no Linux on x86-64 or 64-bit ARM.
    """
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise UsageError(
            "programs of a model are run on Linux on x86-64 or 64-bit ARM only, where they can be "
            f"limited; this is {platform.system()} on {platform.machine()}: score elsewhere, or "
            "leave out rewards that run code"
        )
