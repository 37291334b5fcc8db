"""RDS: the position-weighted mean of a language model's hidden states, as a unit vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.lm.answer_model import AnswerModel
from siftune.curate.lm.forward_cache import ForwardCache
from siftune.curate.models.adapters import config_folder
from siftune.curate.models.pretrained import load_config
from siftune.curate.models.resolve import model_folder

__all__ = ["RDS"]


@dataclass(frozen=True)
class RDS(AnswerModel):
    """``rds = e / |e|`` with ``e = Σ_t w_t h_t``, ``w_t = t / Σ t``: representations of RDS+.

    h_t are the last hidden states (after the final norm) of a row's t-th token, prompt and answer
    included (Ivison et al., arXiv:2503.01807, section 3). Later tokens have seen more of the row
    and weigh more. The selector `rds_round_robin` takes the rows whose vectors are nearest to those
    of a target set. A prompt without an answer, as of most target sets, is all of its row.

    Padding has no weight: the paper's code ignores the mask and is right for batches of one row
    only. A row without a text, or longer than the model's window, has null: nothing is cut. The
    paper's code cuts at 2,048 tokens.

    Not for a set without a target: the vectors order nothing by themselves.
    """

    needs: ClassVar = ("messages",)

    @property
    def adds(self) -> Mapping[str, pl.Array]:
        """The vector; its width is that of the model."""
        config = load_config(config_folder(model_folder(self.model))).get_text_config()
        width = getattr(config, "hidden_size", None)
        if not isinstance(width, int):
            raise UsageError(
                f"rds: {self.model}: config.json of {config.model_type} names no width"
            )
        return {"rds": pl.Array(pl.Float32, width)}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """One vector a row."""
        rows = self._tokens.whole(batch["messages"])
        schema = dict(self.adds)
        vectors = np.full((len(rows), schema["rds"].shape[0]), np.nan, dtype=np.float32)
        for at, one in enumerate(ForwardCache(self._lm, self.cache)(rows)):
            if one is not None:
                vectors[at] = _unit(one.hidden, self.model)
        known = pl.Series(np.isfinite(vectors).all(axis=1))
        table = pl.DataFrame({"rds": vectors}, schema=schema)
        return table.select(rds=pl.when(known).then("rds"))


def _unit(mean: np.ndarray, model: str) -> np.ndarray:
    if not len(mean):
        raise UsageError(f"rds: {model}: its family gives no hidden states: take another model")
    length = np.linalg.norm(mean.astype(np.float64))
    found: np.ndarray = mean / (np.float32(length) if length else np.float32(np.nan))
    return found
