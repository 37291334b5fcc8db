"""Shared parts of trainer layouts: call texts, tool results in order, turns without loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.files.json_text import dump

__all__ = [
    "call_texts",
    "ends_with_answer",
    "no_tools",
    "results_in_order",
    "single_answer",
    "thinking_in_content",
    "unweighted",
    "with_tools_as_text",
]


def call_texts(turn: Row) -> list[str]:
    """Each call of a turn as the JSON text of ``{"name", "arguments"}``.

    Raises:
        BadRow: the arguments of a call are no JSON object.
    """
    functions = [call["function"] for call in turn.get("tool_calls") or ()]
    if not all(isinstance(function["arguments"], dict) for function in functions):
        raise BadRow("no_place", "the arguments of a tool call are no JSON object")
    return [dump({key: one[key] for key in ("name", "arguments")}) for one in functions]


def results_in_order(turns: Sequence[Row]) -> list[Row]:
    """The turns with the results of each turn's calls in the order of the calls.

    For layouts that match a result to its call by position. Results without ids keep their place.
    """
    made: list[Row] = []
    for turn in turns:
        made.append(turn)
        if turn["role"] == "tool":
            _sort_last_results(made)
    return made


def _sort_last_results(turns: list[Row]) -> None:
    start = next(at for at in range(len(turns), 0, -1) if turns[at - 1]["role"] != "tool")
    calls = [call.get("id") for call in turns[start - 1].get("tool_calls") or ()]
    results = turns[start:]
    if None not in calls and {turn.get("tool_call_id") for turn in results} <= set(calls):
        turns[start:] = sorted(results, key=lambda turn: calls.index(turn["tool_call_id"]))


def thinking_in_content(turn: Row) -> Row:
    """The turn with its reasoning before its content, between ``<think>`` marks."""
    reasoning = turn.get("reasoning_content")
    if reasoning is None:
        return turn
    rest = {key: value for key, value in turn.items() if key != "reasoning_content"}
    return rest | {"content": f"<think>\n{reasoning}\n</think>\n\n{turn['content']}"}


def unweighted(turns: Iterable[Row], who: str) -> list[Row]:
    """The turns without ``weight``, for a trainer that trains on every assistant turn.

    Raises:
        BadRow: an assistant turn is excluded from training, or has a fractional weight.
    """
    made = []
    for turn in turns:
        if turn["role"] == "assistant" and turn.get("weight", 1) != 1:
            raise BadRow(
                "no_place", f"{who} trains on every assistant turn; one has another weight"
            )
        made.append({key: value for key, value in turn.items() if key != "weight"})
    return made


def ends_with_answer(turns: Sequence[Row], who: str) -> Sequence[Row]:
    """The turns, checked to end with the assistant.

    Raises:
        BadRow: they do not.
    """
    if not turns or turns[-1]["role"] != "assistant":
        raise BadRow("no_place", f"{who} takes conversations that end with an assistant turn")
    return turns


def single_answer(turns: Sequence[Row], who: str) -> Row:
    """The one assistant turn of a side.

    Raises:
        BadRow: the side has several turns, or another role.
    """
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise BadRow("no_place", f"{who} takes one assistant turn as an answer")
    return turns[0]


def no_tools(record: Row, who: str) -> None:
    """Refuse a record that lists functions, for a trainer that does not give them to templates.

    Raises:
        BadRow: it has ``tools``.
    """
    if record.get("tools"):
        raise BadRow("no_place", f"{who} has no place for the tools of a row")


def with_tools_as_text(record: Row) -> Row:
    """The record with ``tools`` as JSON text: files with tables need one type for all rows."""
    return record | {"tools": dump(record["tools"])} if record.get("tools") else record
