"""The reference model: a second model, the policy without its adapter, or cached log-probs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import polars as pl
import torch

from siftune.curate.files.atomic import atomic_write, digest_of
from siftune.finetune.core import distributed
from siftune.finetune.data.answer_rows import AnswerRow
from siftune.finetune.data.collator import AnswerCollator, Batch
from siftune.finetune.data.packing import share_prefixes
from siftune.finetune.models import loading
from siftune.finetune.scoring.lm_head import Hidden
from siftune.finetune.scoring.logps import read_answers, score_answers

__all__ = [
    "AdapterOff",
    "Frozen",
    "Reference",
    "frozen",
    "precomputed",
    "without_dropout",
]


_READ: Final = ("input_ids", "attention_mask", "answer_mask")


class Reference(Protocol):
    """Computes the reference's hidden states while training."""

    def __call__(self, batch: Batch) -> Hidden:
        """Hidden states for the answers of ``batch``, without gradient."""


@dataclass(frozen=True)
class Frozen:
    """A second model, which reads a prompt without its first ``skip`` tokens."""

    model: Any
    skip: int = 0

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Hidden:
        """Hidden states of the model."""
        seen = {name: batch[name][:, self.skip :] for name in _READ}
        return read_answers(self.model, seen)


@dataclass(frozen=True)
class AdapterOff:
    """The policy with its adapter disabled: no second model in memory."""

    model: Any

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Hidden:
        """Hidden states of the model under the adapter."""
        with self.model.disable_adapter():
            return read_answers(self.model.get_base_model(), batch, adapter=False)


def without_dropout(model: torch.nn.Module) -> None:
    """Turn off every dropout of ``model``: with it, a policy differs from its own reference."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and name.endswith(("dropout", "pdrop", "dropout_prob")):
                setattr(module, name, 0.0)


def frozen(folder: str, share: bool = False, dtype: loading.DType = "float32") -> Frozen:
    """The model of ``folder`` without gradients, on the device of models.

    ``share``: it runs equal prompts once, where its attention allows it.
    """
    model = loading.load_causal(folder, dtype).requires_grad_(False)
    if share:
        share_prefixes(model)
    return Frozen(loading.placed(model))


def precomputed(
    folder: str,
    rows: Sequence[AnswerRow],
    collator: AnswerCollator,
    cache: Path,
    share: bool = False,
    dtype: loading.DType = "float32",
    autocast: bool = False,
) -> list[AnswerRow]:
    """The rows with the token log-probs of their sequences.

    Those are what the model of ``folder`` gives them. They are kept in ``cache`` under a name made
    of the model's hash and of the token ids, so another model, tokenizer, template, cut or
    mismatched answer never gets an old value. ``share`` and ``dtype`` as for `frozen`; with
    ``autocast`` they are computed in bf16 autocast, as those of a policy that is trained in it.
    """
    distinct = {_content(row): row for row in rows}
    key = digest_of([loading.model_hash(folder), share, dtype, autocast, [*distinct]])
    path = cache / f"logps-{key}.parquet"
    if not path.is_file() and distributed.first():
        model = frozen(folder, share, dtype).model
        with torch.autocast(loading.device().type, torch.bfloat16, enabled=autocast):
            found = [_score(model, row, collator) for row in distinct.values()]
        table = pl.DataFrame({"values": found}, schema={"values": pl.List(pl.List(pl.Float32))})
        with atomic_write(path) as part:
            table.write_parquet(part)
    distributed.together()
    known = dict(zip(distinct, pl.read_parquet(path, glob=False)["values"].to_list(), strict=True))
    return [replace(row, reference=known[_content(row)]) for row in rows]


def _content(row: AnswerRow) -> tuple[tuple[int, ...], ...]:
    """The parts of a row that its values depend on; ids of two files may be equal."""
    return tuple(row.prompt), *map(tuple, row.sequences), *map(tuple, row.scored)


@torch.no_grad()
def _score(model: Any, row: AnswerRow, collator: AnswerCollator) -> list[list[float]]:
    """One row at a time: the values do not depend on what else is in the batch."""
    device = next(model.parameters()).device
    batch = {name: value.to(device) for name, value in collator([row]).items()}
    values: list[list[float]] = score_answers(model, batch)["policy"].tolist()
    return [one[: sum(mask)] for one, mask in zip(values, row.scored, strict=True)]
