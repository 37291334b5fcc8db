"""What a reward model learns beyond length: accuracy on held-out prompts, step by step.

`python -m benchmarks.reward_models --pairs FILE` takes pairwise judgements in the layout of
AlpacaEval (`prompt_id`, `prompt`, `response_1`, `response_2`, `generator_2`, `preference`), where
each prompt has one answer that is compared with those of many models. Prompts with an odd number
are trained on, those with an even one are the test: `--stage folds` prints each step on five folds
of the training prompts, by which the steps were chosen, `--stage test` the chosen ones on the test.

The model is a linear Bradley-Terry head on the text: style (the log length piecewise linear, lists,
marks), form (the simple features of `siftune curate fit-quality`: distinct words, loops, refusals),
words, and the words that prompt and answer share. All numbers that features need
(means, knots, weights of words) are those of the training prompts. No network is run, so that a
step takes seconds; a reward model of MiniLM is beside it in `benchmarks/results/reward_models.md`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from benchmarks.longer_and_nicer import KINDS, SPOILED, made_pairs, spoiled
from siftune.curate.comparing.shingles import shingle
from siftune.curate.heads.features import Features as SimpleFeatures
from siftune.curate.heads.pair_features import style_columns
from siftune.finetune.core.intervals import bootstrap_interval

_WORDS = 1 << 14
_KNOTS = (0.1, 0.25, 0.5, 0.75, 0.9)
_NEAR = 0.1
_FOLDS = 5
_STYLE = 0.1
_SHARED = 0.1
Array = Any


@dataclass(frozen=True)
class Pairs:
    """Pairs of answers by their numbers: the better one, the worse one, the prompt, a weight."""

    better: Array
    worse: Array
    prompt: Array
    other: Array  # (pairs,) the model whose answer is compared with the common one; -1: none
    other_won: Array

    def __getitem__(self, at: Any) -> Pairs:
        return Pairs(*(getattr(self, name)[at] for name in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.better)


class Answers:
    """Distinct answers with their prompts, numbered."""

    def __init__(self) -> None:
        self.number: dict[tuple[str, str], int] = {}

    def __call__(self, prompt: str, answer: str) -> int:
        """The number of an answer to a prompt."""
        return self.number.setdefault((prompt, answer), len(self.number))

    @property
    def lengths(self) -> Array:
        """Characters of each answer."""
        return np.array([len(answer) for _, answer in self.number])


def read(path: Path, answers: Answers) -> Pairs:
    """The judgements without draws; texts that are blank or the same are left out."""
    models: dict[str, int] = {}
    rows = []
    for line in read_lines(path):
        row = orjson.loads(line)
        first, second = row["response_1"], row["response_2"]
        if row["preference"] not in (1, 2) or first == second:
            continue
        if first.strip() and second.strip():
            one, two = answers(row["prompt"], first), answers(row["prompt"], second)
            won = row["preference"] == 2
            model = models.setdefault(row["generator_2"], len(models))
            rows.append((*((two, one) if won else (one, two)), row["prompt_id"], model, won))
    return Pairs(*map(np.array, zip(*rows, strict=True)))


def read_lines(path: Path) -> list[bytes]:
    """The lines of a file, plain or under zstd."""
    held = path.read_bytes()
    if path.suffix == ".zst":
        import zstandard

        reader = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(held)
        held = reader.read()
    return held.splitlines()


class Features:
    """Features of answers to prompts, with the numbers of the texts that they are fitted to."""

    def __init__(self, texts: Sequence[tuple[str, str]], fitted: Array) -> None:
        self._answers = pl.Series([answer for _, answer in texts])
        self._prompts = pl.Series([prompt for prompt, _ in texts])
        plain = style_columns(self._answers)
        knots = np.quantile(plain[fitted, 0], _KNOTS)
        self.style = _standard(np.hstack([plain, np.maximum(plain[:, :1] - knots, 0)]), fitted)
        prompts, own = self._prompts.to_list(), self._answers.to_list()
        self.form = _standard(SimpleFeatures("simple")(prompts, own), fitted)
        counts, asked = _counts(self._answers), _counts(self._prompts)
        seen = np.bincount(counts[fitted].indices, minlength=_WORDS)
        weight = 1 + np.log((1 + len(fitted)) / (1 + seen))
        self.words = _unit(counts, weight)
        self.shared = self._shared(counts, asked, weight)

    def _shared(self, counts: Array, asked: Array, weight: Array) -> Array:
        """Cosine of the words of prompt and answer, and the share of the prompt's words."""
        one, two = self.words, _unit(asked, weight)
        cosine = np.asarray(one.multiply(two).sum(1)).ravel()
        there = asked.sign().multiply(weight).tocsr()
        covered = np.asarray(there.multiply(counts.sign()).sum(1)).ravel()
        share = covered / np.maximum(np.asarray(there.sum(1)).ravel(), 1e-9)
        return np.stack([cosine, share, np.sqrt(cosine), (cosine > 0.05) * 1.0], 1) * 3

    def block(self, names: str) -> Array:
        """The blocks of ``names``, such as ``style words``, as one sparse matrix."""
        from scipy.sparse import csr_matrix, hstack

        parts = {
            "style": lambda: csr_matrix(self.style * _STYLE),
            "form": lambda: csr_matrix(self.form * _STYLE),
            "words": lambda: self.words,
            "shared": lambda: csr_matrix(self.shared * _SHARED),
        }
        return hstack([parts[name]() for name in names.split()]).tocsr()


