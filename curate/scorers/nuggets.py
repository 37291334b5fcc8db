"""Nuggets: the share of anchor tasks that a row, shown as an example, makes more likely."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, TypeAlias

import numpy as np
import polars as pl

from siftune.curate.core.progress import report_progress
from siftune.curate.core.ranges import Count
from siftune.curate.dedup.reference_rows import check_against
from siftune.curate.files.source_spec import SourceOption
from siftune.curate.lm.answer_model import AnswerModel
from siftune.curate.lm.reference_chats import reference_chats
from siftune.curate.rows.chat import last_turn
from siftune.curate.vectors.kmeans import kmeans
from siftune.curate.vectors.unit_vectors import exact_products, slices, vectors_of

__all__ = ["Nuggets"]

Chat: TypeAlias = list[dict[str, str | None]]
_ROWS: Final = 64  # that are rendered beside all anchors at once


@dataclass(frozen=True, kw_only=True)
class Nuggets(AnswerModel):
    """``nuggets = 1/|A| Σ_a 1[log p(y_a | z, x_a) / |y_a| > log p(y_a | x_a) / |y_a|]``.

    The golden score of a row z (arXiv:2312.10302, equations 2 to 4): for how many anchors a the
    row, put before it as the one example, raises the likelihood of a's answer. The paper takes 100
    anchors, the k-means centres of the pool, and keeps the best 1 % or scores above 0.85.
    ``nuggets_gain`` is the mean gain in nats a token, which orders rows of one score.

    It takes one forward pass over example and anchor for each row and anchor: with ten anchors the
    order of ten times the cost of `perplexity`. Anchors beside which a row does not fit the window
    are left out of its mean; ``nuggets_anchors`` is how many were compared. A row without prompt or
    answer, or that fits beside none, is null. A row that is an anchor itself is compared with all
    anchors but itself.

    Not for large sets: a row takes as many passes as there are anchors.

    Options:
        against: Anchors: rows with a prompt and an answer, a file, a run folder or {path, format,
            map}.
        centers: Number of anchors to take: of a run folder or table with ``embedding``, such as
            the pool itself, the rows nearest to so many k-means centres; none takes all rows.
        embedding: Column of the reference with the vectors, for ``centers``.
    """

    against: SourceOption
    centers: Count | None = None
    embedding: str = "embedding"

    needs: ClassVar = ("messages",)
    adds: ClassVar = {
        "nuggets": pl.Float64,
        "nuggets_gain": pl.Float64,
        "nuggets_anchors": pl.UInt32,
    }

    def __post_init__(self) -> None:
        check_against(self.against)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Compare each row with all anchors."""
        prompts, answers = last_turn(batch["messages"])
        usable = np.array(prompts.is_not_null() & (answers.str.len_bytes() > 0), dtype=bool)
        examples = [_upto_answer(chat) for chat in batch["messages"].filter(usable).to_list()]
        gains = np.full((batch.height, len(self._anchors[0])), np.nan)
        at = np.flatnonzero(usable)
        for part in slices(len(examples), _ROWS):
            gains[at[part]] = self._gains(examples[part], batch["messages"].dtype)
            report_progress(min(part.stop, len(examples)), len(examples), "rows")
        known = np.isfinite(gains)
        count = known.sum(axis=1)
        with np.errstate(invalid="ignore"):  # 0 / 0 where a row has no anchor
            found = {
                "nuggets": (gains > 0).sum(axis=1) / count,
                "nuggets_gain": np.where(known, gains, 0).sum(axis=1) / count,
                "nuggets_anchors": np.where(count > 0, count, np.nan),
            }
        return pl.DataFrame(found, nan_to_null=True).cast(pl.Schema(self.adds))

    def _gains(self, examples: list[Chat], dtype: pl.DataType) -> np.ndarray:
        """What each anchor's answer gains by each example, in nats a token; NaN beside itself."""
        anchors, without = self._anchors
        beside = pl.Series([one + anchor for one in examples for anchor in anchors], dtype=dtype)
        losses = self.mean_nll(self._tokens.after_prompt(beside), hidden=False, report=False)
        gains: np.ndarray = without - losses.reshape(len(examples), len(anchors))
        for row, example in zip(gains, examples, strict=True):
            row[[anchor == example for anchor in anchors]] = np.nan
        return gains

    @cached_property
    def _anchors(self) -> tuple[list[Chat], np.ndarray]:
        """The turns of each anchor, and the loss of its answer without an example."""
        table = reference_chats(self.against, "nuggets")
        if self.centers is not None:
            table = _nearest_to_centers(table, self.embedding, self.centers)
        losses = self.losses(table["messages"], "last")
        fits = np.isfinite(losses)
        chats = [_upto_answer(chat) for chat in table["messages"].to_list()]
        return [chat for chat, fit in zip(chats, fits, strict=True) if fit], losses[fits]


def _upto_answer(chat: Chat) -> Chat:
    """The turns up to the last answer."""
    last = max(at for at, turn in enumerate(chat) if turn["role"] == "assistant")
    return chat[: last + 1]


def _nearest_to_centers(table: pl.DataFrame, embedding: str, count: int) -> pl.DataFrame:
    """The row nearest to each of ``count`` k-means centres, once each."""
    found = vectors_of(table, embedding)
    count = min(count, len(found.rows))
    starts = np.linspace(0, len(found.rows) - 1, count).astype(np.int64)  # in order of digests
    centers = kmeans(found.units, starts, iterations=25)[1]
    nearest = np.unique(exact_products(centers, found.units).argmax(axis=1))
    taken: pl.DataFrame = table[found.rows[nearest]]
    return taken
