"""Writing a model folder: whole or not at all, with its facts and a card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siftune.curate.core.progress import quiet_transformers
from siftune.curate.files.atomic import hash_file, write_json, write_text
from siftune.curate.files.outputs import whole_folder
from siftune.finetune.models.loading import FACTS, model_hash, shown
from siftune.finetune.models.lora import adapter_hash
from siftune.finetune.models.model_card import card

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["save_model"]


def save_model(
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    facts: Mapping[str, Any],
    beside: Path | None = None,
    weights: Mapping[str, Any] | None = None,
    command: str = "finetune",
) -> dict[str, Any]:
    """Write a model folder in one step, and return its facts.

    ``facts`` are the keys of ``siftune.json`` (``stage``, ``method``, ``base``, ``data``,
    ``options``, ``seed``, ``metrics``); versions and hashes, of the model and of each file, are
    added here. What stands in the
    folder ``beside`` (metrics, evaluations) is copied in. ``weights`` stand for the model's own.
    ``command`` marks the folder as written by it. ``model`` None: ``beside`` holds an adapter.

    Raises:
        UsageError: ``out`` may not be replaced (`outputs.whole_folder`).
    """
    with whole_folder(out, command) as part:
        if beside is not None:
            shutil.copytree(beside, part, dirs_exist_ok=True)
        if model is not None:
            with quiet_transformers():
                model.save_pretrained(part, state_dict=_once(model, weights))
        tokenizer.save_pretrained(part)
        digest = adapter_hash(part) if model is None else model_hash(part)
        whole = {**facts, "versions": dict(_versions()), "hash": digest}
        whole["options"] = _published(facts.get("options"))
        written = sorted(path for path in part.rglob("*") if path.is_file())
        whole["files"] = {path.relative_to(part).as_posix(): hash_file(path) for path in written}
        write_json(part / FACTS, whole)
        write_text(part / "README.md", card(out.name, whole))
    return whole


def _once(model: Any, weights: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Weights without those that are others by another name, as a model saves its own."""
    if weights is None:
        return None
    return {name: value for name, value in weights.items() if name not in _tied(model)}


def _tied(model: Any) -> Mapping[str, str]:
    return model.all_tied_weights_keys if model.config.tie_word_embeddings else {}


def _published(options: Any) -> Any:
    """Options without the folders of the machine they were given on."""
    if isinstance(options, Mapping):
        return {key: _published(value) for key, value in options.items()}
    if isinstance(options, str) and Path(options).is_absolute():
        return shown(options)
    return options


@cache
def _versions() -> Mapping[str, str]:
    return {name: version(name) for name in ("siftune", "torch", "transformers", "trl")}
