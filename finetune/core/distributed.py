"""Distributed training: rank, number of processes, barrier; the first process writes.

Where processes are started together (`accelerate launch`, `torchrun`), each finds its number and
their count in its environment, from its first line on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import lines_hidden
from siftune.curate.core.terminal import echo

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "add_up",
    "add_up_gradients",
    "count",
    "first",
    "from_all",
    "in_any",
    "notify",
    "progress",
    "rank",
    "refuse_spread",
    "share_of",
    "together",
]

_T = TypeVar("_T")


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


def share_of(items: Sequence[_T]) -> list[_T]:
    """The part of ``items`` that this process works on: the parts of all, in order, are them all.

    Sizes differ by one at most.
    """
    size, more = divmod(len(items), count())
    start = rank() * size + min(rank(), more)
    return list(items[start : start + size + (rank() < more)])


def from_all(make: Callable[[], _T]) -> list[_T]:
    """What ``make()`` returns in each process, by number; every process has to ask.

    An error in one of them is raised in all: the others would wait for ever.
    """
    if count() == 1:
        return [make()]
    import torch
    from accelerate import PartialState

    PartialState()  # has the processes find each other
    try:
        own: tuple[Any, BaseException | None] = (make(), None)
    except Exception as error:  # raised below, in every process
        own = (None, error)
    found: list[Any] = [None] * count()
    torch.distributed.all_gather_object(found, own)
    for _, wrong in found:
        if wrong is not None:
            raise wrong
    return [made for made, _ in found]


def add_up(tensor: Tensor) -> Tensor:
    """The sum over all processes of a tensor of one shape; every process has to ask."""
    if count() == 1:
        return tensor
    import torch
    from accelerate import PartialState

    device = PartialState().device
    moved = tensor.to(device, copy=True)
    torch.distributed.all_reduce(moved)
    return moved.to(tensor.device)


def add_up_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Give every process the sum over all of each weight's gradient, 0 where one has none."""
    if count() == 1:
        return
    import torch

    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        torch.distributed.all_reduce(weight.grad)


def notify(line: str) -> None:
    """Print a message to stderr, from the first process only."""
    if first():
        echo(line, err=True)


def progress(line: str) -> None:
    """Print a line of progress, which `hiding_lines` turns off, as `notify` prints a message."""
    if not lines_hidden():
        notify(line)


def refuse_spread(what: str) -> None:
    """Refuse weights that are spread over the processes (FSDP).

    Raises:
        UsageError: they are.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise UsageError(f"{what} needs the whole model in every process: launch without FSDP")
