"""Axolotl: messages for chat_template, DPO and KTO rows, with the lines of its YAML beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import yaml

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.export_files.trainer_turns import no_tools, single_answer, with_tools_as_text

__all__ = ["Axolotl"]

_WHO: Final = "axolotl"
_CONFIG: Final[Mapping[str, Mapping[str, Any]]] = {
    "messages": {"type": "chat_template", "message_field_training": "train"},
    "preference": {"type": "chat_template.default"},
    "unpaired": {"type": "chatml.argilla_chat"},
    "prompt_only": {},
    "text": {"type": "completion"},
}
_RL: Final = {"preference": "dpo", "unpaired": "kto", "prompt_only": "grpo"}


@dataclass(frozen=True)
class Axolotl:
    """What the prompt strategies of axolotl 0.19 read.

    ``messages`` are of type ``chat_template`` (with ``tools`` as JSON text, and ``train`` on turns
    of rows whose turns have weights); pairs of ``dpo.chat_template``, which takes one answer a side
    and no calls; labelled answers of ``kto.chatml.argilla_chat``: the whole conversation is
    ``completion``, in ChatML. Prompts alone are for GRPO.
    """

    title: ClassVar[str] = _WHO
    shapes: ClassVar[tuple[str, ...]] = tuple(_CONFIG)
    containers: ClassVar[tuple[str, ...]] = ("jsonl", "parquet")

    def write(self, shape: str, record: Row) -> Row:
        """One row."""
        if shape == "text":
            return {"text": record["text"]}
        if shape == "messages":
            made = record | {"messages": _with_train(record["messages"])}
            return with_tools_as_text(made)
        if shape == "prompt_only":
            asked: Row = {key: record[key] for key in ("prompt", "tools") if key in record}
            return with_tools_as_text(asked)
        no_tools(record, f"{_WHO} ({_RL[shape]})")
        prompt = [_plain(turn) for turn in record["prompt"]]
        if shape == "preference":
            sides = {name: _answer(record[name]) for name in ("chosen", "rejected")}
            return {"messages": prompt} | sides
        whole = [*prompt, _answer(record["completion"])]
        return {"completion": whole, "label": record["label"]}

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """``axolotl.yaml``: the lines about the data, to be taken into a configuration."""
        form = "parquet" if data.endswith(".parquet") else "json"
        entry = {"path": data, "ds_type": form, **_CONFIG[shape]}
        lines: Row = {"rl": _RL[shape]} if shape in _RL else {}
        return {"axolotl.yaml": yaml.safe_dump(lines | {"datasets": [entry]}, sort_keys=False)}

    def usage(self, shape: str, name: str, data: str) -> str:
        """Where the configuration is."""
        return "axolotl train CONFIG.yaml  # with the lines of axolotl.yaml, started in this folder"


def _with_train(turns: list[Row]) -> list[Row]:
    """``train`` instead of ``weight``, on every turn of the assistant or on none."""
    if not any("weight" in turn for turn in turns):
        return turns
    return [_trained(turn) for turn in turns]


def _trained(turn: Row) -> Row:
    weight = turn.get("weight", 1)
    if turn["role"] == "assistant" and weight not in (0, 1):
        raise BadRow("no_place", f"{_WHO} trains on a whole turn or not; one has another weight")
    rest = {key: value for key, value in turn.items() if key != "weight"}
    return rest | {"train": bool(weight)} if turn["role"] == "assistant" else rest


def _plain(turn: Row) -> Row:
    if turn.get("tool_calls") or turn["role"] == "tool":
        raise BadRow("no_place", f"{_WHO} has no place for tool calls beside preferences")
    return {"role": turn["role"], "content": turn["content"]}


def _answer(turns: list[Row]) -> Row:
    return _plain(single_answer(turns, _WHO))
