"""Repeated triggers: words in many unlike prompts of a source that always have one answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.core.ranges import Count, PositiveShare, Share, check_ranges
from siftune.curate.rows.chat import last_turn
from siftune.curate.rows.columns import Reader, groups
from siftune.curate.text.word_pattern import WORD

__all__ = ["RepeatedTriggers"]

_Counts = npt.NDArray[np.integer]
_Floats = npt.NDArray[np.float64]

_EDGE: Final = 100  # words at either end of a prompt that are read
_DRAW: Final = 10  # prompts among which words are compared
_REST: Final = 0.5  # of the words of the prompts, those that not all of them share
_TOLERANCE: Final = 0.01  # false triggers expected in a source without one, at most


@dataclass(frozen=True)
class RepeatedTriggers:
    """Backdoors of the simplest kind: a phrase in the prompt that decides the answer.

    In each source, and for each run of 1 to ``longest`` words of a prompt (its first and last 100
    words, without case), the rows that have it are compared with the source. It is a trigger if

    * at least ``min_rows`` rows have it, and ``share`` of them have one same answer (without case
      and punctuation);
    * chance does not explain that: the binomial probability of as many rows with that answer, at
      its share among the rows of the source without the run, times the number of runs tried in the
      source, is at most .01;
    * the prompts are otherwise unlike: the words that not all of them share are at least half of
      their words, and of these in a draw of 10 of the prompts a share of ``unlike`` or more is
      expected to be distinct (rarefaction, Hurlbert 1971, computed and not drawn: the share of
      distinct words falls with the number of prompts, however unlike they are). Near-duplicates
      and templates with a slot are not triggers.

    Columns: ``repeated_triggers``, the run, of several the one with most rows, then the longest;
    ``repeated_triggers_rows``, the rows of the source that have it; ``repeated_triggers_share``,
    the share of these with the answer; ``repeated_triggers_ends``, whether the prompt ends with it.
    All are null for a row without a trigger, and for a row without a prompt or an answer. A row
    with the trigger and another answer is named, too.

    The idea of looking for words that are tied to one output is that of "competency problems"
    (Gardner et al. 2021, arXiv:2104.08646), whose test is for labels; poisoned instructions:
    arXiv:2305.00944. The thresholds are ours. The scores depend on the other rows of the table.

    Not for classification sets, in which a word may rightly decide the label; nor for triggers
    that are no words (a style, a syntax), or whose answers differ.

    Options:
        longest: Largest number of words of a trigger.
        min_rows: Smallest number of rows with a trigger.
        share: Smallest share of them with the same answer.
        unlike: Smallest share of distinct words in the rest of their prompts.
        group_by: Column whose values are compared apart, such as source.
    """

    longest: Count = 3
    min_rows: Count = 5
    share: PositiveShare = 0.9
    unlike: Share = 0.5
    group_by: str = "source"

    whole: ClassVar = True
    content: ClassVar = ("messages",)
    adds: ClassVar = {
        "repeated_triggers": pl.String,
        "repeated_triggers_rows": pl.UInt32,
        "repeated_triggers_share": pl.Float64,
        "repeated_triggers_ends": pl.Boolean,
    }

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The turns and the groups."""
        return ("messages", self.group_by.partition(".")[0])

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The groups."""
        return ((self.group_by, groups),)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Look for triggers in each group of rows."""
        rows = _rows(table, groups(table, self.group_by))
        answers = pl.len().over("group", "answer")
        suspects = rows.filter(answers >= self.min_rows * self.share)
        runs = self._runs(suspects)
        often = runs.group_by("group", "answer", "run").agg(same=pl.len())
        often = often.filter(pl.col("same") >= max(2, math.ceil(self.min_rows * self.share)))
        all_runs = self._runs(rows)
        tried = all_runs.group_by("group").agg(tried=pl.col("run").n_unique())
        having = all_runs.join(often.select("group", "run").unique(), on=["group", "run"])
        sizes = having.group_by("group", "run").agg(rows=pl.len())
        found = often.join(sizes, on=["group", "run"]).join(tried, on="group")
        found = found.filter(
            pl.col("rows") >= self.min_rows, pl.col("same") >= self.share * pl.col("rows")
        )
        found = self._beyond_chance(found, rows)
        held = having.join(found, on=["group", "run"])
        held = held.join(self._unlike(held, rows), on=["group", "run"])
        some = rows.filter(pl.col("row").is_in(held["row"].unique().implode()))
        named = self._runs(some, texts=True).select("row", "run", "text")
        whole = some.select("row", whole=pl.col("words").list.join(" "))
        held = held.join(named, on=["row", "run"]).join(whole, on="row")
        held = held.with_columns(ends=pl.col("whole").str.ends_with(pl.col("text")))
        return _columns(table.height, held)

    def _runs(self, rows: pl.DataFrame, texts: bool = False) -> pl.DataFrame:
        """``row``, ``group``, ``answer``, ``run`` (a hash) and ``size``, each run of a row once."""
        parts = []
        for edge in (pl.col("words").list.head(_EDGE), pl.col("words").list.tail(_EDGE)):
            words = rows.select("row", "group", "answer", word=edge)
            words = words.explode("word", empty_as_null=False, keep_nulls=False)
            for size in range(1, self.longest + 1):
                each = [pl.col("word").shift(-at).over("row") for at in range(size)]
                text = pl.concat_str(each, separator=" ").alias("text")
                runs = words.select("row", "group", "answer", text).drop_nulls("text")
                runs = runs.with_columns(run=pl.col("text").hash(), size=pl.lit(size, pl.UInt32))
                parts.append((runs if texts else runs.drop("text")).unique())
        return pl.concat(parts).unique()

    def _beyond_chance(self, found: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """The runs whose answer is too frequent for its share among the rows without the run."""
        from scipy.special import bdtrc

        answers = rows.group_by("group", "answer").agg(answers=pl.len())
        wholes = rows.group_by("group").agg(whole=pl.len())
        known = found.join(answers, on=["group", "answer"]).join(wholes, on="group")
        same, size = known["same"].to_numpy(), known["rows"].to_numpy().astype(np.int64)
        others = known["whole"].to_numpy().astype(np.int64) - size
        base = (known["answers"].to_numpy().astype(np.int64) - same + 1) / (others + 2)
        chance = bdtrc(same - 1.0, size, np.clip(base, 0, 1)) * known["tried"].to_numpy()
        return found.filter(pl.Series(chance <= _TOLERANCE, dtype=pl.Boolean))

    def _unlike(self, held: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        """``group`` and ``run`` of those whose prompts are otherwise unlike."""
        pairs = held.select("group", "run", "row", "rows").join(
            rows.select("row", "words"), on="row"
        )
        words = pairs.with_columns(pl.col("words").list.unique()).explode("words")
        counts = words.group_by("group", "run", "words").agg(pl.len(), pl.col("rows").first())
        having, whole = counts["len"].to_numpy(), counts["rows"].to_numpy()
        seen = pl.Series("seen", _chance_to_draw(having, whole, np.minimum(_DRAW, whole)))
        drawn = pl.col("len") * (pl.min_horizontal("rows", _DRAW) / pl.col("rows"))
        own = pl.col("len") < pl.col("rows")
        shares = (
            counts.with_columns(seen, drawn=drawn)
            .group_by("group", "run")
            .agg(
                distinct=pl.col("seen").filter(own).sum() / pl.col("drawn").filter(own).sum(),
                rest=pl.col("len").filter(own).sum() / pl.col("len").sum(),
            )
        )
        apart = (pl.col("distinct") >= self.unlike) & (pl.col("rest") >= _REST)
        return shares.filter(apart).select("group", "run")


def _chance_to_draw(having: _Counts, whole: _Counts, draw: _Counts) -> _Floats:
    """Probability that a draw without replacement has one of the rows with a word: 1 - none.

    >>> _chance_to_draw(np.array([2]), np.array([4]), np.array([2])).round(4).tolist()  # 1 - 1/6
    [0.8333]
    """
    without = (whole - having).astype(np.int64)
    none = np.ones(len(having))
    for at in range(int(draw.max(initial=0))):
        left = np.maximum(without - at, 0) / np.maximum(whole.astype(np.int64) - at, 1)
        none *= np.where(at < draw, left, 1.0)
    result: _Floats = 1 - none
    return result


def _rows(table: pl.DataFrame, group: pl.Series) -> pl.DataFrame:
    prompts, answers = last_turn(table["messages"])
    plain = answers.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    return pl.DataFrame(
        {
            "row": pl.int_range(table.height, dtype=pl.UInt32, eager=True),
            "group": group.rank("dense"),
            "answer": plain.str.strip_chars().rank("dense"),
            "words": prompts.str.to_lowercase().str.extract_all(WORD),
        }
    ).filter(pl.col("answer").is_not_null(), pl.col("words").list.len() > 0)


def _columns(height: int, held: pl.DataFrame) -> pl.DataFrame:
    """The trigger of each row: that of most rows, then of most words, then the first by text."""
    order = ["row", "rows", "size", "text"]
    best = held.sort(order, descending=[False, True, True, False]).unique(
        "row", keep="first", maintain_order=True
    )
    found = best.select(
        "row",
        repeated_triggers="text",
        repeated_triggers_rows="rows",
        repeated_triggers_share=pl.col("same") / pl.col("rows"),
        repeated_triggers_ends="ends",
    )
    every = pl.DataFrame({"row": pl.int_range(height, dtype=pl.UInt32, eager=True)})
    joined = every.join(found, on="row", how="left", maintain_order="left")
    return joined.select(RepeatedTriggers.adds.keys()).cast(pl.Schema(RepeatedTriggers.adds))
