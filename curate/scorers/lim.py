"""Learning impact (LIM): how closely a prompt's pass rates follow the mean learning curve."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.pass_rates import rates_hashes, read_pass_rates

__all__ = ["LIM"]


@dataclass(frozen=True)
class LIM:
    """Learning Impact Measurement, ``lim``; LIMR, arXiv:2502.11886, section 2.

    ``s_i = 1 - Σ_k (r_ik - m_k)² / Σ_k (1 - m_k)²`` over the epochs, or checkpoints, k of an RL
    run: ``r_ik`` is the mean reward of prompt i in epoch k, here its pass rate, and ``m_k`` the
    mean of all prompts that the files have, whatever rows are scored. 1 is a prompt that is learned
    as the average is; 0 is one as far from it as a prompt that always passed. What never passes,
    and what always did, scores low. The paper keeps what is above .6, the released code above .2:
    ``threshold --by lim --min 0.6``.

    ``siftune finetune sample`` with the model of each checkpoint gives the files, or a log of the
    training's own rewards does. A checkpoint at which a prompt was not sampled has its rate of the
    one before, as in the released code. A prompt that the first file lacks, or that no file has, is
    null, and so are all where every prompt always passed.

    Not for one checkpoint: it has no curve (then `pass_rate`).

    Options:
        samples: Samples of each checkpoint, in the order of training: folders that ``siftune
            finetune sample`` wrote, or files with the columns id and pass_rate; two or more, with
            commas between.
    """

    samples: tuple[str, ...]

    example: ClassVar = (("samples", "runs/samples-1,runs/samples-2"),)
    data: ClassVar = "rows of any kind that have prompts"
    content: ClassVar = ("id",)
    needs: ClassVar = ("id",)
    adds: ClassVar = {"lim": pl.Float64}

    def __post_init__(self) -> None:
        if len(self.samples) < 2:
            raise UsageError("lim: samples: name those of two checkpoints or more, in their order")

    def describe(self) -> dict[str, Any]:
        """The rates by their content, for keys and manifests."""
        return {"rates": rates_hashes(self.samples)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Look the rows up by their ids."""
        found = batch.select("id").join(self._scores, on="id", how="left", maintain_order="left")
        return found.select("lim")

    @cached_property
    def _scores(self) -> pl.DataFrame:
        first, *rest = (read_pass_rates(one).select("id", "pass_rate") for one in self.samples)
        curves = first.rename({"pass_rate": "0"}).sort("id")
        for number, table in enumerate(rest, 1):
            later = table.rename({"pass_rate": f"{number}"})
            curves = curves.join(later, on="id", how="left", maintain_order="left")
            filled = pl.coalesce(f"{number}", f"{number - 1}").alias(f"{number}")
            curves = curves.with_columns(filled)
        rates = curves.drop("id").to_numpy()
        mean = rates.mean(0) if len(rates) else np.ones(len(self.samples))
        largest = float(((1 - mean) ** 2).sum())
        far = ((rates - mean) ** 2).sum(1)
        score = 1 - far / largest if largest > 0 else np.full(len(far), np.nan)
        return curves.select("id", lim=pl.Series(score, dtype=pl.Float64).fill_nan(None))
