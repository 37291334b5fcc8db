"""Options of an LLM judge's calls, shared by scorers, rewards and steps, and the engine by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Count, Natural, NonNegative, Positive
from siftune.curate.core.redact import hidden
from siftune.curate.files.project_folder import make_project_folder, project_folder
from siftune.curate.judge_calls.spec import judge_name, judge_prices, price_known
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import AsyncBackend, Backend, Task

if TYPE_CHECKING:
    from siftune.curate.judge_calls.engine import Judge

__all__ = ["CallOptions", "cache_file", "check_cap", "engine_of", "refuse_lost_cache"]


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """A judge and how it is asked: its server, the cache of its answers, retries and prices.

    Options:
        judge: The judge: a chat model (name or folder), URL#MODEL of a server, classifier:FOLDER,
            scripted:FILE.py:NAME, or a name of `siftune curate judges`.
        judge_options: Options of the judge, such as ``{key_variable: MY_KEY}`` of a server.
        cache: File of the judge's answers; by default judge.sqlite in .siftune_cache.
        replay: Take answers from the cache alone; a row that it lacks has no score.
        in_flight: Most requests to a server at a time.
        per_minute: Most requests to a server in a minute.
        timeout: Seconds for one whole answer of a server.
        tries: Most requests for one question, where a server fails.
        ask_again: How often a question is asked again whose answer cannot be parsed.
        max_cost: Dollars that the answers of this cache may cost together; never passed.
        price_input: Dollars for a million input tokens.
        price_output: Dollars for a million output tokens.
        most_per_call: Most dollars that one answer costs, where the server states the cost of each.
    """

    judge: str | Mapping[str, Any]
    judge_options: Mapping[str, Any] = field(default_factory=dict)
    cache: str = ""
    replay: bool = False
    in_flight: Count = 32
    per_minute: Positive | None = None
    timeout: Positive = 60.0
    tries: Count = 5
    ask_again: Natural = 2
    max_cost: NonNegative | None = None
    price_input: NonNegative = 0.0
    price_output: NonNegative = 0.0
    most_per_call: NonNegative | None = None

    @property
    def usual_prices(self) -> Prices:
        """Prices of every judge that has none of its own."""
        return Prices(self.price_input, self.price_output, self.most_per_call)


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


def check_cap(
    options: CallOptions,
    judges: Sequence[str | Mapping[str, Any]],
    prices: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse a ``max_cost`` where the price of one of the ``judges`` is not known.

    ``prices`` are those of single judges. The answers of a judge without could cost anything, and
    the cap of all judges would be passed.

    Raises:
        UsageError: there are no prices, or none of one judge.
    """
    own = judge_prices(judges, prices, options.usual_prices)
    if options.max_cost is None:
        return
    if options.usual_prices == Prices() and not prices:
        raise UsageError(
            "max_cost needs price_input and price_output (dollars a million tokens), or "
            "most_per_call where the server states what each answer costs"
        )
    for judge, one in zip(judges, own, strict=True):
        if not price_known(judge, one, prices):
            name = hidden(judge_name(judge))
            raise UsageError(
                f"max_cost: the judge {name} has no price, so nothing would cap it: give prices of "
                f"it, as {{{name}: {{input: 0.15, output: 0.6}}}} (0 where it is free), or "
                "price_input and price_output"
            )


def engine_of(
    options: CallOptions,
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