def _standard(columns: Array, fitted: Array) -> Array:
    """Columns in standard deviations from the mean, both of the rows ``fitted``."""
    spread = columns[fitted].std(0)
    return (columns - columns[fitted].mean(0)) / np.where(spread > 1e-9, spread, 1)


def _counts(texts: pl.Series) -> Array:
    """``log(1 + count)`` of each hashed word (texts, words)."""
    from scipy.sparse import csr_matrix

    hashes, offsets = shingle(texts, 1)
    row = np.repeat(np.arange(len(texts)), np.diff(offsets))
    column = (hashes % np.uint64(_WORDS)).astype(np.int64)
    found = csr_matrix((np.ones(len(row)), (row, column)), shape=(len(texts), _WORDS))
    found.sum_duplicates()
    found.data = np.log1p(found.data)
    return found


def _unit(counts: Array, weight: Array) -> Array:
    from scipy.sparse import diags

    found = (counts @ diags(weight)).tocsr()
    size = np.sqrt(np.asarray(found.multiply(found).sum(1)).ravel())
    return (diags(1 / np.where(size > 0, size, 1)) @ found).tocsr()


def fit(gaps: Array, target: Array, weight: Array, penalty: float) -> Array:
    """Weights of the features: Bradley-Terry with soft targets and an L2 penalty."""
    from scipy.optimize import minimize
    from scipy.special import expit

    share = weight / weight.sum()

    def loss(at: Array) -> tuple[float, Array]:
        raw = gaps @ at
        value = float((share * (np.logaddexp(0, raw) - target * raw)).sum() + penalty / 2 * at @ at)
        return value, gaps.T @ (share * (expit(raw) - target)) + penalty * at

    start = np.zeros(gaps.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 120})
    return found.x


@dataclass(frozen=True)
class Step:
    """One way to train the head; each field is one idea."""

    name: str
    blocks: str = "style"
    penalty: float = 1e-4
    rates: float = 0.0  # weight of win rates in the targets
    matched: bool = False  # pairs weighted by how alike their lengths are
    ranked: bool = False  # also winners against losers of a prompt, through the common answer
    spoiled: int = 0  # kinds of spoiled answers that good ones are also held against
    trust: float = 0.3  # weight of such a pair
    bags: int = 0  # bootstrap samples of the prompts whose heads are averaged


_ALL = "style form words shared"
STEPS = (
    Step("style of the text"),
    Step("words", "words"),
    Step("style and words", "style words"),
    Step("style, form and words", "style form words"),
    Step("+ length-matched weights", "style form words", matched=True),
    Step("+ winners against losers of a prompt", "style form words", ranked=True),
    Step("+ win rates as targets", "style form words", rates=0.5),
    Step("+ words shared with the prompt", _ALL, rates=0.5),
    Step("+ spoiled answers, 3 kinds", _ALL, rates=0.5, spoiled=3),
    Step("+ spoiled answers, 5 kinds, full weight", _ALL, rates=0.5, spoiled=5, trust=1.0),
    Step("+ ensemble of 5 bags", _ALL, rates=0.5, spoiled=5, trust=1.0, bags=5),
)


