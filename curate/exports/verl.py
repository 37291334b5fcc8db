"""verl: prompts with data_source and reward_model for RL, messages for its multi-turn SFT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from siftune.curate.core.types import Row
from siftune.curate.export_files.trainer_turns import no_tools, unweighted

__all__ = ["Verl"]

_WHO: Final = "verl"


@dataclass(frozen=True)
class Verl:
    """The Parquet files of verl's "Prepare Data for Post-Training", as its 0.9 reads them.

    A prompt has ``data_source`` (the source of the row, by which a reward function is chosen),
    ``ability``, ``reward_model`` with the reference answer as ``ground_truth`` (an empty text where
    none is known) and ``extra_info``. Lists of tools would lose their form as Parquet structs: rows
    that have them are left out; verl takes tools from its configuration.
    """

    title: ClassVar[str] = _WHO
    shapes: ClassVar[tuple[str, ...]] = ("messages", "prompt_only")
    containers: ClassVar[tuple[str, ...]] = ("parquet",)

    def write(self, shape: str, record: Row) -> Row:
        """One row."""
        no_tools(record, _WHO)
        if shape == "messages":
            return {"messages": unweighted(record["messages"], _WHO)}
        return {
            "data_source": record["source"],
            "prompt": record["prompt"],
            "ability": "chat",
            "reward_model": {"style": "rule", "ground_truth": record["answer"] or ""},
            "extra_info": {"split": "train", "index": record["row"]},
        }

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """None: the configuration names the file."""
        return {}

    def usage(self, shape: str, name: str, data: str) -> str:
        """A command line."""
        if shape == "messages":
            return f"python -m verl.trainer.sft_trainer data.train_files={data} …"
        return f"python -m verl.trainer.main_ppo data.train_files={data} …"
