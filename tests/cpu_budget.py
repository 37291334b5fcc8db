"""Run pytest, fail above a budget of CPU seconds: `python -m tests.cpu_budget 540 -q`."""

from __future__ import annotations

import resource
import subprocess
import sys

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Exit status of pytest under ``argv[1:]``, or 1 if it passed in more than ``argv[0]`` seconds.

    A budget of 0 is no limit.

    Counted are user and system time of pytest, its workers and the processes that tests start.
    """
    budget = float(argv[0])
    status = subprocess.call([sys.executable, "-m", "pytest", *argv[1:]])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    print(f"CPU seconds: {seconds:.0f}" + (f" of {budget:g}" if budget else ""), flush=True)  # noqa: T201
    if status == 0 and 0 < budget < seconds:
        print(  # noqa: T201
            f"The tests passed, but took {seconds:.0f} CPU seconds; {budget:g} are allowed. "
            "Find the slowest with --durations=20, make them cheaper or mark them slow "
            "(on a slower machine: make test CPU_BUDGET=...).",
            file=sys.stderr,
        )
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