class Data:
    """All pairs with the features that a fit on ``inside`` may use."""

    def __init__(
        self, answers: Answers, pairs: Pairs, extra: Pairs, kinds: Array, inside: Array
    ) -> None:
        self.kinds = kinds  # of the extra pairs
        texts = list(answers.number)
        own = np.unique(np.append(pairs.better[inside], pairs.worse[inside]))
        self.pairs, self.extra, self.lengths = pairs, extra, answers.lengths
        self.features = Features(texts, own)

    def scores(self, step: Step, train: Array) -> Array:
        """The score of every answer by a head that is trained on the pairs ``train``."""
        x = self.features.block(step.blocks)
        if not step.bags:
            return x @ self._weights(step, x, train)
        prompts, source = np.unique(self.pairs.prompt[train]), np.random.default_rng(0)
        heads = []
        for _ in range(step.bags):
            drawn = source.choice(prompts, len(prompts))
            times = np.bincount(drawn, minlength=prompts.max() + 1)[self.pairs.prompt[train]]
            heads.append(self._weights(step, x, np.repeat(train, times)))
        return x @ np.mean(heads, 0)

    def _weights(self, step: Step, x: Array, train: Array) -> Array:
        own = self.pairs[train]
        parts = [(own, self._targets(step, own), self._weight(step, own))]
        if step.ranked:
            more = ranked(own, self.lengths)
            parts.append((more, np.ones(len(more)), np.full(len(more), 0.5)))
        if step.spoiled:
            prompts = np.unique(own.prompt)
            wanted = np.isin(self.kinds, SPOILED[: step.spoiled])
            more = self.extra[np.isin(self.extra.prompt, prompts) & wanted]
            parts.append((more, np.ones(len(more)), np.full(len(more), step.trust)))
        gaps = [x[pairs.better] - x[pairs.worse] for pairs, _, _ in parts]
        from scipy.sparse import vstack

        target, weight = (np.concatenate([part[at] for part in parts]) for at in (1, 2))
        return fit(vstack(gaps).tocsr(), target, weight, step.penalty)

    def _targets(self, step: Step, own: Pairs) -> Array:
        """Labels mixed with the odds of a model of style and of who wrote each answer.

        A label is one judgement; how often a writer wins, at the style of the pair, is an average.
        """
        if not step.rates:
            return np.ones(len(own))
        from scipy.sparse import csr_matrix, hstack
        from scipy.special import expit

        sign = np.where(own.other_won, 1.0, -1.0)
        shape = (len(own), int(self.pairs.other.max()) + 1)
        writer = csr_matrix((sign, (np.arange(len(own)), own.other)), shape=shape)
        style = csr_matrix(0.3 * (self.features.style[own.better] - self.features.style[own.worse]))
        gaps = hstack([writer, style]).tocsr()
        odds = gaps @ fit(gaps, np.ones(len(own)), np.ones(len(own)), 1e-3)
        return (1 - step.rates) + step.rates * expit(odds)

    def _weight(self, step: Step, own: Pairs) -> Array:
        if not step.matched:
            return np.ones(len(own))
        ratio = np.log(self.lengths[own.better]) - np.log(self.lengths[own.worse])
        return np.exp(-np.abs(ratio))


