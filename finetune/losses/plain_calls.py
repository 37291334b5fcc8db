"""Calls of losses alone: with log-probabilities as plain tensors, checked before anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any

from siftune.curate.core.adapted import Checked
from siftune.curate.core.custom import name_in_texts
from siftune.curate.core.errors import UsageError, closest
from siftune.finetune.losses.answer_types import AnswerLogps
from siftune.finetune.losses.list_types import ListLogps
from siftune.finetune.losses.types import MissingInputError, Needs, PairLogps, needs_of

__all__ = ["call_answers", "call_lists", "call_pairs"]


def call_pairs(own: Callable[..., Any], loss: Any, *logps: Any, **numbers: Any) -> Any:
    """Call a loss on pairs with `PairLogps`, or with what `PairLogps.of` takes.

    >>> import torch
    >>> from siftune.finetune.losses.pair.dpo import DPO
    >>> policy, ref = (torch.tensor([-6.0]), torch.tensor([-9.0])), (-5, -7)
    >>> DPO(beta=1)(policy=policy, ref=ref).loss  # -log σ(-1 + 2)
    tensor([0.3133])

    Raises:
        UsageError: it is called with something else, or without what it reads.
    """
    return _call(own, loss, PairLogps, logps, numbers)


def call_answers(own: Callable[..., Any], loss: Any, *logps: Any, **numbers: Any) -> Any:
    """Call a loss on completions with `AnswerLogps`, or with what `AnswerLogps.of` takes."""
    return _call(own, loss, AnswerLogps, logps, numbers)


def call_lists(own: Callable[..., Any], loss: Any, *logps: Any, **numbers: Any) -> Any:
    """Call a loss on lists with `ListLogps`, or with what `ListLogps.of` takes."""
    return _call(own, loss, ListLogps, logps, numbers)


def _call(
    own: Callable[..., Any],
    loss: Any,
    batch: Any,
    logps: tuple[Any, ...],
    numbers: Mapping[str, Any],
) -> Any:
    if len(logps) == 1 and not numbers and isinstance(logps[0], batch):
        return own(loss, logps[0])
    name, side = name_in_texts(loss), "(chosen, rejected)" if batch is PairLogps else "[...]"
    if logps or "policy" not in numbers:
        came = ", ".join([*(type(one).__name__ for one in logps), *(f"{key}=" for key in numbers)])
        raise UsageError(
            f"{name}: expected log-probabilities as policy={side}, ref={side}, or a "
            f"{batch.__name__}; got {came or 'nothing'}"
        )
    _check_names(name, loss, batch, numbers)
    lacking = list(_lacking(needs_of(loss), side, numbers))
    if lacking and not isinstance(loss, Checked):  # which reads what it does
        raise UsageError(f"{name}: give {' and '.join(lacking)}")
    try:
        given = batch.of(**numbers)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None
    try:
        return own(loss, given)
    except MissingInputError as error:
        raise UsageError(f"{name}: {error}") from None


def _check_names(name: str, loss: Any, batch: Any, numbers: Mapping[str, Any]) -> None:
    """Refuse a number that neither a batch nor the loss has a use for."""
    columns = needs_of(loss).columns
    known = (*(key for key in signature(batch.of).parameters if key != "columns"), *columns)
    for key in numbers:
        if key not in known:
            own = "; a loss of yours lists columns in needs_columns"
            advice = closest(key, known) + (own if isinstance(loss, Checked) else "")
            raise UsageError(f"{name}: it reads no {key!r}; {advice}")


def _lacking(needs: Needs, side: str, numbers: Mapping[str, Any]) -> Iterator[str]:
    """What a loss reads and is not given, as the arguments to give."""
    if needs.reference and "ref" not in numbers:
        yield f"ref={side}"
    if needs.tokens and "mask" not in numbers:
        yield f"mask={side}, with the log-probabilities of single tokens, (B, T), as policy and ref"
    given = numbers.get("tokens") or {}
    tokens = [one for one in needs.tokens if one not in ("policy", "reference", *given)]
    if tokens:
        yield f"tokens={{{', '.join(f'{one!r}: {side}' for one in tokens)}}}"
    if needs.label and "label" not in numbers:
        yield "label=[True, False, ...]"
    if needs.value and "value" not in numbers:
        yield "value=[...], the value head's output for each prompt"
    if needs.mismatched and "mismatched" not in numbers:
        yield "mismatched=(policy, ref), the log-probabilities of answers to other prompts"
    yield from (f"{column}=[...]" for column in needs.columns if column not in numbers)
