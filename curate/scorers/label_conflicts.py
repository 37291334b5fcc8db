"""Preference labels that contradict others on the same prompt: opposite labels, cycles, ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from siftune.curate.comparing.shingles import shingle
from siftune.curate.core.ranges import Share, check_ranges
from siftune.curate.rows.chat import contents

__all__ = ["LabelConflicts"]


@dataclass(frozen=True)
class LabelConflicts:
    """Labels of one prompt as a graph of answers, an edge from each rejected to its chosen one.

    Prompts are the same, and so are answers, if they differ in case, punctuation and spaces alone;
    with ``near`` below 1 answers also where the Jaccard similarity of their sets of words reaches
    it, one through another.

    * ``label_conflicts``: whether the label takes part in a contradiction: an opposite label, or a
      longer cycle
    * ``label_conflicts_same``, ``label_conflicts_opposite``: numbers of other rows with the same
      two answers and the same, or the opposite label
    * ``label_conflicts_tie``: whether the votes on the two answers are even, so that they decide
      nothing
    * ``label_conflicts_cycle``: whether the label lies on a cycle (A over B, B over C, C over A):
      no ranking agrees with all of its labels
    * ``label_conflicts_within``: whether chosen and rejected are the same answer

    The scores of a row depend on the other rows of the table. A pair that lacks the text of an
    answer, or has no prompt, scores null.

    Not for sets with one pair for each prompt, where nothing can contradict.

    Options:
        near: Jaccard similarity of two answers' words from which on they count as the same.
    """

    near: Share = 1.0

    whole: ClassVar = True
    content: ClassVar = ("prompt", "chosen", "rejected")
    needs: ClassVar = ("prompt", "chosen", "rejected")
    adds: ClassVar = {
        "label_conflicts": pl.Boolean,
        "label_conflicts_same": pl.UInt32,
        "label_conflicts_opposite": pl.UInt32,
        "label_conflicts_tie": pl.Boolean,
        "label_conflicts_cycle": pl.Boolean,
        "label_conflicts_within": pl.Boolean,
    }

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare the labels of each prompt."""
        texts = table.select(contents(table[name]).alias(name) for name in self.needs)
        known = texts.with_row_index("row").drop_nulls(list(self.needs))
        edges = pl.DataFrame(
            {"row": known["row"], "prompt": _keys(known["prompt"]), **dict(self._nodes(known))}
        ).with_columns(within=pl.col("high") == pl.col("low"))
        sides = ("high", "low")
        ordered = edges.with_columns(a=pl.min_horizontal(sides), b=pl.max_horizontal(sides))
        votes = ordered.with_columns(
            same=pl.len().over("prompt", "high", "low"), all=pl.len().over("prompt", "a", "b")
        )
        votes = votes.with_columns(opposite=pl.col("all") - pl.col("same"))
        votes = votes.with_columns(cycle=_on_cycles(votes)).with_columns(
            pl.when(pl.col("within")).then(0).otherwise(pl.col("opposite")).alias("opposite")
        )
        scores = votes.select(
            "row",
            label_conflicts=(pl.col("opposite") > 0) | pl.col("cycle"),
            label_conflicts_same=pl.col("same") - 1,
            label_conflicts_opposite="opposite",
            label_conflicts_tie=(pl.col("same") == pl.col("opposite")) & ~pl.col("within"),
            label_conflicts_cycle="cycle",
            label_conflicts_within="within",
        )
        every = pl.DataFrame({"row": pl.int_range(table.height, dtype=pl.UInt32, eager=True)})
        joined = every.join(scores, on="row", how="left", maintain_order="left")
        return joined.select(*self.adds).cast(pl.Schema(self.adds))

    def _nodes(self, known: pl.DataFrame) -> Iterator[tuple[str, pl.Series]]:
        """The answer of each side as a number: equal ones have the same."""
        both = pl.concat([known["chosen"].alias("text"), known["rejected"].alias("text")])
        keys = _keys(both)
        if self.near < 1 and len(both):
            prompts = _keys(pl.concat([known["prompt"], known["prompt"]]))
            keys = self._merged(prompts, both, keys)
        yield from (("high", keys[: known.height]), ("low", keys[known.height :]))

    def _merged(self, prompts: pl.Series, texts: pl.Series, keys: pl.Series) -> pl.Series:
        """Keys of answers, with those of near ones to the same prompt made one."""
        frame = pl.DataFrame({"prompt": prompts, "key": keys, "text": texts})
        distinct = frame.unique(["prompt", "key"]).sort("prompt", "key")
        hashes, offsets = shingle(distinct["text"], 1)
        sets = [np.unique(part) for part in np.split(hashes, offsets[1:-1])]
        first = np.arange(distinct.height)
        groups = distinct.with_row_index("at").group_by("prompt", maintain_order=True).agg("at")
        for at in groups["at"].to_list():
            for place, one in enumerate(at):
                for other in at[:place]:
                    if _jaccard(sets[one], sets[other]) >= self.near:
                        _unite(first, one, other)
        roots = distinct["key"][[_root(first, at) for at in range(distinct.height)]]
        named = distinct.select("prompt", "key").with_columns(root=roots)
        return frame.join(named, on=["prompt", "key"], how="left", maintain_order="left")["root"]


def _keys(texts: pl.Series) -> pl.Series:
    """A text's words, without case and punctuation, as a key."""
    plain = texts.str.normalize("NFKC").str.to_lowercase().str.extract_all(r"[\p{L}\p{M}\p{N}]+")
    bare = plain.list.join(" ")
    marks = pl.select(pl.when(bare == "").then(texts.str.strip_chars()).otherwise(bare))
    return marks.to_series()


def _jaccard(one: Any, other: Any) -> float:
    whole = len(np.union1d(one, other))
    return len(np.intersect1d(one, other)) / whole if whole else 0.0


def _root(first: Any, at: int) -> int:
    while first[at] != at:
        at = int(first[at])
    return at


def _unite(first: Any, one: int, other: int) -> None:
    roots = sorted((_root(first, one), _root(first, other)))
    first[roots[1]] = roots[0]


def _on_cycles(edges: pl.DataFrame) -> pl.Series:
    """Whether each edge lies on a cycle: both ends are in one strongly connected component."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    ends = pl.concat([edges.select("prompt", node=side) for side in ("high", "low")])
    number = ends.select(pl.struct("prompt", "node").rank("dense") - 1).to_series().to_numpy()
    high, low = number[: edges.height], number[edges.height :]
    if not len(number):
        return pl.Series(dtype=pl.Boolean)
    size = int(number.max()) + 1
    graph = csr_matrix((np.ones(len(high)), (low, high)), shape=(size, size))
    _, component = connected_components(graph, directed=True, connection="strong")
    return pl.Series((component[high] == component[low]) & (high != low))
