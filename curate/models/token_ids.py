"""Token ids that rows really use, held against the embeddings of the model that is to read them.

A tokenizer may know tokens that the model has no embedding of, and a model may be padded beyond its
tokenizer: neither matters until such an id is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from siftune.curate.core.errors import UsageError
from siftune.curate.models.model_config import embeddings_of

__all__ = ["check_ids"]


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
