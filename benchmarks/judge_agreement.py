"""Agreement of judges with labelled pairs, by kind of judge, with 95 % intervals; prints a table.

`python -m benchmarks.judge_agreement --pairs FILE --cache FOLDER` takes preference rows or ranked
lists in any layout that siftune reads. Trained judges are measured on prompts that they were not
trained on: heads by cross-fitting, a reward model of each half of the prompts on the other. Answers
of models and the reward models are kept in the cache, so that a second run with more pairs asks
only for these.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from siftune.curate.heads.features import Features
from siftune.curate.heads.fitting import Labelled, cross_fitted
from siftune.curate.heads.labelled import labelled_rows
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.spec import judge_backend
from siftune.curate.judge_calls.types import Item, Task
from siftune.curate.judge_stats.intervals import Floats, NotEstimableError, bootstrap
from siftune.curate.judge_tasks.classifier_score import ClassifierScore
from siftune.curate.judge_tasks.pairwise import Pairwise
from siftune.curate.runners.judge_pairs import read_table
from siftune.curate.runs.recipe import parse

_NEAR = 0.1
_PART = 8  # pairs between two looks at the clock
_FOLDS = 5


@dataclass(frozen=True)
class Pair:
    """A prompt with the better answer and the worse one; ``data`` names the file.

    ``drawn`` pairs stand for their file; the others were added for the columns of near pairs.
    """

    data: str
    prompt: str
    better: str
    worse: str
    root: str = ""
    drawn: bool = True

    @property
    def draw(self) -> str:
        """A random number that the content decides, for the order of the pairs."""
        return _draw("\0".join((self.prompt, self.better, self.worse)))

    @property
    def first_half(self) -> bool:
        """Whether its prompt is of the first half; a reward model of each half judges the other."""
        return int(_draw(self.root), 16) % 2 == 0

    @property
    def near(self) -> bool:
        """Whether the answers differ by at most a tenth in characters."""
        first, second = len(self.better), len(self.worse)
        return abs(first - second) <= _NEAR * max(first, second)


def _draw(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def pairs_in(given: str, most: int, near: int = 0) -> list[Pair]:
    """Pairs of ``FILE`` or ``FILE:LAYOUT``, ``most`` of them at random, in a random order.

    Pairs of nearly equal length are added until there are ``near`` of them.
    """
    path, _, layout = given.partition(":")
    recipe = parse({"name": "pairs", "source": [path], "format": layout or None, "stages": []})
    name = Path(path).name.partition(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = labelled_rows(read_table(recipe, Path(folder)), None)
    if rows.others is None:
        raise SystemExit(f"{path}: expected pairs or ranked lists")
    sides = zip(rows.prompts, rows.answers, rows.others, strict=True)
    whole = (one for one in sides if all(text and text.strip() for text in one))
    made = (Pair(name, str(q), str(a), str(b)) for q, a, b in whole if a != b)
    found = {pair.draw: pair for pair in made}
    ordered = [found[draw] for draw in sorted(found)]
    drawn, rest = ordered[:most], [pair for pair in ordered[most:] if pair.near]
    wanted = max(0, near - sum(pair.near for pair in drawn))
    added = (dataclasses.replace(pair, drawn=False) for pair in rest[:wanted])
    return list(_rooted([*drawn, *added]))


def _rooted(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Pairs with the prompt that theirs begins with: turns of one conversation stay together."""
    roots, root = {}, None
    for prompt in sorted({pair.prompt for pair in pairs}):
        if root is None or not prompt.startswith(f"{root}\n\n"):
            root = prompt
        roots[prompt] = root
    return (dataclasses.replace(pair, root=roots[pair.prompt]) for pair in pairs)


