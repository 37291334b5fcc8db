"""What a model's configuration says of its size, whatever its family calls it."""

from __future__ import annotations

from typing import Any

__all__ = ["embeddings_of", "positions_of"]


def embeddings_of(config: Any) -> int | None:
    """How many tokens a model has an embedding of; None where its configuration does not say."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) else None


def positions_of(config: Any) -> int | None:
    """How many tokens a model takes at once; None where there is no limit, or none is named.

    XLNet has -1 for no limit.
    """
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None
