"""LLaMA-Factory: ShareGPT turns, ranked and KTO rows, with dataset_info.json beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.export_files.trainer_turns import (
    call_texts,
    ends_with_answer,
    results_in_order,
    single_answer,
    thinking_in_content,
    unweighted,
)
from siftune.curate.files.json_text import dump

__all__ = ["LLaMAFactory"]

_WHO: Final = "LLaMA-Factory"
_TAGS: Final = {"user": "human", "assistant": "gpt", "tool": "observation"}
_ASKS: Final = ("human", "observation")
_BETWEEN_RESULTS: Final = "\n</tool_response>\n<tool_response>\n"
"""How LLaMA-Factory joins the results of several calls (`OpenAIDatasetConverter`)."""

_BESIDE: Final = {"system": "system", "tools": "tools"}
_COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "messages": {"messages": "conversations", **_BESIDE},
    "preference": {
        "messages": "conversations",
        "chosen": "chosen",
        "rejected": "rejected",
        **_BESIDE,
    },
    "unpaired": {"messages": "conversations", "kto_tag": "kto_tag", **_BESIDE},
    "prompt_only": {"prompt": "instruction", "history": "history", **_BESIDE},
    "text": {"prompt": "text"},
}
_STAGES: Final = {
    "messages": "sft",
    "preference": "dpo",
    "unpaired": "kto",
    "prompt_only": "ppo",
    "text": "pt",
}


@dataclass(frozen=True)
class LLaMAFactory:
    """The layouts of LLaMA-Factory 0.9's ``data/README.md``, as its ``data/converter.py`` has them.

    User turns and answers alternate, or its reader skips the row: such rows are left out here, with
    the reason. A turn with calls is one ``function_call`` turn, results of several calls are one
    ``observation``; reasoning is at the beginning of the answer, between ``<think>`` marks. Prompts
    alone are in its alpaca layout, because its ShareGPT reader wants an answer.
    """

    title: ClassVar[str] = _WHO
    shapes: ClassVar[tuple[str, ...]] = tuple(_STAGES)
    containers: ClassVar[tuple[str, ...]] = ("jsonl", "parquet")

    def write(self, shape: str, record: Row) -> Row:
        """One row; ``system`` and ``tools`` are empty texts where there are none."""
        if shape == "text":
            return {"text": record["text"]}
        tools = [tool["function"] for tool in record.get("tools") or ()]
        beside = {"tools": dump(tools) if tools else ""}
        if shape == "messages":
            turns = unweighted(ends_with_answer(record["messages"], _WHO), _WHO)
            return _conversation(turns) | beside
        system, prompt = _parted(record["prompt"])
        if shape == "prompt_only":
            return _alpaca(prompt) | {"system": system} | beside
        if shape == "preference":
            sides = {name: _answer(record[name]) for name in ("chosen", "rejected")}
            return {"conversations": _alternating(prompt)} | sides | {"system": system} | beside
        answer = _answer(record["completion"])
        if not answer["value"]:
            raise BadRow("no_place", f"{_WHO} cannot label an answer without text as good or bad")
        turns = _alternating([*prompt, *record["completion"]])
        return {"conversations": turns, "kto_tag": record["label"], "system": system} | beside

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """``dataset_info.json`` with the one data set."""
        layout = "alpaca" if shape in ("prompt_only", "text") else "sharegpt"
        entry: Row = {"file_name": data, "formatting": layout}
        if shape == "preference":
            entry["ranking"] = True
        entry["columns"] = dict(_COLUMNS[shape])
        return {"dataset_info.json": json.dumps({name: entry}, indent=2) + "\n"}

    def usage(self, shape: str, name: str, data: str) -> str:
        """A command line."""
        return f"llamafactory-cli train --stage {_STAGES[shape]} --dataset_dir . --dataset {name} …"


def _parted(turns: Sequence[Row]) -> tuple[str, list[Row]]:
    """The system text, and the turns after it, that the prompt begins with."""
    if turns and turns[0]["role"] == "system":
        return str(turns[0]["content"]), [*turns[1:]]
    return "", [*turns]


def _conversation(turns: Sequence[Row]) -> Row:
    system, rest = _parted(turns)
    return {"conversations": _alternating(rest), "system": system}


def _answer(turns: Sequence[Row]) -> Row:
    return _turn(single_answer(unweighted(turns, _WHO), _WHO))


def _alternating(turns: Sequence[Row]) -> list[Row]:
    """The turns in ShareGPT form: questions and results at even places, answers and calls between.

    Raises:
        BadRow: they do not alternate so.
    """
    merged: list[Row] = []
    for turn in map(_turn, results_in_order(turns)):
        if merged and turn["from"] == merged[-1]["from"] == "observation":
            merged[-1]["value"] += _BETWEEN_RESULTS + turn["value"]
        else:
            merged.append(turn)
    for at, turn in enumerate(merged):
        if (turn["from"] in _ASKS) != (at % 2 == 0):
            raise BadRow("no_place", f"{_WHO} takes user and assistant turns in alternation")
    return merged


def _turn(turn: Row) -> Row:
    if turn["role"] not in _TAGS:
        raise BadRow("no_place", f"{_WHO} takes a system turn at the beginning only")
    calls = call_texts(turn)
    if not calls:
        return {"from": _TAGS[turn["role"]], "value": thinking_in_content(turn)["content"]}
    if turn["content"]:
        raise BadRow("no_place", f"{_WHO} has no place for text beside a tool call")
    text = calls[0] if len(calls) == 1 else f"[{','.join(calls)}]"
    return {
        "from": "function_call",
        "value": thinking_in_content(turn | {"content": text})["content"],
    }


def _alpaca(prompt: Sequence[Row]) -> Row:
    """The last question, and the pairs of question and answer before it."""
    turns = _alternating(prompt)
    if len(turns) % 2 == 0 or not {turn["from"] for turn in turns} <= {"human", "gpt"}:
        raise BadRow("no_place", f"{_WHO} takes prompts that are texts of the user in the end")
    values: list[Any] = [turn["value"] for turn in turns]
    pairs = [values[at : at + 2] for at in range(0, len(values) - 1, 2)]
    return {"instruction": values[-1], "history": pairs}
