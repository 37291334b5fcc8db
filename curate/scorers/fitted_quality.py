"""Fitted quality: a head on frozen embeddings that was fitted to labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.heads.head import Head, load_head
from siftune.curate.rows.chat import last_turn

__all__ = ["FittedQuality"]


@dataclass(frozen=True)
class FittedQuality:
    """``fitted_quality``: what a head of `siftune curate fit-quality` gives the last answer.

    It is a rating in the range of the labels, the probability of a yes, or, of a head fitted to
    pairs, a strength: only its differences between answers to one prompt mean something, as
    log-odds. A row without a prompt or an answer, or with one without tokens, scores null.

    Not for rows unlike the labelled ones: a head is fitted to one kind of rows.

    Options:
        model: Folder of the head.
        cache: Folder in which embeddings are stored by content, so that no text is embedded twice.
    """

    model: str
    cache: str | None = None

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"fitted_quality": pl.Float64}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        prompts, answers = last_turn(batch["messages"])
        scores = self._head(prompts.to_list(), answers.to_list())
        return pl.DataFrame({"fitted_quality": np.asarray(scores, float)}, nan_to_null=True)

    def describe(self) -> dict[str, Any]:
        """The head by its content, for keys and manifests."""
        return {"model": self._head.identity}

    @cached_property
    def _head(self) -> Head:
        return load_head(self.model, self.cache)
