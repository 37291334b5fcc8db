"""Token counts by a model's own tokenizer, loaded once per process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.files.atomic import hash_file
from siftune.curate.models.resolve import catalog_folder, hub_out_of_reach, is_hub_name

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["count_tokens", "load_tokenizer", "tokenizer_hash"]


_EXPECTED: Final = (
    "give a model folder that has a tokenizer.json, that file, a name of `siftune models list`, "
    "or a name on the hub"
)


def count_tokens(texts: pl.Series, tokenizer: str) -> pl.Series:
    """Tokens of each text, without special tokens and truncation; null stays null.

    Raises:
        UsageError: ``tokenizer`` cannot be loaded.
    """
    distinct = texts.drop_nulls().unique(maintain_order=True)
    encoded = load_tokenizer(tokenizer).encode_batch_fast(
        distinct.to_list(), add_special_tokens=False
    )
    counts = pl.Series([len(one) for one in encoded], dtype=pl.UInt32)
    return texts.replace_strict(distinct, counts, default=None, return_dtype=pl.UInt32)


@lru_cache(maxsize=4)
def load_tokenizer(tokenizer: str) -> Tokenizer:
    """The tokenizer of a model (name or path), or of a ``tokenizer.json``.

    Truncation and padding are switched off, so that the whole text is counted.

    Raises:
        UsageError: there is no such tokenizer, or its file cannot be read.
    """
    from tokenizers import Tokenizer

    path = _local_file(tokenizer)
    if path is None and (away := hub_out_of_reach()):
        path = _cached_file(tokenizer)
        if path is None:
            raise UsageError(
                f"tokenizer {tokenizer!r} is no file or folder here, and {away}: {_EXPECTED}"
            )
    try:
        loaded = Tokenizer.from_file(str(path)) if path else Tokenizer.from_pretrained(tokenizer)
    except Exception as error:  # the library raises bare Exception for an unreadable or absent file
        reason = str(error).partition("\n")[0]
        raise UsageError(
            f"tokenizer {str(path or tokenizer)!r} cannot be loaded ({reason}): {_EXPECTED}"
        ) from None
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def _cached_file(tokenizer: str) -> Path | None:
    """The file of a tokenizer that was downloaded from the hub before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(tokenizer, "tokenizer.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def tokenizer_hash(tokenizer: str) -> str:
    """SHA-256 of the tokenizer file, for keys and manifests."""
    import hashlib

    path = _local_file(tokenizer)
    if path:
        return hash_file(path)
    return hashlib.sha256(load_tokenizer(tokenizer).to_str().encode()).hexdigest()


def _local_file(tokenizer: str) -> Path | None:
    """The local file of a tokenizer; None for a name that may be on the hub.

    Raises:
        UsageError: a folder without a tokenizer, or a path that does not exist.
    """
    path = catalog_folder(tokenizer) or Path(tokenizer)
    if path.is_dir():
        file = path / "tokenizer.json"
        if not file.is_file():
            raise UsageError(f"tokenizer: the folder {path} has no tokenizer.json: {_EXPECTED}")
        return file
    if not path.exists() and not is_hub_name(tokenizer):
        raise UsageError(f"tokenizer: no such file or folder: {tokenizer}: {_EXPECTED}")
    return path if path.exists() else None
