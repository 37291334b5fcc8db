"""Datasets of the Hugging Face hub, fetched by `datasets` and read from its cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from siftune.curate.core.errors import DataError
from siftune.curate.models.resolve import hub_out_of_reach

__all__ = ["HubName", "download", "hub_name"]

_NAME: Final = re.compile(
    r"(?:hf://(?:datasets/)?)?(?P<name>[\w.-]+/[\w.-]+)"
    r"(?:/(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?(?::(?P<split>[\w.-]+))?"
)


class HubName(NamedTuple):
    """``OWNER/NAME[/CONFIG][@REVISION][:SPLIT]``."""

    name: str
    config: str | None = None
    revision: str | None = None
    split: str = "train"


def hub_name(source: str) -> HubName | None:
    """The hub dataset that ``source`` names, or null if it is no such name.

    >>> hub_name("hf://datasets/HuggingFaceH4/ultrafeedback_binarized:train_prefs")
    HubName(name='HuggingFaceH4/ultrafeedback_binarized', config=None, revision=None, \
split='train_prefs')
    >>> hub_name("data/rows.jsonl") is None
    True
    """
    found = _NAME.fullmatch(source)
    looks_like_file = re.search(r"\.(jsonl?|ndjson|csv|parquet|gz|zst|py|txt)$", source)
    if found is None or (looks_like_file and not source.startswith("hf://")):
        return None
    return HubName(**{key: value for key, value in found.groupdict().items() if value})


def download(wanted: HubName) -> list[Path]:
    """The Arrow files of one split in the cache of `datasets`; no code of the dataset is run.

    Raises:
        DataError: no such dataset or split, no network, or it would need code.
    """
    if away := hub_out_of_reach():
        raise DataError(
            f"{wanted.name} is not a file or folder here, and {away}; set HF_HUB_OFFLINE=1 to use "
            "what `datasets` has in its cache"
        )
    from datasets import load_dataset  # heavy: only where a hub name is given

    try:
        loaded = load_dataset(
            wanted.name, wanted.config, revision=wanted.revision, split=wanted.split
        )
    except Exception as error:  # whatever the network or the dataset's files can do
        text = " ".join(str(error).split())[:200]
        raise DataError(
            f"{wanted.name} ({wanted.split}) is not a file or folder here, and the hub did not "
            f"give it: {text}"
        ) from None
    return [Path(entry["filename"]) for entry in loaded.cache_files]
