"""The engine of a judge by the options that scorers and steps of pipelines have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftune.curate.core.errors import UsageError
from siftune.curate.core.redact import hidden
from siftune.curate.files.project_folder import make_project_folder, project_folder
from siftune.curate.judge_calls.spec import judge_name, judge_prices, price_known
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import AsyncBackend, Backend, Task

if TYPE_CHECKING:
    from siftune.curate.judge_calls.engine import Judge

__all__ = ["cache_file", "check_cap", "engine_of", "refuse_lost_cache"]


def cache_file(option: str) -> Path:
    """The file of a judge's answers: the option, else one of the project."""
    return Path(option) if option else project_folder() / "judge.sqlite"


def refuse_lost_cache(file: Path) -> None:
    """Refuse a replay from a file that is not there.

    Raises:
        UsageError: it is not.
    """
    if not file.is_file():
        raise UsageError(f"replay: there is no cache {file}")


def check_cap(options: Any, judges: Sequence[str | Mapping[str, Any]]) -> None:
    """Refuse a ``max_cost`` where the price of one of the ``judges`` is not known.

    Its answers could cost anything, and the cap of all judges would be passed.

    Raises:
        UsageError: there are no prices, or none of one judge.
    """
    usual = Prices(options.price_input, options.price_output, options.most_per_call)
    own = judge_prices(judges, options.prices, usual)
    if options.max_cost is None:
        return
    if usual == Prices() and not options.prices:
        raise UsageError(
            "max_cost needs price_input and price_output (dollars a million tokens), or "
            "most_per_call where the server states what each answer costs"
        )
    for judge, prices in zip(judges, own, strict=True):
        if not price_known(judge, prices, options.prices):
            name = hidden(judge_name(judge))
            raise UsageError(
                f"max_cost: the judge {name} has no price, so nothing would cap it: give prices of "
                f"it, as {{{name}: {{input: 0.15, output: 0.6}}}} (0 where it is free), or "
                "price_input and price_output"
            )


def engine_of(
    options: Any,
    backend: Backend | AsyncBackend,
    task: Task,
    prices: Prices,
    account: str = "",
    *,
    capped: bool = True,
) -> Judge:
    """The engine by the options of a scorer or of a step, with the cache that they name.

    ``capped``: False for a model in this process that costs nothing, which needs no cap.
    """
    from siftune.curate.judge_calls.engine import Judge

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
        max_cost=options.max_cost if capped else None,
        prices=prices,
        replay=options.replay,
        account=account,
    )
