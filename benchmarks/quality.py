"""Quality of single answers: a fitted head beside length, zlib ratio, words and IFD; a table.

`python -m benchmarks.quality --rows FILE --label COLUMN` takes conversations with a label column.
Preference pairs and ranked lists need none: the label of an answer is the share of its comparisons
that it wins, ties half. Each split deals the prompts (first turns of conversations) in two halves,
draws labelled rows from one and held-out rows from the other, fits a head as `siftune curate
fit-quality` does, and compares the scores of held-out rows with their labels: the area under the
ROC curve of labels above the middle of their range against those below, and Spearman's
correlation. Figures are means over the splits, with 95 % intervals of a bootstrap over prompts in
which a prompt has one weight in all splits. Length, zlib ratio and IFD point where the labelled
rows say; the bag of words (ridge regression on tf-idf) is fitted to the same rows as the head.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

import siftune
from benchmarks.label_noise import auc
from siftune.curate.core.schema import TURNS, kind_of
from siftune.curate.heads.features import Features
from siftune.curate.heads.fitting import Labelled, fit_head
from siftune.curate.heads.labelled import labels_of
from siftune.curate.judge_stats.agreement import rank_correlation
from siftune.curate.judge_stats.calibration import Kind
from siftune.curate.judge_stats.intervals import Floats, NotEstimableError, Statistic, bootstrap
from siftune.curate.rows.chat import contents, last_turn, turn
from siftune.curate.scorers.compression import Compression
from siftune.curate.scorers.ifd import IFD

_DRAWS = 500
_HEAD = "fitted head"


@dataclass(frozen=True)
class Rows:
    """Answers with their labels; ``roots`` are the first turns, which stay on one side."""

    prompts: list[str]
    answers: list[str]
    labels: Floats
    roots: np.ndarray

    def part(self, at: np.ndarray) -> Labelled:
        """Some of the rows, as `fit_head` takes them."""
        labels = self.labels[at]
        kind: Kind = "binary" if np.isin(labels, (0, 1)).all() else "rating"
        asked, told = ([texts[one] for one in at] for texts in (self.prompts, self.answers))
        return Labelled(kind, asked, told, labels, None, list(self.roots[at]))

    def chats(self, at: np.ndarray) -> pl.DataFrame:
        """Some of the rows, as scorers take them."""
        turns = [
            [turn("user", self.prompts[one]), turn("assistant", self.answers[one])] for one in at
        ]
        return pl.DataFrame({"messages": pl.Series(turns, dtype=TURNS)})


def rows_of(table: pl.DataFrame, label: str | None) -> Iterator[tuple[str, str, float]]:
    """Prompt, answer and label of each answer; what has no label is left out."""
    kind = kind_of(table)
    if kind == "preference":
        sides = (contents(table[name]) for name in ("prompt", "chosen", "rejected"))
        yield from _win_rates(
            (asked, [better, worse], [1.0, 0.0])
            for asked, better, worse in zip(*sides, strict=True)
        )
    elif kind == "ranked":
        lists = (table["completions"].to_list(), table["scores"].to_list())
        yield from _win_rates(
            (asked, ["\n\n".join(one["content"] or "" for one in turns) for turns in told], scores)
            for asked, told, scores in zip(contents(table["prompt"]), *lists, strict=True)
            if scores
        )
    else:
        _, labels = labels_of(table, label)
        for asked, told, number in zip(*last_turn(table["messages"]), labels, strict=True):
            if asked and told and number == number:
                yield asked, told, float(number)


def _win_rates(
    compared: Iterator[tuple[str, list[str], Sequence[float | None]]],
) -> Iterator[tuple[str, str, float]]:
    won: dict[tuple[str, str], list[float]] = {}
    for asked, told, scores in compared:
        known = [
            (text, score) for text, score in zip(told, scores, strict=True) if score is not None
        ]
        for at, (text, score) in enumerate(known):
            for other in (score for place, (_, score) in enumerate(known) if place != at):
                won.setdefault((asked, text), []).append(0.5 * (1 + np.sign(score - other)))
    for (asked, text), found in won.items():
        yield asked, text, float(np.mean(found))


def read(path: str, label: str | None, layout: str | None, half: int | None, most: int) -> Rows:
    """The answers of a file in a random order, at most so many; ``half`` of the prompts."""
    found = {
        hashlib.blake2b("\0".join(row[:2]).encode()).digest(): row
        for row in rows_of(siftune.read(path, format=layout).kept, label)
        if row[0].strip() and row[1].strip()
    }
    ordered = [found[key] for key in sorted(found)]
    roots = _roots([row[0] for row in ordered])
    inside = [at for at in range(len(ordered)) if half is None or _number(roots[at]) % 2 == half][
        :most
    ]
    prompts, answers, labels = zip(*(ordered[at] for at in inside), strict=True)
    return Rows([*prompts], [*answers], np.array(labels), np.array([roots[at] for at in inside]))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _roots(prompts: Sequence[str]) -> list[str]:
    """The prompt that each begins with: turns of one conversation stay together."""
    roots: dict[str, str] = {}
    ordered = sorted(set(prompts))
    for before, one in pairwise(["", *ordered]):
        root = roots.get(before)
        roots[one] = root if root is not None and one.startswith(f"{root}\n\n") else one
    return [roots[prompt] for prompt in prompts]


def split(rows: Rows, labelled: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of labelled and of held-out rows, of different prompts."""
    random = np.random.default_rng(seed)
    roots = random.permutation(np.unique(rows.roots))
    first = np.isin(rows.roots, roots[: len(roots) // 2])
    order = random.permutation(len(rows.labels))
    return order[first[order]][:labelled], order[~first[order]][:held_out]


Score = Callable[[np.ndarray, np.ndarray], Floats]
"""From the places of labelled and of held-out rows to scores of the latter."""


def column(rows: Rows, values: Floats) -> Score:
    """A number a row, up or down as the labelled rows have it; what has none is in the middle."""
    known = np.where(np.isfinite(values), values, np.nanmedian(values))

    def score(labelled: np.ndarray, held_out: np.ndarray) -> Floats:
        weights = np.ones((1, len(labelled)))
        up = float(rank_correlation(known[labelled], rows.labels[labelled])(weights)[0])
        signed: Floats = known[held_out] * (1.0 if not up < 0 else -1.0)
        return signed

    return score


def head(rows: Rows, features: Features) -> Score:
    """A head of `siftune curate fit-quality`."""

    def score(labelled: np.ndarray, held_out: np.ndarray) -> Floats:
        asked = rows.part(held_out)
        return fit_head(rows.part(labelled), features)(asked.prompts, asked.answers)

    return score


def bag_of_words(rows: Rows) -> Score:
    """Ridge regression on tf-idf of words and pairs of words."""

    def score(labelled: np.ndarray, held_out: np.ndarray) -> Floats:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge

        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        known = words.fit_transform([rows.answers[at] for at in labelled])
        model = Ridge(alpha=1.0).fit(known, rows.labels[labelled])
        found: Floats = model.predict(words.transform([rows.answers[at] for at in held_out]))
        return found

    return score


class Figures:
    """Scores of held-out rows of all splits, one split after the other."""

    def __init__(self, rows: Rows, splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self._rows, self._splits = rows, splits
        self._middle = (rows.labels.min() + rows.labels.max()) / 2
        self._roots = np.concatenate([rows.roots[held] for _, held in splits])
        self.ones = np.ones((1, len(self._roots)))

    def statistics(self, score: Score) -> dict[str, list[Statistic]]:
        """AUC and Spearman's correlation of each split, as functions of all rows' weights."""
        found: dict[str, list[Statistic]] = {"AUC": [], "Spearman": []}
        start = 0
        for labelled, held in self._splits:
            labels, scores = self._rows.labels[held], score(labelled, held)
            sure = np.flatnonzero(labels != self._middle)
            area = auc(scores[sure], labels[sure] > self._middle)
            found["AUC"].append(_at(start + sure, area))
            correlation = rank_correlation(scores, labels)
            found["Spearman"].append(_at(start + np.arange(len(held)), correlation))
            start += len(held)
        return found

    def cell(self, some: Sequence[Statistic], less: Sequence[Statistic] = ()) -> str:
        """The mean over splits with its interval, or that of the differences."""

        def statistic(weights: Floats) -> Floats:
            values = np.mean([one(weights) for one in some], 0)
            found: Floats = values - np.mean([one(weights) for one in less], 0) if less else values
            return found

        try:
            return str(bootstrap(statistic, len(self._roots), self._roots, draws=_DRAWS))
        except NotEstimableError as error:
            return f"none ({error})"


def _at(places: np.ndarray, statistic: Statistic) -> Statistic:
    return lambda weights: statistic(weights[:, places])


def lines(rows: Rows, scores: dict[str, Score], asked: argparse.Namespace) -> Iterator[str]:
    """The lines of the table; a baseline's last columns are how far the head is above it."""
    sizes = (asked.labelled, asked.held_out)
    splits = [split(rows, *sizes, asked.seed + at) for at in range(asked.splits)]
    counts = " and ".join(f"{min(len(one[side]) for one in splits):,}" for side in (0, 1))
    figures = Figures(rows, splits)
    known: dict[str, dict[str, list[Statistic]]] = {}
    yield f"{counts} rows (labelled, held out) in each of {len(splits)} splits"
    yield "| score | AUC | of the splits | Spearman | head above it: AUC | Spearman |"
    yield "|---|---|---|---|---|---|"
    for name, score in scores.items():
        start = time.process_time()
        known[name] = figures.statistics(score)
        print(f"{name}: {time.process_time() - start:.0f} CPU seconds", file=sys.stderr)
        cells = {one: figures.cell(some) for one, some in known[name].items()}
        areas = [float(one(figures.ones)[0]) for one in known[name]["AUC"]]
        gains = ["", ""]
        if name != _HEAD:
            gains = [figures.cell(known[_HEAD][one], known[name][one]) for one in cells]
        spread = f"{min(areas):.3f} … {max(areas):.3f}"
        yield f"| {' | '.join([name, cells['AUC'], spread, cells['Spearman'], *gains])} |"


def scores_of(rows: Rows, asked: argparse.Namespace) -> dict[str, Score]:
    """The head, and what it is compared with."""
    every = rows.chats(np.arange(len(rows.labels)))
    cache = str(asked.cache)
    both = Features.of(Features(model=asked.model).describe(), cache)  # of a head: one cache
    alone = dataclasses.replace(both, kinds="simple")
    size = pl.Series(rows.answers).str.len_chars().cast(pl.Float64).to_numpy()
    packed = Compression()(every)["compression"].cast(pl.Float64).to_numpy()
    found = {
        _HEAD: head(rows, both),
        "fitted head, simple features alone": head(rows, alone),
        "length": column(rows, size),
        "zlib ratio": column(rows, packed),
        "bag of words": bag_of_words(rows),
    }
    if asked.ifd:
        values = IFD(asked.ifd)(every)["ifd"].cast(pl.Float64).to_numpy()
        found["IFD"] = column(rows, values)
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Fit, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rows", required=True, metavar="FILE")
    add("--label", metavar="COLUMN", help="labels of conversations, numbers")
    add("--format", help="layout of the rows, where it is not detected")
    add("--cache", type=Path, required=True, help="folder of embeddings")
    add("--model", help="embedding model; all-MiniLM-L6-v2")
    add("--ifd", metavar="MODEL", help="causal model for IFD; none: it is left out")
    add("--half", type=int, choices=(0, 1), help="only one half of the prompts, by a hash")
    add("--most", type=int, default=2_600, help="rows that are drawn from, at random")
    add("--labelled", type=int, default=300)
    add("--held-out", type=int, default=1_000)
    add("--splits", type=int, default=5)
    add("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    rows = read(asked.rows, asked.label, asked.format, asked.half, asked.most)
    asked.cache.mkdir(parents=True, exist_ok=True)
    for line in lines(rows, scores_of(rows, asked), asked):
        print(line, flush=True)


if __name__ == "__main__":
    main()