def ranked(own: Pairs, lengths: Array) -> Pairs:
    """Answers that beat a prompt's common answer against answers that lost to it, eight a prompt.

    The pairs whose lengths are most alike are taken, each answer once.
    """
    rows = []
    for prompt in np.unique(own.prompt):
        here = own[own.prompt == prompt]
        won, lost = here.better[here.other_won], here.worse[~here.other_won]
        gap = np.abs(np.log(lengths[won])[:, None] - np.log(lengths[lost])[None])
        used: set[int] = set()
        for at in np.argsort(gap, axis=None):
            one, two = won[at // max(len(lost), 1)], lost[at % max(len(lost), 1)]
            if {int(one), int(two)} & used or len(used) >= 16:
                continue
            used |= {int(one), int(two)}
            rows.append((one, two, prompt, -1, True))
    return Pairs(*map(np.array, zip(*rows, strict=True)))


def near(pairs: Pairs, lengths: Array) -> Array:
    """Whether the lengths of each pair differ by at most a tenth of the longer."""
    one, two = lengths[pairs.better], lengths[pairs.worse]
    return np.abs(one - two) <= _NEAR * np.maximum(one, two)


def right(gap: Array) -> Array:
    """1 where the better answer has the higher score, ½ for a tie."""
    return np.where(gap == 0, 0.5, gap > 0)


def share(values: Array, prompts: Array) -> str:
    """A mean with its 95 % interval (bootstrap over prompts)."""
    low, high = bootstrap_interval(values.tolist(), prompts.tolist())
    return f"{values.mean():.3f} ({low:.3f} … {high:.3f})"


def _both(found: Array, own: Pairs, alike: Array) -> str:
    return f"{share(found, own.prompt)} | {share(found[alike], own.prompt[alike])}"


def folds(data: Data, train: Array, steps: Sequence[Step]) -> Iterator[str]:
    """Each step on five folds of the training prompts: all pairs, near ones, mean log-loss."""
    prompts = np.unique(data.pairs.prompt[train])
    fold = dict(
        zip(prompts, np.random.default_rng(0).permutation(len(prompts)) % _FOLDS, strict=True)
    )
    of = np.array([fold[prompt] for prompt in data.pairs.prompt[train]])
    alike = near(data.pairs, data.lengths)[train]
    yield from _head(("all pairs", "near pairs", "log-loss"))
    own = data.pairs[train]
    longer = right((data.lengths[own.better] - data.lengths[own.worse]).astype(float))
    yield f"| longer wins | {_both(longer, own, alike)} | |"
    for step in steps:
        gap = np.empty(len(train))
        for one in range(_FOLDS):
            scores = data.scores(step, train[of != one])
            out = data.pairs[train[of == one]]
            gap[of == one] = scores[out.better] - scores[out.worse]
        found = right(gap)
        yield f"| {step.name} | {_both(found, own, alike)} | {np.logaddexp(0, -gap).mean():.4f} |"


def test(
    data: Data, train: Array, held: Array, made: Pairs, kinds: Array, steps: Sequence[Step]
) -> Iterator[str]:
    """The steps on the held-out prompts and on the made-up pairs, then the latter by kind."""
    own, alike = data.pairs[held], near(data.pairs, data.lengths)[held]
    yield f"{len(train):,} pairs trained on, {len(held):,} held out, {alike.sum():,} of them near"
    yield ""
    columns = ("all pairs", "above longer wins", "near pairs", f"longer and nicer ({len(made)})")
    yield from _head(columns)
    longer = right((data.lengths[own.better] - data.lengths[own.worse]).astype(float))
    by_kind = []
    for step in (None, *steps):
        scores = data.lengths.astype(float) if step is None else data.scores(step, train)
        name = "longer wins" if step is None else step.name
        found = right(scores[own.better] - scores[own.worse])
        other = right(scores[made.better] - scores[made.worse])
        near_ones = share(found[alike], own.prompt[alike])
        yield (
            f"| {name} | {share(found, own.prompt)} | {share(found - longer, own.prompt)} "
            f"| {near_ones} | {share(other, made.prompt)} |"
        )
        cells = " | ".join(f"{other[kinds == kind].mean():.2f}" for kind in KINDS)
        by_kind.append(f"| {name} | {cells} |")
    yield ""
    yield from _head(tuple(KINDS))
    yield from by_kind


def _head(columns: Sequence[str]) -> Iterator[str]:
    yield f"| step | {' | '.join(columns)} |"
    yield "|---|" + "---|" * len(columns)


def main(words: Sequence[str] | None = None) -> None:
    """Read, train, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="judgements in AlpacaEval's layout")
    add("--asked", type=Path, required=True, help="rows with instruction, input and output")
    add("--stage", choices=("folds", "test"), default="folds")
    add("--only", help="steps by their numbers, with commas between")
    asked = parser.parse_args(words)
    answers = Answers()
    pairs = read(asked.pairs, answers)
    train, held = (np.flatnonzero(pairs.prompt % 2 == side) for side in (1, 0))
    texts = list(answers.number)
    good = [(texts[at], texts[worse][1], prompt) for at, worse, prompt in _good(pairs, train)]
    more = list(spoiled(good))
    extra = [(answers(q, a), answers(q, b), prompt, -1, True) for _, q, a, b, prompt in more]
    made = list(made_pairs([orjson.loads(line) for line in read_lines(asked.asked)]))
    tried = [
        (answers(q, good), answers(q, bad), at, -1, True)
        for at, (_, q, good, bad) in enumerate(made)
    ]
    spoilt = Pairs(*map(np.array, zip(*extra, strict=True)))
    data = Data(answers, pairs, spoilt, np.array([kind for kind, *_ in more]), train)
    steps = [STEPS[int(at)] for at in asked.only.split(",")] if asked.only else STEPS
    if asked.stage == "folds":
        lines = folds(data, train, steps)
    else:
        kinds = np.array([kind for kind, *_ in made])
        lines = test(
            data, train, held, Pairs(*map(np.array, zip(*tried, strict=True))), kinds, steps
        )
    for line in lines:
        print(line)
        sys.stdout.flush()


def _good(pairs: Pairs, train: Array) -> Iterator[tuple[int, int, int]]:
    """Ten judged pairs of each training prompt, drawn: good answers that can be spoiled."""
    source = np.random.default_rng(0)
    for prompt in np.unique(pairs.prompt[train]):
        here = train[pairs.prompt[train] == prompt]
        for at in source.choice(here, min(10, len(here)), replace=False):
            yield int(pairs.better[at]), int(pairs.worse[at]), int(prompt)


if __name__ == "__main__":
    main()
