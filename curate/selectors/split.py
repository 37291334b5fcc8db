"""Split rows by prompt: one part to train on, the other to test on, no prompt in both."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Literal, TypeAlias

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import Seed, Share
from siftune.curate.rows.chat import text_of
from siftune.curate.rows.decisions import decide

__all__ = ["Split"]

PartOfSplit: TypeAlias = Literal["train", "test"]


@dataclass(frozen=True)
class Split:
    """A prompt is in ``test`` with probability ``test_share``, with all rows that have it.

    A run keeps one part and writes the other into its folder: ``test.parquet`` (or
    ``train.parquet``), as the rows were when they were split. Stages after this one get the part
    that is kept.

    The draw is a hash of the prompt's text and ``seed``: it does not depend on the other rows, so
    two recipes with the same ``test_share`` and ``seed`` split any sources the same way, and new
    rows do not move old ones to the other part. Rows of one prompt are never in both parts, so that
    no prompt of the test is trained on. A row without a prompt is drawn by its answer.

    Not for random samples of rows: whole prompts are drawn.

    Options:
        part: Part that is kept; the rows of the other part are set aside.
        test_share: Expected share of prompts in the test part, between 0 and 1.
        seed: Seed of the split: another one gives another split.
    """

    part: PartOfSplit = "train"
    test_share: Share = 0.1
    seed: Seed = 0

    needs: ClassVar = ("content",)

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise UsageError(f"split: test_share must lie between 0 and 1; got {self.test_share}")

    @property
    def sets_aside(self) -> str:
        """The name of the part that is not kept."""
        return "test" if self.part == "train" else "train"

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Draw a number for every row's prompt."""
        asked = pl.coalesce(text_of(table, "prompt"), text_of(table, "both"), pl.lit(""))
        text = pl.select(asked).to_series()
        test = pl.Series([self._draw(one) < self.test_share for one in text], dtype=pl.Boolean)
        reason = pl.select(pl.when(test).then(pl.lit("test")).otherwise(pl.lit("train")))
        reasons = reason.to_series() + "_prompt"
        return decide(test if self.part == "test" else ~test, reasons)

    def _draw(self, text: str) -> float:
        key = self.seed.to_bytes(16, "little", signed=True)
        whole = int.from_bytes(blake2b(text.encode(), digest_size=8, key=key).digest(), "little")
        return (whole >> 11) * 2.0**-53
