"""Ids that a tokenizer gives and its model has no embedding of: refused before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from siftune.curate.core.errors import UsageError
from siftune.curate.models.model_config import embeddings_of
from siftune.curate.models.pretrained import load_config
from siftune.curate.models.token_ids import check_ids
from siftune.finetune.models import loading

__all__ = ["allow_ids_below", "check_critic", "check_own_ids", "check_read_by", "check_same_size"]

_RESIZED: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""Tokenizers that got new tokens, and how many embeddings their model in memory has."""


def allow_ids_below(tokenizer: Any, size: int) -> None:
    """Note that the model of ``tokenizer`` is given ``size`` embeddings once it is loaded."""
    _RESIZED[tokenizer] = size


def check_own_ids(tokenizer: Any, rows: Iterable[Sequence[int]]) -> None:
    """Refuse ids that the model in the folder of ``tokenizer`` has no embedding of.

    A tokenizer that belongs to no folder with a model passes.

    Raises:
        UsageError: there are some; the text has the largest.
    """
    folder = str(tokenizer.name_or_path or "")
    settings = Path(folder) / "config.json"
    if not folder or not settings.is_file():
        return
    room = _RESIZED.get(tokenizer, 0)
    seen = ([token for token in ids if token >= room] for ids in rows) if room else rows
    check_ids(seen, _config(folder, settings.read_bytes()), folder, tokenizer)


@lru_cache(maxsize=8)
def _config(folder: str, settings: bytes) -> Any:
    """The configuration of a folder, made once for each content of its config.json.

    Rows are encoded in many calls, and to make a configuration takes longer than a few rows.
    """
    return load_config(folder)


def check_read_by(model: str | Path, tokenizer: Any, rows: Iterable[Sequence[int]]) -> None:
    """The same for another model that reads ids of ``tokenizer``, such as a reference.

    Raises:
        UsageError: there are some; the text has the largest.
    """
    check_ids(rows, loading.config_of(model), model, tokenizer)


def check_same_size(model: str | Path, other: str | Path, name: str) -> None:
    """Refuse two models whose distributions over all tokens could not be compared or mixed.

    ``name`` is the option that names ``other``.

    Raises:
        UsageError: they have another number of embeddings.
    """
    own, its = (embeddings_of(loading.config_of(each)) for each in (model, other))
    if own != its:
        raise UsageError(
            f"{name} {other} has the vocab_size {its}, and {model} has {own}: whole distributions "
            "are compared, so expected a model with as many tokens, such as the one that the "
            "other was trained from"
        )


def check_critic(policy: Any, critic: Any, folder: str | Path) -> None:
    """Refuse a critic without embeddings of tokens that the policy can write.

    Raises:
        UsageError: it has fewer than the policy.
    """
    own, its = embeddings_of(policy.config), embeddings_of(critic.config)
    if own is not None and its is not None and its < own:
        raise UsageError(
            f"critic_model {folder} has the vocab_size {its}, and the policy {own}: it could not "
            "read all tokens that the policy writes; start it from a model with as many"
        )
