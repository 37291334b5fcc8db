"""Sizes and limits in a model's configuration, whatever its family names them."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.errors import UsageError

__all__ = ["check_values", "embeddings_of", "longest_input", "positions_of"]

_SIZES: Final = re.compile(
    r"vocab_size|hidden_size|d_model|n_embd|n_ctx|n_positions|max_position_embeddings|head_dim"
    r"|num_hidden_layers|n_layers?|num_attention_heads|n_heads?|num_key_value_heads"
)
_REPAIR: Final = "get the file again, or correct it"


def check_values(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse unusable numbers of a ``config.json``, and quantised weights.

    A list may contain an infinity: Mamba2 has one for no limit.

    Raises:
        UsageError: the text names the file and the key.
    """
    method = settings.get("quantization_config")
    if method:
        name = method.get("quant_method") if isinstance(method, Mapping) else method
        raise UsageError(
            f"{path}: the weights are quantised ({name}): models are trained, scored and sampled "
            "from as plain float weights here; get the model as it was before "
            "(--load-in-4bit quantises the base of an adapter while it is loaded)"
        )
    text = settings.get("text_config")
    for part in (settings, text if isinstance(text, Mapping) else {}):
        for key, value in part.items():
            if _SIZES.fullmatch(key) and type(value) is int and value < 1:
                raise UsageError(f"{path}: {key}: expected at least 1, found {value}: {_REPAIR}")
    for key, value in _numbers(settings):
        if not math.isfinite(value):
            raise UsageError(f"{path}: {key}: expected a finite number, found {value}: {_REPAIR}")
        if key.rpartition(".")[2] == "rope_theta" and value <= 0:
            raise UsageError(f"{path}: {key}: expected more than 0, found {value}: {_REPAIR}")


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every float of a JSON value with its key; of lists only NaN."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield from ((key, one) for one in value for key, one in _numbers(one, name) if one != one)
    elif isinstance(value, float):
        yield name, value


def embeddings_of(config: Any) -> int | None:
    """Number of tokens with an embedding; None where the configuration has none."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None


def positions_of(config: Any) -> int | None:
    """Most tokens that a model takes at once; None where it has no limit, or names none.

    XLNet has -1 for no limit.
    """
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def longest_input(config: Any, tokenizer: Any = None, most: int | None = None) -> int:
    """Most tokens of a text: by the model's positions, the tokenizer, and ``most``.

    What is not given limits nothing; without any limit it is more than any text has.
    """
    own = None if tokenizer is None else tokenizer.model_max_length  # 1e30 where it has none
    limits = (positions_of(config), own, most)
    return int(min((one for one in limits if one is not None), default=sys.maxsize))
