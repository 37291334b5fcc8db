"""Sweet spot: of each prompt the pair of its best answer and one two deviations below the mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.records.ranked_pairs import below_mean
from siftune.curate.rows.chat import contents
from siftune.curate.rows.columns import Reader, base_column, groups
from siftune.curate.rows.decisions import decide, tie_order
from siftune.curate.rows.expressions import ColumnExpression, needs_of, reads_of, scores
from siftune.curate.rows.flip import flip_pairs

__all__ = ["SweetSpot"]


@dataclass(frozen=True)
class SweetSpot:
    """One pair a prompt: chosen the best answer, rejected the one nearest μ - 2σ; arXiv:2502.16825.

    μ and σ (of the population) are over the scores of all answers that the prompt's pairs have,
    each answer once. The worst of many samples makes preference training worse as their number
    grows; the answer two deviations below the mean does not. Of the pairs whose chosen answer has
    the highest score of all answers and whose rejected one has less, the one is kept whose rejected
    answer is nearest; ties go to the lower score, then to the smaller digest. Others are dropped as
    ``not_best_chosen`` or ``not_nearest``. Give pairs of all answers (``pairs: all`` of ranked
    lists); ``pairs: sweet_spot`` makes only these.

    Where the scores are not those that made the pairs, such as a reward model's on lists ranked by
    another, the best answer may be a rejected one: with ``flip`` such pairs change sides, as the
    selector `label_noise` flips, and the row that is kept has another digest. Without it the prompt
    of such an answer may have no pair left. A score that is missing or infinite is ``not_scored``;
    an answer that several pairs score differently has the median.

    Where the rows have no texts, as in a table of scores, answers of one score count once.

    Not for prompts with two or three answers, whose mean and deviation are not known.

    Options:
        chosen: Column with the score of the chosen answer, or an expression of columns.
        rejected: Column with the score of the rejected answer.
        deviations: How many deviations the rejected answer is below the mean.
        group_by: Column whose values are the groups.
        flip: Whether pairs whose rejected answer has the higher score change sides.
    """

    chosen: ColumnExpression = "score_chosen"
    rejected: ColumnExpression = "score_rejected"
    deviations: float = 2.0
    group_by: str = "prompt"
    flip: bool = False

    wants: ClassVar = ("chosen", "rejected")

    @property
    def needs(self) -> tuple[str, ...]:
        """Both scores, and the groups; of a flip, all columns."""
        group = "content" if self.group_by == "prompt" else base_column(self.group_by)
        every = ("content", "*") if self.flip else ()
        return tuple(dict.fromkeys((*needs_of(self.chosen, self.rejected), group, *every)))

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The scores as numbers, and the groups."""
        grouped = () if self.group_by == "prompt" else ((self.group_by, groups),)
        return (*reads_of(self.chosen), *reads_of(self.rejected), *grouped)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Choose one pair of each prompt."""
        frame = pl.DataFrame(
            {
                "group": groups(table, self.group_by),
                "high": scores(table, self.chosen).cast(pl.Float64),
                "low": scores(table, self.rejected).cast(pl.Float64),
                **dict(self._texts(table)),
            }
        ).with_row_index("at")
        known = frame.filter(pl.all_horizontal(pl.col("group", "high", "low").is_not_null()))
        known = _one_score_an_answer(known)
        turned = pl.Series([False]).new_from_index(0, table.height)
        if self.flip:
            wrong = known["high"] < known["low"]
            turned[known["at"].filter(wrong).to_list()] = True
            known = _exchanged(known, wrong)
        reasons = np.array(["not_scored"] * table.height, dtype=object)
        shown: list[dict[str, Any] | None] = [None] * table.height
        rank = np.empty(table.height, np.int64)
        rank[tie_order(table)] = np.arange(table.height)
        for (_,), rows in known.group_by("group", maintain_order=True):
            self._decide(rows, rank, reasons, shown)
        keep = reasons == "sweet_spot"
        decided = decide(keep, reasons.tolist(), shown)
        if not self.flip:
            return decided
        return decided.hstack(flip_pairs(table, turned & pl.Series(keep, dtype=pl.Boolean)))

    def _texts(self, table: pl.DataFrame) -> Iterator[tuple[str, pl.Series]]:
        """Identity of the answers: their texts where the rows have them, else their scores."""
        for side, by in (("chosen", self.chosen), ("rejected", self.rejected)):
            there = side in table.columns and isinstance(table[side].dtype, pl.List)
            column = contents(table[side]) if there else scores(table, by).cast(pl.String)
            column = column.fill_null("")
            yield f"{side}_text", column.alias(side)

    def _decide(
        self, rows: pl.DataFrame, rank: Any, reasons: Any, shown: list[dict[str, Any] | None]
    ) -> None:
        answers = pl.concat(
            [
                rows.select(text="chosen_text", score="high"),
                rows.select(text="rejected_text", score="low"),
            ]
        )
        distinct = answers.unique()
        target = below_mean(distinct["score"].sort().to_numpy(), self.deviations)
        high, low = (rows[name].to_numpy() for name in ("high", "low"))
        at = rows["at"].to_numpy()
        best = (high == distinct["score"].max()) & (low < high)
        order = np.lexsort((rank[at], low, np.abs(low - target), ~best))
        for place, one in enumerate(order.tolist()):
            named = "not_nearest" if place else "sweet_spot"
            reasons[at[one]] = named if best[one] else "not_best_chosen"
            shown[int(at[one])] = {"rejected": float(low[one]), "target": float(target)}


def _one_score_an_answer(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the median score of each answer, over all pairs of its group that have it."""
    sides = (("chosen_text", "high"), ("rejected_text", "low"))
    each = pl.concat([rows.select("group", text=text, score=score) for text, score in sides])
    medians = each.group_by("group", "text").agg(pl.col("score").median())
    for text, score in sides:
        found = medians.rename({"text": text, "score": score})
        rows = rows.drop(score).join(
            found, on=["group", text], how="left", maintain_order="left", nulls_equal=True
        )
    return rows


def _exchanged(frame: pl.DataFrame, turned: pl.Series) -> pl.DataFrame:
    """The scores and texts of both sides, in the rows of ``turned`` exchanged."""
    sides = (("high", "low"), ("chosen_text", "rejected_text"))
    return frame.with_columns(
        pl.when(turned).then(other).otherwise(name).alias(name)
        for pair in sides
        for name, other in (pair, pair[::-1])
    )
