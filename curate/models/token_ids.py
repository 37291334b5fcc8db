"""Token ids that a model has embeddings of, and those that end a completion.

A tokenizer may have tokens without an embedding in the model, and a model may be padded beyond its
tokenizer: neither matters until such an id is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from siftune.curate.core.errors import UsageError
from siftune.curate.models.model_config import embeddings_of
from siftune.curate.models.pretrained import load_config

__all__ = ["allow_ids_below", "check_ids", "check_own_ids", "end_ids"]

_RESIZED: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""Tokenizers that got new tokens, and how many embeddings their model in memory has."""


def check_ids(
    rows: Iterable[Sequence[int]], config: Any, model: str | Path, tokenizer: Any
) -> None:
    """Refuse token ids of ``rows`` that the model of ``config`` has no embedding of.

    ``tokenizer`` is the one that gave them, of `transformers` or of `tokenizers`.

    Raises:
        UsageError: there are some; the text has the largest.
    """
    size = embeddings_of(config)
    largest = max((max(ids) for ids in rows if ids), default=-1)
    if size is None or largest < size:
        return
    fast = getattr(tokenizer, "id_to_token", None)
    spelled = fast(largest) if fast else tokenizer.convert_ids_to_tokens(largest)
    total = tokenizer.get_vocab_size() if fast else len(tokenizer)
    raise UsageError(
        f"{model}: the rows have the token id {largest} ({spelled!r}), and the model's vocab_size "
        f"is {size}, so it has no embedding of it: use the tokenizer that belongs to the model, "
        f"or call the model's resize_token_embeddings({total}) and save it again"
    )


def allow_ids_below(tokenizer: Any, size: int) -> None:
    """Note that the model of ``tokenizer`` gets ``size`` embeddings once it is loaded."""
    _RESIZED[tokenizer] = size


def check_own_ids(tokenizer: Any, rows: Iterable[Sequence[int]]) -> None:
    """Refuse ids that the model in the folder of ``tokenizer`` has no embedding of.

    A tokenizer without a folder, or of a folder without a model, passes.

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

    Rows are encoded in many calls, and making a configuration takes longer than a few rows.
    """
    return load_config(folder)


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All tokens that end a completion: of generation settings, configuration and tokenizer.

    The first two may each be a number or a list: a chat model often ends a turn with one token and
    a text with another.

    Raises:
        UsageError: there is none.
    """
    config = model.config.get_text_config()
    named = (
        getattr(source, "eos_token_id", None)
        for source in (model.generation_config, config, tokenizer)
    )
    listed = [ids if isinstance(ids, list | tuple) else [ids] for ids in named]
    size = embeddings_of(model.config) or 1 << 62
    ends = frozenset(one for ids in listed for one in ids if one is not None and 0 <= one < size)
    if not ends:
        raise UsageError("neither tokenizer nor model has an end token: no completion would end")
    return ends
