"""What the reference says of single or ranked answers, computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from curate.core.files import aside, digest_of
from finetune import models, ranks
from finetune.answer_rows import AnswerRow
from finetune.answers import AnswerCollator
from finetune.logps import score_answers
from finetune.reference import frozen

__all__ = ["precomputed"]


def precomputed(
    folder: str, rows: Sequence[AnswerRow], collator: AnswerCollator, cache: Path, share: bool
) -> list[AnswerRow]:
    """The rows with their answers' (and strangers') token log-probs under the model of ``folder``.

    They are kept in ``cache`` under a name made of the model's hash and of the token ids, so
    another model, tokenizer, template, cut or stranger never meets an old value. ``share`` as for
    `finetune.reference.frozen`.
    """
    ids = [[row.prompt, row.answers, row.stranger] for row in rows]
    path = cache / f"reference-{digest_of([models.model_hash(folder), share, ids])}.parquet"
    if not path.is_file() and ranks.first():
        model = frozen(folder, share).model
        found = [_score(model, row, collator) for row in rows]
        table = pl.DataFrame({"values": found}, schema={"values": pl.List(pl.List(pl.Float32))})
        with aside(path) as part:
            table.write_parquet(part)
    ranks.together()
    known = pl.read_parquet(path)["values"].to_list()
    return [replace(row, reference=values) for row, values in zip(rows, known, strict=True)]


@torch.no_grad()
def _score(model: Any, row: AnswerRow, collator: AnswerCollator) -> list[list[float]]:
    """One prompt at a time: the values do not depend on what else is in the batch."""
    device = next(model.parameters()).device
    batch = {name: value.to(device) for name, value in collator([row]).items()}
    answers = [*row.answers, *([] if row.stranger is None else [row.stranger])]
    values: list[list[float]] = score_answers(model, batch)["policy"].tolist()
    return [one[: len(answer)] for one, answer in zip(values, answers, strict=True)]
