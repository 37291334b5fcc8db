"""Pass rate of a prompt: the share of a model's answers to it that a reward accepts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.pass_rates import pass_rates, rates_hashes, read_pass_rates

__all__ = ["PassRate"]


@dataclass(frozen=True)
class PassRate:
    """How often a model's answers to the prompt of a row pass, from samples that are there already.

    * ``pass_rate``: p, the share of the answers that passed
    * ``pass_rate_variance``: p (1 - p), largest at p = 1/2. The improvement that a policy gradient
      can expect of a prompt grows with it (arXiv:2504.03380): a group of answers that all pass, or
      all fail, teaches nothing
    * ``pass_rate_samples``: number of answers n that were checked. The standard error of p is
      √(p (1 - p) / n): of 4 answers at p = 1/2 it is .25

    ``siftune finetune sample ROWS --reward exact_match --count 8 --out samples`` answers the
    prompts of the same rows; rows and rates are joined by ``id``. Several samples are pooled, as if
    they were one: give samples of one model here, those of several checkpoints to `lim`. A row that
    no sample has is null, never 0.

    Not for rates of another model than the one to be trained: difficulty is the model's, not the
    prompt's.

    Options:
        samples: Folders that ``siftune finetune sample`` wrote, or files (Parquet, JSON lines, CSV)
            with the columns id, pass_rate and, if there are several answers, pass_rate_samples;
            with commas between.
    """

    samples: tuple[str, ...]

    example: ClassVar = (("samples", "runs/samples"),)
    data: ClassVar = "rows of any kind that have prompts"
    content: ClassVar = ("id",)
    needs: ClassVar = ("id",)
    adds: ClassVar = {
        "pass_rate": pl.Float64,
        "pass_rate_variance": pl.Float64,
        "pass_rate_samples": pl.UInt32,
    }

    def __post_init__(self) -> None:
        if not self.samples:
            raise UsageError("pass_rate: samples: name a folder of samples, or a file of rates")

    def describe(self) -> dict[str, Any]:
        """The rates by their content, for keys and manifests."""
        return {"rates": rates_hashes(self.samples)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Look the rows up by their ids."""
        found = batch.select("id").join(self._pooled, on="id", how="left", maintain_order="left")
        return found.select(*self.adds)

    @cached_property
    def _pooled(self) -> pl.DataFrame:
        every = pl.concat(read_pass_rates(one) for one in self.samples)
        passed = (pl.col("pass_rate") * pl.col("pass_rate_samples")).sum()
        counts = every.group_by("id").agg(passed=passed, samples=pl.col("pass_rate_samples").sum())
        return counts.select("id").hstack(pass_rates(*counts.drop("id").get_columns()))
