"""The default rule of near-duplicates: n-grams that suit short rows, a guard, and parts of answers.

Rows of at most 60 words (`shingles.SHORT`) are compared with each other by the halves of their
words (unit ``auto`` of `shingles`), longer ones by 3-grams of words. Two rows are near-duplicates
if the Jaccard similarity of these sets reaches the threshold and the guard allows the pair
(`row_guard`), or if they have the same prompt and one answer is a part of the other
(`whole_answers`). A score decides which one survives,
or without one `whole_answers.wholeness`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from siftune.curate.comparing.row_words import text_keys
from siftune.curate.comparing.shingles import ChainedShingles, TextShingles
from siftune.curate.comparing.text_pieces import Pieces, RowTexts, row_texts
from siftune.curate.core.schema import kind_of
from siftune.curate.dedup.candidate_filter import candidates
from siftune.curate.dedup.cover_rule import Cover
from siftune.curate.dedup.group_cover import cover_groups
from siftune.curate.dedup.row_guard import Guard, guard_of
from siftune.curate.dedup.row_relation import Relation
from siftune.curate.dedup.whole_answers import Parts, answer_parts, padded_prompts, wholeness
from siftune.curate.rows.chat import Part, text_of

__all__ = ["Ranking", "RowSides", "cover_copies", "same_prompt_parts"]

Ints: TypeAlias = npt.NDArray[np.int64]
Ranking: TypeAlias = Callable[[Ints, Callable[[], Sequence[pl.Series]]], tuple[Ints, int]]
"""Positions in the rows given, those of a reference first, then from best to worst; and how many
are of a reference. The columns, made if needed, rank rows of the table that have no score."""

_CELLS = 22  # bits of a hash by which words are counted: 32 MB, however large the table
_COUNTED = (
    10_000  # rows whose words are counted, those of the smallest digests, besides the rows asked
)
_STEPS = 2**16  # of a logarithm, so that sums are exact in any order


@dataclass(frozen=True)
class RowSides:
    """Prompts and answers of rows, as pieces; ``texts`` own the memory.

    A row that has neither (it ends without an answer) is all prompt.
    """

    prompt: Pieces
    answer: Pieces
    texts: tuple[RowTexts, ...]

    @classmethod
    def of(cls, tables: Sequence[pl.DataFrame], part: Part) -> RowSides:
        """The sides of the rows of all tables; only ``part`` has words."""
        sides = [_sides(table, part) for table in tables]
        texts = tuple(text for each in sides for text in each)
        prompt, answer = (_chained([each[at].pieces for each in sides]) for at in (0, 1))
        return cls(prompt, answer, texts)

    def guard(self, rows: Ints) -> Guard:
        """The guard of some rows."""
        return guard_of((self.prompt, self.answer), rows)


def _sides(table: pl.DataFrame, part: Part) -> tuple[RowTexts, RowTexts]:
    texts = [row_texts(table, side) for side in ("prompt", "response")]
    kind = kind_of(table)
    if kind == "conversation" and part == "both":
        has_none = np.all([np.diff(text.pieces.starts) == 0 for text in texts], axis=0)
        if has_none.any():
            whole = row_texts(table, "both")
            texts[0] = RowTexts(_either(texts[0].pieces, whole.pieces, has_none), (texts, whole))
    empty = RowTexts(_chained([]), ())
    none = Pieces(*empty.pieces[:2], np.zeros(table.height + 1, np.int64))
    for at, side in enumerate(("prompt", "response")):
        if part not in ("both", side):
            texts[at] = RowTexts(none, ())
    return texts[0], texts[1]


def _either(one: Pieces, other: Pieces, mask: npt.NDArray[np.bool_]) -> Pieces:
    """The texts of ``one``, which are empty where ``mask`` is set, and of ``other`` there."""
    both = _chained([one, other])
    count = len(mask)
    rows = np.where(mask, np.arange(count) + count, np.arange(count))
    sizes = np.diff(both.starts)[rows]
    starts = np.append(0, sizes.cumsum())
    at = np.arange(starts[-1]) + np.repeat(both.starts[rows] - starts[:-1], sizes)
    return Pieces(both.addresses[at], both.sizes[at], starts)


def _chained(parts: Sequence[Pieces]) -> Pieces:
    """The texts of all ``parts``, one after the other."""
    none = np.empty(0, np.int64)
    counts = np.concatenate([none, *(np.diff(part.starts) for part in parts)])
    return Pieces(
        np.concatenate([none, *(part.addresses for part in parts)]),
        np.concatenate([none, *(part.sizes for part in parts)]),
        np.append(0, counts.cumsum()),
    )


def cover_copies(
    tables: Sequence[pl.DataFrame], part: Part, threshold: Fraction, ranking: Ranking
) -> tuple[Ints, Ints, Cover]:
    """Rows to compare, rows without a word, and the cover of the former; see the module.

    ``tables`` are the rows and those of a reference. A similarity below 0 is the share of the whole
    that a part has, with a minus.
    """
    sides = RowSides.of(tables, part)
    marks, words = text_keys(sides.prompt)
    height = tables[0].height
    texts = ChainedShingles(
        [
            TextShingles.of(table, part, 0, "auto", keys)
            for table, keys in zip(tables, np.split(marks, [height]), strict=True)
        ]
    )
    near, group, empty = candidates(texts, threshold, common=True)
    parts = same_prompt_parts(tables, words) if part == "both" else None
    if parts is not None and len(parts.part):
        near, group = _joined(len(texts), near, group, parts)
    guard = sides.guard(near)
    whole_first = partial(_wholeness, tables[0], part, near, group, guard, parts)
    order, fixed = ranking(near, whole_first)
    relation = _relation(guard, near, parts, order)
    return near, empty, cover_groups(texts, near, group, order, fixed, threshold, relation=relation)


def same_prompt_parts(
    tables: Sequence[pl.DataFrame], words: npt.NDArray[np.uint64]
) -> Parts | None:
    """The parts among the answers to prompts of the same words, by row numbers.

    ``words`` is a key of the words of each prompt (`text_keys`).
    """
    keys = pl.Series(words)
    rows = (keys.is_duplicated() & (keys != 0)).arg_true().to_numpy().astype(np.int64)
    if not len(rows):
        return None
    height = tables[0].height
    own = rows < height
    some = (tables[0][rows[own]], tables[1][rows[~own] - height])
    answers = [text_of(each, "response").alias("answer") for each in some if each.height]
    found = answer_parts(pl.concat(answers), pl.Series(words[rows]))
    part, whole, padded, cut = (rows[each] for each in (found[0], found[1], *found[3:]))
    return Parts(part, whole, found.words, padded, cut)


def _joined(count: int, near: Ints, group: Ints, parts: Parts) -> tuple[Ints, Ints]:
    """The rows to compare and their groups, with each part in the group of its whole."""
    one, other = np.concatenate([near, parts.part]), np.concatenate([group, parts.whole])
    edges = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(count, count))
    _, label = connected_components(edges, directed=False)
    rows = np.unique(np.concatenate([near, parts.part, parts.whole]))
    return rows, label[rows].astype(np.int64)


def _wholeness(
    table: pl.DataFrame, part: Part, near: Ints, group: Ints, guard: Guard, parts: Parts | None
) -> list[pl.Series]:
    """The columns that rank the rows of the table among ``near``; see `wholeness`."""
    own = near[near < table.height]
    texts = text_of(table[own], "prompt" if part == "prompt" else "response")
    words = (np.diff(guard.prompt.offsets) + np.diff(guard.answer.offsets))[: len(own)]
    flagged = (parts.padded, parts.cut) if parts is not None else (own[:0], own[:0])
    padded, cut = (np.searchsorted(own, np.intersect1d(each, own)) for each in flagged)
    prompts = None
    if part != "response":
        prompts = text_of(table[own], "prompt")
        padded = np.union1d(padded, padded_prompts(prompts, group[: len(own)]))
    return wholeness(texts, words, padded, cut, prompts, _commonness(table, part, own))


def _commonness(table: pl.DataFrame, part: Part, rows: Ints) -> Ints:
    """How common the words and the pairs of adjacent words of some rows are in the table.

    They are counted in these and in a fixed number of other rows, drawn by their digests.

    The sum of the logarithms of their shares, in steps. Of two rows with as many words, most of
    them the same, the one with a typing error or two words swapped has the smaller sum.
    """
    sums = np.zeros(len(rows), np.int64)
    if not len(rows):
        return sums
    some = table.select(pl.col("digest").bottom_k(_COUNTED).max())["digest"]
    counted = (table["digest"] <= some.item()).arg_true().to_numpy().astype(np.int64)
    counted = np.union1d(counted, rows)
    for size in (1, 2):
        texts = TextShingles.of(table, part, size, "word")
        counts = np.zeros(1 << _CELLS, np.int64)
        for hashes, _ in texts.batches(counted):
            np.add.at(counts, hashes >> np.uint64(64 - _CELLS), 1)
        total, start = counts.sum(), 0
        for hashes, offsets in texts.batches(rows):
            shares = (counts[hashes >> np.uint64(64 - _CELLS)] + 0.5) / (total + 1)
            steps = np.rint(np.log(shares) * _STEPS).astype(np.int64)
            ends = np.append(0, steps.cumsum())[offsets]
            sums[start : start + len(ends) - 1] += np.diff(ends)
            start += len(ends) - 1
    return sums


def _relation(guard: Guard, near: Ints, parts: Parts | None, order: Ints) -> Relation:
    """The guard and the parts by positions in ``near``; the parts of a row best first."""
    if parts is None or not len(parts.part):
        return Relation.of_all(len(near))._replace(guard=guard)
    part, whole = np.searchsorted(near, parts.part), np.searchsorted(near, parts.whole)
    one, other = np.concatenate([part, whole]), np.concatenate([whole, part])
    rank = np.empty(len(near), np.int64)
    rank[order] = np.arange(len(near))
    sort = np.lexsort((rank[other], one))
    starts = np.searchsorted(one[sort], np.arange(len(near) + 1))
    words = np.concatenate([parts.words, parts.words])[sort]
    return Relation(guard, np.arange(len(near)), starts, other[sort], words)
