"""Models that read each other's tokens or distributions have to have as many embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from siftune.curate.core.errors import UsageError
from siftune.curate.models.model_config import embeddings_of
from siftune.curate.models.token_ids import check_ids
from siftune.finetune.models import loading

__all__ = ["check_critic", "check_read_by", "check_same_size"]


def check_read_by(model: str | Path, tokenizer: Any, rows: Iterable[Sequence[int]]) -> None:
    """Refuse ids of ``tokenizer`` that ``model``, such as a reference, has no embedding of.

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
