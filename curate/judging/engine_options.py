"""The engine of a judge by the options that scorers and steps of pipelines have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftune.curate.core.errors import UsageError
from siftune.curate.files.project_folder import make_project_folder, project_folder
from siftune.curate.judging.spending import Prices
from siftune.curate.judging.types import AsyncBackend, Backend, Task

if TYPE_CHECKING:
    from siftune.curate.judging.engine import Judge

__all__ = ["cache_file", "check_cap", "engine_of"]


def cache_file(option: str) -> Path:
    """The file of a judge's answers: the option, else one of the project."""
    return Path(option) if option else project_folder() / "judge.sqlite"


def check_cap(options: Any, own: Iterable[Prices]) -> None:
    """Refuse a ``max_cost`` without prices; ``own`` are those of each judge.

    Raises:
        UsageError: no cost would be known.
    """
    priced = options.price_input or options.price_output or options.most_per_call is not None
    if options.max_cost is not None and not (priced or any(one != Prices() for one in own)):
        raise UsageError(
            "max_cost needs price_input and price_output (dollars a million tokens), or "
            "most_per_call where the server states what each answer costs"
        )


def engine_of(
    options: Any, backend: Backend | AsyncBackend, task: Task, prices: Prices, account: str = ""
) -> Judge:
    """The engine by the options of a scorer or of a step, with the cache that they name."""
    from siftune.curate.judging.engine import Judge

    if not options.cache and not options.replay:
        make_project_folder(project_folder())
    return Judge(
        backend,
        task,
        cache=cache_file(options.cache),
        in_flight=options.in_flight,
        per_minute=options.per_minute,
        timeout=options.timeout,
        tries=options.tries,
        ask_again=options.ask_again,
        max_cost=None if prices == Prices() else options.max_cost,
        prices=prices,
        replay=options.replay,
        account=account,
    )
