"""TRL: conversational datasets for its SFT, DPO, KTO, reward and GRPO trainers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from siftune.curate.core.types import Row
from siftune.curate.export_files.training_records import SHAPES

__all__ = ["TRL"]

_TRAINERS: Final = {
    "messages": "SFTTrainer",
    "text": "SFTTrainer",
    "prompt_completion": "SFTTrainer",
    "preference": "DPOTrainer or RewardTrainer",
    "unpaired": "KTOTrainer",
    "prompt_only": "GRPOTrainer",
}


@dataclass(frozen=True)
class TRL:
    """The types of https://huggingface.co/docs/trl/dataset_formats, all of them conversational.

    TRL applies a chat template to lists of turns and to nothing else. ``tools`` are beside the
    turns, arguments of calls are objects (in Parquet and saved datasets both are JSON text, which
    TRL's trainers read for ``tools``). A ``weight`` of a turn is kept, TRL does not use it.
    """

    title: ClassVar[str] = "TRL"
    shapes: ClassVar[tuple[str, ...]] = SHAPES
    containers: ClassVar[tuple[str, ...]] = ("jsonl", "parquet", "datasets")

    def write(self, shape: str, record: Row) -> Row:
        """The record; what a prompt has beside it is no column of TRL's."""
        if shape == "prompt_only":
            return {key: record[key] for key in ("prompt", "tools") if key in record}
        return record

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """None."""
        return {}

    def usage(self, shape: str, name: str, data: str) -> str:
        """A line of Python."""
        form = "parquet" if data.endswith(".parquet") else "json"
        read = f"load_dataset('{form}', data_files='{data}', split='train')"
        if data == ".":
            read = "datasets.load_from_disk('.')"
        return f"rows = {read}  # for {_TRAINERS[shape]}"
