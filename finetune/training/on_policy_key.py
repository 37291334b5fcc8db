"""What a run on rewards of own answers depends on: the key by which a stopped run is continued."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from siftune.curate.core import registry
from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import KINDS
from siftune.curate.files.atomic import digest_of, hash_tree
from siftune.curate.rows.expressions import scores
from siftune.finetune.data import training_rows
from siftune.finetune.models import loading
from siftune.finetune.models.adapters import is_adapter
from siftune.finetune.models.lora import adapter_hash
from siftune.finetune.models.precision import precision_used
from siftune.finetune.reward_models.members import ensemble_hash, is_ensemble
from siftune.finetune.rewards.types import entries_of, facts_of, reads_fields

if TYPE_CHECKING:
    from siftune.finetune.rewards.types import Reward

__all__ = ["pass_rates_of", "reward_folders", "run_key"]


def run_key(options: Any, table: pl.DataFrame, reward: Reward, precision: str) -> dict[str, Any]:
    """The options of a trainer, with hashes of the rows and models that they name.

    ``options`` is an `on_policy.OnPolicy`, ``precision`` the number formats that it uses.

    Raises:
        UsageError: a file or a model is not there, or the column of ``pass_rate`` is none.
        DataError: a pass rate is no share.
    """
    parts: dict[str, Any] = {
        "stage": options.method,
        "options": asdict(options) | {"precision": precision},
        "base": loading.model_hash(options.model),
        "data": training_rows.data_hash(table),
    }
    for name in ("ptx_rows", "eval_rows"):
        if (file := getattr(options, name)) is not None:
            parts[name] = training_rows.data_hash(training_rows.load(file, KINDS))
    if options.critic_model is not None:
        parts["critic"] = loading.model_hash(options.critic_model)
    folders, rewards = reward_folders(options), entries_of(options.reward)
    if folders:
        parts["reward"] = [_hash_of(folder) for folder in folders]
    if options.pass_rate is not None:
        parts["pass_rate"] = digest_of(pass_rates_of(table, options.pass_rate))
    if options.rollouts_from is not None and not options.from_server:
        parts["rollouts_from"] = hash_tree(Path(options.rollouts_from))
    if facts := facts_of(reward):
        parts["reward_facts"] = facts
    if len(folders) < len(rewards):  # a component may load a reward model in this format
        parts["reward_precision"] = precision_used(options.precision)
    if reads_fields(options.reward) and "extra" in table.columns:
        parts["extra"] = digest_of(table["extra"].to_list())
    return parts


def reward_folders(options: Any) -> list[str]:
    """The rewards that are no component, so folders of reward models."""
    named = [entry.reward for entry in entries_of(options.reward)]
    return [name for name in named if not registry.has("finetune.rewards", name)]


def pass_rates_of(table: pl.DataFrame, column: str | None) -> dict[str, float | None]:
    """The pass rate of each row by a column, or an expression of columns; none without.

    Raises:
        UsageError: there is no such column, or it holds no numbers.
        DataError: a number is no share.
    """
    if column is None:
        return {}
    found = scores(table, column).cast(pl.Float64)
    if not found.drop_nulls().is_between(0, 1).all():
        odd = found.filter(~found.is_between(0, 1))[0]
        raise DataError(f"pass_rate: {column}: expected shares from 0 to 1, got {odd}")
    return dict(zip(table["id"], found, strict=True))


def _hash_of(folder: str) -> str:
    """The hash of a reward model, whole or an adapter, or of an ensemble."""
    if is_ensemble(folder):
        return ensemble_hash(folder)
    return adapter_hash(Path(folder)) if is_adapter(folder) else loading.model_hash(folder)