def mixed(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """The first ``most`` pairs of each file, taken from the files in turn."""
    at: dict[str, int] = {}
    placed = []
    for pair in pairs:
        place = at[pair.data] = at.get(pair.data, -1) + 1
        placed.append((place, pair.data, pair))
    return [pair for place, _, pair in sorted(placed, key=lambda one: one[:2]) if place < most]


Scores = Mapping[str, float]
"""How likely a judge finds the better answer better, by `Pair.draw`; what it refused is absent."""


def judged(
    pairs: Sequence[Pair], backend: Any, task: Task, cache: Path, minutes: float
) -> dict[str, float]:
    """Verdicts on as many of the pairs as the time allows."""
    judge = Judge(backend, task, cache)
    end, found = time.monotonic() + 60 * minutes, {}
    for at in range(0, len(pairs), _PART):
        if time.monotonic() > end:
            break
        part = pairs[at : at + _PART]
        items = [Item((("user", pair.prompt),), (pair.better, pair.worse)) for pair in part]
        for pair, verdict in zip(part, judge.verdicts(items), strict=True):
            if verdict.values is not None:
                found[pair.draw] = float(verdict.values["preference"])
        print(f"{at + len(part):,} of {len(pairs):,} pairs judged", file=sys.stderr)
    return found


def chat_model(pairs: Sequence[Pair], asked: argparse.Namespace) -> Scores:
    """The judge of ``--judge``, in both orders, by expected score."""
    task = Pairwise(ties=False, max_chars=asked.shown)
    backend = judge_backend(asked.judge, {"precision": asked.precision})
    some = mixed(pairs, asked.judged)
    return judged(some, backend, task, asked.cache / "answers.sqlite", asked.minutes)


def reward_model(pairs: Sequence[Pair], asked: argparse.Namespace) -> Scores:
    """Reward models of MiniLM: one trained on either half of the prompts judges the other."""
    halves = ([one for one in pairs if one.first_half is first] for first in (True, False))
    first, second = halves
    return {
        **_by_half("first", first, second, asked),
        **_by_half("second", second, first, asked),
    }


def _by_half(name: str, own: Sequence[Pair], others: Sequence[Pair], asked: Any) -> Scores:
    from siftune.finetune.trainers.reward_model import RewardModel

    train, test = mixed(own, asked.trained), mixed(others, asked.judged)
    rows = asked.cache / f"reward_pairs_{name}.jsonl"
    lines = (
        {"prompt": pair.prompt, "chosen": pair.better, "rejected": pair.worse} for pair in train
    )
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    trainer = RewardModel(
        "minilm", epochs=asked.epochs, lr=1e-4, freeze=4, on_bad="drop", held_out=0.0
    )
    folder = asked.cache / f"reward_{name}"
    trainer(rows, folder)
    backend = judge_backend(f"classifier:{folder}")
    return judged(test, backend, ClassifierScore(), asked.cache / "scores.sqlite", asked.minutes)


def longer_wins(pairs: Sequence[Pair]) -> Scores:
    """The longer answer is the better one; equal ones are a tie."""
    return {
        pair.draw: 0.5 + 0.5 * float(np.sign(len(pair.better) - len(pair.worse))) for pair in pairs
    }


def fitted_head(pairs: Sequence[Pair], features: Features) -> Scores:
    """A head of `siftune curate fit-quality`, cross-fitted."""
    rows = Labelled(
        "pairs",
        [pair.prompt for pair in pairs],
        [pair.better for pair in pairs],
        np.ones(len(pairs)),
        [pair.worse for pair in pairs],
        [pair.root for pair in pairs],
    )
    told = 1 / (1 + np.exp(-cross_fitted(rows, features)))
    return {pair.draw: float(one) for pair, one in zip(pairs, told, strict=True) if one == one}


def bag_of_words(pairs: Sequence[Pair]) -> Scores:
    """Logistic regression on differences of TF-IDF (words and pairs of words), cross-fitted."""
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    better, worse = [pair.better for pair in pairs], [pair.worse for pair in pairs]
    found: dict[str, float] = {}
    for inside, outside in GroupKFold(_FOLDS).split(better, groups=[p.root for p in pairs]):
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        words.fit([text for at in inside for text in (better[at], worse[at])])
        gap = words.transform(better) - words.transform(worse)
        both = vstack([gap[inside], -gap[inside]])
        labels = np.repeat([1, 0], len(inside))
        model = LogisticRegression(C=10.0, fit_intercept=False, max_iter=1000).fit(both, labels)
        for at, chance in zip(outside, model.predict_proba(gap[outside])[:, 1], strict=True):
            found[pairs[at].draw] = float(chance)
    return found


def by_data(judge: Callable[[Sequence[Pair]], Scores], pairs: Sequence[Pair]) -> Scores:
    """A judge that is trained on each file by itself."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(pair.data for pair in pairs):
        found |= judge([pair for pair in pairs if pair.data == name])
    return found


def agreement(pairs: Sequence[Pair], scores: Scores) -> str:
    """Share of pairs on which the judge prefers the better answer, ties half, and their number."""
    kept = [pair for pair in pairs if pair.draw in scores]
    if not kept:
        return "–"
    told = np.array([scores[pair.draw] for pair in kept])
    right: Floats = np.where(np.abs(told - 0.5) < 1e-12, 0.5, told > 0.5)
    try:
        found = bootstrap(
            lambda weight: weight @ right / weight.sum(1), len(kept), [pair.root for pair in kept]
        )
    except NotEstimableError as error:
        return f"none of {len(kept):,} ({error})"
    return f"{found} of {len(kept):,}"


def table(pairs: Sequence[Pair], judges: Mapping[str, Scores]) -> Iterator[str]:
    """The lines of the table: all pairs of each file, and those of nearly equal length."""
    columns = {}
    for name in dict.fromkeys(pair.data for pair in pairs):
        here = [pair for pair in pairs if pair.data == name]
        columns[name] = [pair for pair in here if pair.drawn]
        columns[f"{name}, near"] = [pair for pair in here if pair.near]
    yield f"| judge | {' | '.join(columns)} |"
    yield "|---|" + "---|" * len(columns)
    for judge, scores in judges.items():
        yield f"| {judge} | {' | '.join(agreement(part, scores) for part in columns.values())} |"


def main(words: Sequence[str] | None = None) -> None:
    """Judge, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--pairs", action="append", required=True, metavar="FILE[:LAYOUT]")
    add("--cache", type=Path, required=True, help="folder of answers and of the reward model")
    add("--most", type=int, default=760, help="pairs of each file")
    add("--near", type=int, default=0, help="pairs of each file of nearly equal length, at least")
    add("--judge", default="smollm2", help="chat model; an empty text leaves it out")
    add("--judged", type=int, default=1_100, help="pairs of each file that a model judges")
    add("--precision", default="bf16", help="number format of the chat model")
    add("--shown", type=int, default=600, help="characters of a message that it is shown")
    add("--trained", type=int, default=200, help="pairs of each half for its model; 0: none")
    add("--epochs", type=float, default=1.0, help="epochs of the reward model")
    add("--minutes", type=float, default=25.0, help="time that each model may judge")
    add("--only-reward", action="store_true", help="train and ask the reward model, no table")
    asked = parser.parse_args(words)
    asked.cache.mkdir(parents=True, exist_ok=True)
    pairs = [pair for given in asked.pairs for pair in pairs_in(given, asked.most, asked.near)]
    if asked.only_reward:
        reward_model(pairs, asked)
        return
    judges: dict[str, Scores] = {}
    if asked.judge:
        judges[f"{asked.judge}, both orders"] = chat_model(pairs, asked)
    if asked.trained:
        judges["reward model of MiniLM"] = reward_model(pairs, asked)
    both = Features(cache=str(asked.cache))
    alone = dataclasses.replace(both, kinds="embedding")
    judges["fitted head"] = by_data(partial(fitted_head, features=both), pairs)
    judges["fitted head, embeddings alone"] = by_data(partial(fitted_head, features=alone), pairs)
    judges["longer wins"] = longer_wins(pairs)
    judges["bag of words"] = by_data(bag_of_words, pairs)
    print("\n".join(table(pairs, judges)))


if __name__ == "__main__":
    main()
