"""Drop near-duplicate texts: exact Jaccard similarity of word n-grams, each with its survivor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from siftune.curate.comparing.shingle_index import ShingleIndex
from siftune.curate.comparing.shingle_sets import Sets, sets_of
from siftune.curate.comparing.shingles import (
    ChainedShingles,
    Hashes,
    Offsets,
    ShingleSource,
    TextShingles,
    Unit,
    shingle,
)
from siftune.curate.core.progress import log_metrics
from siftune.curate.core.ranges import ColumnExpression, Count, PositiveShare, Seed, check_ranges
from siftune.curate.dedup.candidate_filter import candidates
from siftune.curate.dedup.cover_rule import (
    Cover,
    best_first,
    duplicate_decisions,
    ranking_columns,
)
from siftune.curate.dedup.default_rule import cover_copies
from siftune.curate.dedup.group_cover import cover_groups
from siftune.curate.dedup.minhash import Signatures, band_candidates, signatures
from siftune.curate.dedup.prefix_filter import Ints, exact_ratio
from siftune.curate.dedup.reference_rows import check_against, naming_reference, reference_rows
from siftune.curate.dedup.set_cover import cover_sets
from siftune.curate.files.atomic import digest_of
from siftune.curate.files.source_spec import SourceOption
from siftune.curate.rows.chat import Part, calls_of, text_of
from siftune.curate.rows.columns import Reader, sortable
from siftune.curate.rows.expressions import reads_of

__all__ = ["MinHashDedup"]

_NGRAM = 5  # words or characters, where n-grams alone are compared
_SAMPLE = 64  # rows on which a column of signatures is checked


@dataclass(frozen=True)
class MinHashDedup:
    """Near-duplicates by Jaccard similarity of n-gram sets, under the cover rule.

    From best to worst, a row is dropped if a row kept before it is at least ``threshold`` similar.
    So every dropped row names such a survivor, and no two survivors are that similar.

    The default rule suits instructions. Rows of up to 60 words are compared by the halves of their
    words, longer ones by 3-grams of words, so typing errors, swapped and missing words leave a
    short row similar; a guard keeps rows that differ in a number, a name, a negation or in a word
    of the prompt (`curate.dedup.row_guard`: then a pair is no near-duplicate, whatever its
    similarity). The manifest has ``kept_by_guard``, the number of rows that are kept because of it
    (rows with other numbers in the prompt are never compared, and not counted). Also, an answer
    that is a part of another one to the same prompt is a near-duplicate (``match: part`` in the
    detail, `curate.dedup.whole_answers`). Without a score the whole row survives: not one that is
    cut off, or that has words around its answer or prompt such as *I hope this helps!* or *Hey*;
    then the longest; then the one whose words and word pairs are the commonest in the table, as
    typing errors and swapped words make rare ones.
    Names and negations are found in English texts.

    With ``ngram`` (or ``unit: char``, ``index`` or ``candidates: minhash``, then 5) n-grams alone
    are compared: no guard, no parts, and the smaller digest survives.

    ``candidates`` is how pairs to verify are found. ``exact`` misses none: a prefix-filter join
    (`curate.dedup.prefix_filter`) on the rarest shingles, no signature needed, and faster on word
    n-grams. ``minhash`` takes texts that agree in all ``rows_per_band`` hashes of one of ``bands``
    bands: of pairs at 0.7, 99 % at 25 x 5; for character n-grams, low thresholds, or where the
    scorer `minhash` made the column elsewhere (used if it has the same settings, else made anew). A
    text with more candidates in its bands than there are kept texts is compared with all of these.

    ``threshold`` is inclusive. ``of`` is what is compared: prompt, response or both. ``ngram``
    words (or characters, ``unit``) make a shingle; a shorter text is one shingle. Rows of a source
    preferred more survive, then the best score ``by``, then those of the smaller digest. Words
    are letters, marks, numbers and ``_``, case-folded and not normalised otherwise: a letter with a
    separate accent is a different letter (`exact_dedup` with ``normalise: words`` makes them
    equal). A row without a word in ``of`` (signs, emoji) is kept as ``not_comparable``, but
    `exact_dedup` compares those too. Tool calls are text (name and arguments), and rows whose calls
    differ are no near-duplicates, however much of their text is the same.

    ``against`` is a reference (a rows table, a run folder, a raw file, or ``{path, format, map}``):
    a row near one of its rows is dropped as ``near_duplicate_of_reference``, with its id and
    the path in the detail. ``index`` is a folder of the shingles of all rows kept by earlier runs
    with it. They are a reference too, whose texts are not read again; the rows kept now are added.
    So runs on A, then B keep what one run on both keeps if it ranks every row of A before every row
    of B. The same rows again get the same decisions.

    Not for paraphrases, which share few n-grams: take semantic_dedup.

    Options:
        threshold: Jaccard similarity, from 0 to 1, from which on two rows are duplicates.
        of: Text that is compared: the prompt, the response, or both.
        ngram: Number of words (or characters) of an n-gram; none compares by the default rule.
        unit: Unit of the n-grams.
        by: Column with a score by which, of duplicates, the best row survives, or an expression of
            columns; none takes the whole one, or with ``ngram`` the smaller digest.
        descending: Take larger values of ``by`` as better; false takes smaller ones.
        prefer_source: Sources whose rows survive those of all others, the first source first.
        against: Reference rows, a file, a run folder or {path, format, map}: rows that duplicate
            one of them are dropped.
        index: Folder of an index of the rows that earlier runs kept: they count as a reference, and
            the rows kept now are added.
        candidates: How pairs to compare are found: all of them (exact), or those that agree in a
            band of MinHash signatures (minhash).
        bands: Number of bands of a signature, with ``candidates: minhash``.
        rows_per_band: Number of hashes in a band, with ``candidates: minhash``.
        seed: Seed of the hashes of signatures.
    """

    threshold: PositiveShare = 0.7
    of: Part = "both"
    ngram: Count | None = None
    unit: Unit = "word"
    by: ColumnExpression | None = None
    descending: bool = True
    prefer_source: tuple[str, ...] = ()
    against: SourceOption | None = None
    index: str | None = None
    candidates: Literal["exact", "minhash"] = "exact"
    bands: Count = 25
    rows_per_band: Count = 5
    seed: Seed = 0

    renamed: ClassVar = (("rank_by", "by"), ("rows", "rows_per_band"))

    wants: ClassVar = ("minhash",)

    def __post_init__(self) -> None:
        check_against(self.against)
        check_ranges(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """The content, and the column that ranks."""
        return ("content", *ranking_columns(self.by, self.prefer_source))

    @property
    def writes(self) -> tuple[str, ...]:
        """The index folder: without it a finished stage is not done."""
        return (str(self._index.note),) if self._index else ()

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The column that ranks."""
        return reads_of(self.by, sortable)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Decide on each row; ``detail`` of a dropped one is ``{"similarity", "survivor"}``.

        Where the survivor is a reference row, ``reference`` is the path of ``against`` or
        ``index``.
        """
        if self._by_default:
            return self._copies(table)
        threshold = exact_ratio(self.threshold)
        own, reference, (before, saved) = self._texts(table), self._reference, self._before(table)
        texts = ChainedShingles([own, self._texts(reference), saved])
        near, empty, cover = self._covered(table, texts, threshold)
        dropped = np.flatnonzero(cover.survivor >= 0)
        self._save(table, own, np.concatenate([near[dropped], empty]))
        survivor = near[cover.survivor[dropped]]
        decisions = duplicate_decisions(
            table["id"],
            near[dropped],
            survivor,
            cover.similarity[dropped],
            "near_duplicate",
            (empty[empty < table.height], "not_comparable"),
            pl.concat([reference["id"], before]),
        )
        of_index = near[dropped][survivor >= table.height + reference.height]
        return naming_reference(decisions, self.against, self.index, of_index)

    @property
    def _by_default(self) -> bool:
        plain = self.index is not None or self.candidates == "minhash" or self.unit == "char"
        return self.ngram is None and not plain

    @property
    def _size(self) -> int:
        return _NGRAM if self.ngram is None else self.ngram

    def _copies(self, table: pl.DataFrame) -> pl.DataFrame:
        """The decisions by the default rule."""
        tables = (table, self._reference)
        near, empty, cover = cover_copies(
            tables, self.of, exact_ratio(self.threshold), partial(self._ranking, table)
        )
        log_metrics(kept_by_guard=int((cover.guarded >= 0).sum()))
        dropped = np.flatnonzero(cover.survivor >= 0)
        similarity = cover.similarity[dropped]
        decisions = duplicate_decisions(
            table["id"],
            near[dropped],
            near[cover.survivor[dropped]],
            np.abs(similarity),
            "near_duplicate",
            (empty[empty < table.height], "not_comparable"),
            self._reference["id"],
            pl.Series(np.where(similarity < 0, "part", "near"), dtype=pl.String),
        )
        return naming_reference(decisions, self.against)

    def _before(self, table: pl.DataFrame) -> tuple[pl.Series, Sets]:
        """Ids and sets of the rows that were kept by earlier runs on the index."""
        if self._index is None:
            none = Sets(np.empty(0, np.uint64), np.zeros(1, np.int64))
            return pl.Series("id", [], dtype=pl.String), none
        return self._index.before(self._key(table))

    def _save(self, table: pl.DataFrame, texts: TextShingles, passed_over: Ints) -> None:
        if self._index is not None:
            kept = np.setdiff1d(np.arange(table.height), passed_over)
            self._index.add(self._key(table), table["id"].gather(kept), sets_of(texts, kept))

    def _key(self, table: pl.DataFrame) -> str:
        """Hash of the rows and of all options that decide which are kept, but not of the index."""
        columns = ["id", "digest", *ranking_columns(self.by, self.prefer_source)]
        rows = table.select(list(dict.fromkeys(columns))).sort("id").write_ndjson()
        given = asdict(self) | {"index": None, "ngram": self._size}
        given["rank_by"] = given.pop("by")  # as it was called: an index made then stays known
        if not self.prefer_source:
            del given["prefer_source"]  # an index made before there was this option stays known
        return digest_of([given, rows])

    @property
    def _index(self) -> ShingleIndex | None:
        if self.index is None:
            return None
        made_with = {"of": self.of, "ngram": self._size, "unit": self.unit}
        return ShingleIndex(Path(self.index), made_with)

    def _texts(self, table: pl.DataFrame) -> TextShingles:
        return TextShingles.of(table, self.of, self._size, self.unit)

    def _covered(
        self, table: pl.DataFrame, texts: ShingleSource, threshold: Fraction
    ) -> tuple[Ints, Ints, Cover]:
        """Texts to compare, texts without a word, and the cover of the former."""
        if self.candidates == "exact":
            near, group, empty = candidates(texts, threshold)
            ranking = self._ranking(table, near)
            return near, empty, cover_groups(texts, near, group, *ranking, threshold)
        near, empty, keys = band_candidates(
            self._signatures(table, texts), self.bands, self.rows_per_band
        )
        ranking = self._ranking(table, near)
        return near, empty, cover_sets(sets_of(texts, near), keys, *ranking, threshold)

    def _signatures(self, table: pl.DataFrame, texts: ShingleSource) -> Iterator[Signatures]:
        """Signatures of all rows, computed unless a column of the table has them."""
        made = self._made_elsewhere(table)
        if made is not None:
            yield made
        later = None if made is None else np.arange(table.height, len(texts))
        for hashes, offsets in texts.batches(later):
            yield self._sign(hashes, offsets)

    def _sign(self, values: Hashes, offsets: Offsets) -> Signatures:
        return signatures(values, offsets, self.bands * self.rows_per_band, self.seed)

    def _made_elsewhere(self, table: pl.DataFrame) -> Signatures | None:
        """The column of signatures, if it is there and equals ours on a sample of rows."""
        if table.schema.get("minhash") != pl.Array(pl.UInt32, self.bands * self.rows_per_band):
            return None
        sample = table.select(pl.arg_sort_by("digest", "id").head(_SAMPLE)).to_series()
        rows = table[sample]
        calls = calls_of(rows, self.of)
        values, offsets = shingle(text_of(rows, self.of), self._size, self.unit, calls)
        some = _filled(table["minhash"].gather(sample))
        alike = np.array_equal(some, self._sign(values, offsets))
        return _filled(table["minhash"]) if alike else None

    def _ranking(
        self, table: pl.DataFrame, rows: Ints, more: Callable[[], Sequence[pl.Series]] = list
    ) -> tuple[Ints, int]:
        """Positions in ``rows_per_band``, those of a reference first, then from best to worst.

        Also how many are of a reference. ``more`` makes the columns that rank rows of the table
        where no score does.
        """
        count = int(np.searchsorted(rows, table.height))
        own, prefer = rows[:count], self.prefer_source
        columns = more() if self.by is None else ()
        better = self.descending or bool(columns)
        order = best_first(table, own, self.by, prefer, descending=better, more=columns)
        return np.concatenate([np.arange(count, len(rows)), order]), len(rows) - count

    @cached_property
    def _reference(self) -> pl.DataFrame:
        return reference_rows(self.against)


def _filled(column: pl.Series) -> np.ndarray:
    """Signatures as a matrix; null, a text without a word, is all ones."""
    matrix = np.full((len(column), column.dtype.size), 0xFFFFFFFF, np.uint32)  # type: ignore[attr-defined]
    matrix[column.is_not_null().to_numpy()] = column.drop_nulls().to_numpy()
    return matrix
