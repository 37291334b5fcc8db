"""OpenRLHF: messages, pairs with their prompt, prompts with a label, for its chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from siftune.curate.core.types import Row
from siftune.curate.export_files.trainer_turns import ends_with_answer, no_tools, unweighted

__all__ = ["OpenRLHF"]

_WHO: Final = "OpenRLHF"
_CHAT: Final = "--data.apply_chat_template"
_PAIR: Final = "--data.prompt_key prompt --data.chosen_key chosen --data.rejected_key rejected"
_COMMANDS: Final = {
    "messages": f"train_sft {_CHAT} --data.multiturn --data.input_key messages --data.dataset",
    "prompt_completion": (
        f"train_sft {_CHAT} --data.input_key prompt --data.output_key completion --data.dataset"
    ),
    "preference": f"train_dpo {_CHAT} {_PAIR} --data.dataset",
    "prompt_only": (
        f"train_ppo_ray {_CHAT} --data.input_key prompt --data.label_key label "
        "--data.prompt_dataset"
    ),
    "text": "train_sft --data.pretrain_mode --data.input_key text --data.dataset",
}


@dataclass(frozen=True)
class OpenRLHF:
    """What the data sets of OpenRLHF 0.11 (``openrlhf.datasets``) read with a chat template.

    It gives templates no list of tools, so rows that have one are left out; calls in turns reach
    the template. Prompts have a ``label``: the reference answer, or an empty text.
    """

    title: ClassVar[str] = _WHO
    shapes: ClassVar[tuple[str, ...]] = tuple(_COMMANDS)
    containers: ClassVar[tuple[str, ...]] = ("jsonl", "parquet", "datasets")

    def write(self, shape: str, record: Row) -> Row:
        """One row."""
        no_tools(record, _WHO)
        if shape == "prompt_only":
            return {"prompt": record["prompt"], "label": record["answer"] or ""}
        if shape == "messages":
            ends_with_answer(record["messages"], _WHO)
        learned = ("messages", "completion", "chosen", "rejected")
        return {
            key: unweighted(value, _WHO) if key in learned else value
            for key, value in record.items()
        }

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """None: the command names the file and its keys."""
        return {}

    def usage(self, shape: str, name: str, data: str) -> str:
        """A command line."""
        return f"python -m openrlhf.cli.{_COMMANDS[shape]} {data} …"
