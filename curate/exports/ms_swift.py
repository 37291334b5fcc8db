"""ms-swift: messages with roles for calls and results, rejected_messages, label, tools as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.export_files.trainer_turns import (
    call_texts,
    ends_with_answer,
    results_in_order,
    thinking_in_content,
    with_tools_as_text,
)

__all__ = ["MsSwift"]

_WHO: Final = "ms-swift"
_COMMANDS: Final = {
    "messages": "swift sft",
    "preference": "swift rlhf --rlhf_type dpo",
    "unpaired": "swift rlhf --rlhf_type kto",
    "prompt_only": "swift rlhf --rlhf_type grpo",
    "text": "swift pt",
}


@dataclass(frozen=True)
class MsSwift:
    """The standard layout of ms-swift's documentation, "Custom Dataset", as its 4.6 reads it.

    Calls are ``tool_call`` turns with the JSON text of each call, results are ``tool_response``
    turns in the order of the calls; ``loss`` is false on turns of weight 0; reasoning begins the
    answer, between ``<think>`` marks. A pair's other side is ``rejected_messages``, prompt and all.
    Prompts have a ``solution``: the reference answer, or null.
    """

    title: ClassVar[str] = _WHO
    shapes: ClassVar[tuple[str, ...]] = tuple(_COMMANDS)
    containers: ClassVar[tuple[str, ...]] = ("jsonl", "parquet")

    def write(self, shape: str, record: Row) -> Row:
        """One row."""
        if shape == "text":
            return {"messages": [{"role": "assistant", "content": record["text"]}]}
        return with_tools_as_text(_made(shape, record) | _tools(record))

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """None: the command names the file."""
        return {}

    def usage(self, shape: str, name: str, data: str) -> str:
        """A command line."""
        return f"{_COMMANDS[shape]} --dataset {data} …"


def _made(shape: str, record: Row) -> Row:
    if shape == "messages":
        return {"messages": _turns(ends_with_answer(record["messages"], _WHO))}
    if shape == "prompt_only":
        return {"messages": _turns(record["prompt"]), "solution": record["answer"]}
    if shape == "preference":
        good, bad = ([*record["prompt"], *record[side]] for side in ("chosen", "rejected"))
        return {"messages": _whole(good), "rejected_messages": _whole(bad)}
    whole = [*record["prompt"], *record["completion"]]
    return {"messages": _whole(whole), "label": record["label"]}


def _whole(turns: Sequence[Row]) -> list[Row]:
    return _turns(ends_with_answer(turns, _WHO))


def _tools(record: Row) -> Row:
    return {"tools": record["tools"]} if record.get("tools") else {}


def _turns(turns: Sequence[Row]) -> list[Row]:
    made: list[Row] = []
    for turn in results_in_order(turns):
        learned = _loss(turn)
        calls = call_texts(turn)
        if turn["content"] or not calls:
            role = "tool_response" if turn["role"] == "tool" else turn["role"]
            made.append({"role": role, "content": thinking_in_content(turn)["content"], **learned})
        made += [{"role": "tool_call", "content": call, **learned} for call in calls]
    return made


def _loss(turn: Row) -> Row:
    weight = turn.get("weight")
    if turn["role"] != "assistant" or weight is None:
        return {}
    if weight not in (0, 1):
        raise BadRow("no_place", f"{_WHO} trains on a whole turn or not; one has another weight")
    return {"loss": bool(weight)}
