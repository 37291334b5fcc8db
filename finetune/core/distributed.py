"""Distributed training: rank, number of processes, barrier; the first process writes.

Where processes are started together (`accelerate launch`, `torchrun`), each finds its number and
their count in its environment, from its first line on.
"""

from __future__ import annotations

import os

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import lines_hidden
from siftune.curate.core.terminal import echo

__all__ = [
    "count",
    "first",
    "in_any",
    "notify",
    "only_one",
    "progress",
    "rank",
    "refuse_spread",
    "together",
]


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this is the process that writes files and messages."""
    return rank() == 0


def together() -> None:
    """Wait until every process is here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def in_any(flag: bool) -> bool:
    """Whether ``flag`` is set in any process; every process has to ask."""
    if count() == 1:
        return flag
    import torch
    from accelerate import PartialState

    found = torch.tensor(int(flag), device=PartialState().device)
    torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return bool(found)


def notify(line: str) -> None:
    """Print a message to stderr, from the first process only."""
    if first():
        echo(line, err=True)


def progress(line: str) -> None:
    """Print a line of progress, which `hiding_lines` turns off, as `notify` prints a message."""
    if not lines_hidden():
        notify(line)


def only_one(what: str) -> None:
    """Refuse a run of several processes.

    Raises:
        UsageError: there are several.
    """
    if count() > 1:
        raise UsageError(
            f"{what} runs in one process, and {count()} were started: start it without a launcher"
        )


def refuse_spread(what: str) -> None:
    """Refuse weights that are spread over the processes (FSDP).

    Raises:
        UsageError: they are.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise UsageError(f"{what} needs the whole model in every process: launch without FSDP")
