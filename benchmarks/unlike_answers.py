"""Distance of answers from a reward model's training: AUROC on shuffled and foreign ones.

`python -m benchmarks.unlike_answers --pairs FILE --cache FOLDER` trains a reward model for each
seed on pairs of prompts with an odd number (AlpacaEval's layout), and looks at answers of 40 to 700
characters to the other prompts, and to those of other files (`--others`: conversation trees, rows
with instruction and output): as they are, with their words shuffled, and in other languages
(`benchmarks.foreign_answers`). AUROC is the chance that such an answer has the larger distance than
one of the same file as it is. Its intervals are a bootstrap over the answers, the mean over the
seeds taken in each.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.foreign_answers import FOREIGN, NEW_LATIN, NEW_OTHER
from benchmarks.reward_models import Answers, Array, read, read_lines
from siftune.finetune.data.prompt_truncation import answer_starts, encode_scored
from siftune.finetune.models import loading
from siftune.finetune.reward_models.head_states import scores_and_states
from siftune.finetune.reward_models.known_states import load_known_states
from siftune.finetune.trainers.reward_model import RewardModel as Trainer

_CHARS = (40, 700)
_LENGTH = 256
_WORDS = (13, 30, 60, 120, 1000)
_SHUFFLED = "shuffled words"
_KNOWN = "as they are"
_PARTS = ("surprise", "order", "states", "neighbours")
Texts = list[tuple[str, str]]


def auroc(known: Array, unlike: Array) -> float:
    """Chance that one of ``unlike`` is larger than one of ``known``, ties half."""
    above = unlike[:, None] > known[None]
    return float((above + 0.5 * (unlike[:, None] == known[None])).mean())


def mean_auroc(known: Array, unlike: Array) -> float:
    """The mean over seeds of the AUROC of distances (seeds, answers)."""
    return float(np.mean([auroc(*two) for two in zip(known, unlike, strict=True)]))


def interval(known: Array, unlike: Array) -> str:
    """AUROC of distances (seeds, answers) with its 95 % interval over the answers of both."""
    source = np.random.default_rng(0)

    def drawn(of: Array) -> Array:
        return of[:, source.integers(of.shape[1], size=of.shape[1])]

    found = [mean_auroc(drawn(known), drawn(unlike)) for _ in range(500)]
    low, high = np.quantile(found, [0.025, 0.975])
    return f"{mean_auroc(known, unlike):.3f} ({low:.3f} … {high:.3f})"


def shuffled(text: str, source: random.Random) -> str:
    """The words of a text in a random order."""
    words = text.split()
    source.shuffle(words)
    return " ".join(words)


def trained(asked: argparse.Namespace, seed: int, pairs: Any, texts: Texts) -> Path:
    """A reward model of some pairs of the odd prompts, trained unless it is in the cache."""
    odd = np.flatnonzero(pairs.prompt % 2 == 1)
    sides = ((at, pairs.better[at], pairs.worse[at]) for at in odd)
    fits = [at for at, *both in sides if all(_fits(texts[one]) for one in both)]
    rows = asked.cache / f"pairs-{seed}.jsonl"
    lines = (
        {
            "prompt": texts[pairs.better[at]][0],
            "chosen": texts[pairs.better[at]][1],
            "rejected": texts[pairs.worse[at]][1],
        }
        for at in random.Random(seed).sample(fits, asked.trained)
    )
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    trainer = Trainer(
        asked.model,
        lr=1e-4,
        freeze=asked.freeze,
        held_out=0.35,
        on_bad="drop",
        max_length=_LENGTH,
        seed=seed,
    )
    return trainer(rows, asked.cache / f"model-{seed}").model


def _fits(text: tuple[str, str]) -> bool:
    return _CHARS[0] < len(text[1]) < _CHARS[1]


def other_answers(path: Path) -> Iterator[tuple[str, str]]:
    """Prompts with answers of conversation trees, or of rows with an instruction and an output."""
    for line in read_lines(path):
        row = json.loads(line)
        if "output" in row:
            yield "\n".join(filter(None, (row["instruction"], row.get("input")))), row["output"]
        else:
            first = row["prompt"]
            yield from ((first["text"], one["text"]) for one in first["replies"])


def kinds_of(known: Texts, seed: int, foreign: bool) -> dict[str, Texts]:
    """The answers of each kind, to the same prompts."""
    source = random.Random(seed)
    found = {_KNOWN: known}
    found[_SHUFFLED] = [(q, shuffled(a, source)) for q, a in known if len(a.split()) >= _WORDS[0]]
    other = {
        "17 languages, looked at before": FOREIGN,
        "14 others in Latin script": NEW_LATIN,
        "10 others in other scripts": NEW_OTHER,
    }
    for name, listed in other.items() if foreign else ():
        found[name] = [(known[at % len(known)][0], a) for at, a in enumerate(listed)]
    return found


def parts_of(folder: Path, listed: Texts) -> Array:
    """(answers, 4): the parts of each answer's distance, over their borders."""
    known = load_known_states(folder)
    assert known is not None
    tokenizer = loading.load_tokenizer(str(folder))
    model = loading.load_reward(str(folder)).eval()
    rows = [{"id": "row", "prompt": [{"role": "user", "content": q}]} for q, _ in listed]
    said = [[{"role": "assistant", "content": a}] for _, a in listed]
    texts = encode_scored(tokenizer, rows, said, _LENGTH)
    starts = answer_starts(tokenizer, rows, texts)
    found = scores_and_states(
        model, tokenizer, [one.ids for one in texts], starts=starts, read=known.parts
    )
    return np.array(found[1])


def rows_of(name: str, parts: Mapping[str, Array], over: Mapping[str, Array]) -> Iterator[str]:
    """Rows of one set: ``parts`` (seeds, answers, 4) of each kind, ``over`` the threshold."""
    far = {kind: np.maximum(one.max(2), 0) for kind, one in parts.items()}
    for kind, own in far.items():
        seeds = [auroc(*two) for two in zip(far[_KNOWN], own, strict=True)]
        cells = [f"{interval(far[_KNOWN], own)} | {min(seeds):.3f} … {max(seeds):.3f}"]
        cells += [
            f"{mean_auroc(parts[_KNOWN][..., at], parts[kind][..., at]):.3f}" for at in range(4)
        ]
        if kind == _KNOWN:
            cells = [" | "] + [" "] * 4
        cells.append(f"{over[kind].mean():.2f}")
        yield f"| {name} | {kind} | {own.shape[1]} | {' | '.join(cells)} |"


def by_length(name: str, texts: Mapping[str, Texts], parts: Mapping[str, Array]) -> Iterator[str]:
    """AUROC of shuffled answers against those of about the same number of words."""
    far = {kind: np.maximum(one.max(2), 0) for kind, one in parts.items()}
    words = {kind: np.array([len(a.split()) for _, a in texts[kind]]) for kind in far}
    for low, high in pairwise(_WORDS):
        at = {kind: (words[kind] >= low) & (words[kind] < high) for kind in (_KNOWN, _SHUFFLED)}
        if min(one.sum() for one in at.values()) >= 5:
            two = [far[kind][:, at[kind]] for kind in (_KNOWN, _SHUFFLED)]
            yield f"| {name} | {low} to {high - 1} | {at[_SHUFFLED].sum()} | {interval(*two)} |"


def main(words: Sequence[str] | None = None) -> None:
    """Train, score, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="judgements in AlpacaEval's layout")
    add("--cache", type=Path, required=True, help="folder of the reward models")
    add("--others", type=Path, nargs="*", default=[], help="files with other answers")
    add("--model", default="minilm")
    add("--trained", type=int, default=300, help="pairs to train on and to set the threshold")
    add("--freeze", type=int, default=4)
    add("--answers", type=int, default=100, help="answers of each file, and shuffled ones")
    add("--seeds", type=int, default=3)
    asked = parser.parse_args(words)
    asked.cache.mkdir(parents=True, exist_ok=True)
    answers = Answers()
    pairs = read(asked.pairs, answers)
    texts = list(answers.number)
    even = np.unique(np.append(*(getattr(pairs, s)[pairs.prompt % 2 == 0] for s in _SIDES)))
    sets = {asked.pairs.name.split(".")[0]: [texts[at] for at in even]}
    sets |= {path.name.split(".")[0]: list(other_answers(path)) for path in asked.others}
    kinds: dict[str, dict[str, Texts]] = {}
    for name, listed in sets.items():
        fits = list(filter(_fits, listed))
        drawn = random.Random(1).sample(fits, min(asked.answers, len(fits)))
        kinds[name] = kinds_of(drawn, 2, foreign=not kinds)
    parts, over = _scored(asked, pairs, texts, kinds)
    print(
        "| file | answers | number | AUROC | of seeds | "
        f"{' | '.join(_PARTS)} | above the threshold |\n{'|---' * 10}|"
    )
    for name in kinds:
        print("\n".join(rows_of(name, parts[name], over[name])))
    print("\n| file | words | shuffled answers | AUROC |\n|---|---|---|---|")
    for name in kinds:
        print("\n".join(by_length(name, kinds[name], parts[name])))


_SIDES = ("better", "worse")


def _scored(
    asked: argparse.Namespace, pairs: Any, texts: Texts, kinds: Mapping[str, Mapping[str, Texts]]
) -> tuple[dict[str, dict[str, Array]], dict[str, dict[str, Array]]]:
    """By file and kind: parts (seeds, answers, 4), and what is over the threshold."""
    parts: dict[str, dict[str, Any]] = {
        name: {kind: [] for kind in own} for name, own in kinds.items()
    }
    limits = []
    for seed in range(asked.seeds):
        folder = trained(asked, seed, pairs, texts)
        facts = loading.read_facts(folder)
        print(f"seed {seed}: {facts['known_states']}; calibration: {facts['calibration']}\n")
        limits.append(facts["known_states"]["threshold"])
        for name, own in kinds.items():
            found = parts_of(folder, [one for listed in own.values() for one in listed])
            ends = np.cumsum([len(listed) for listed in own.values()])[:-1]
            for kind, part in zip(own, np.split(found, ends), strict=True):
                parts[name][kind].append(part)
    done = {name: {kind: np.array(one) for kind, one in own.items()} for name, own in parts.items()}
    over = {
        name: {kind: one.max(2) > np.array(limits)[:, None] for kind, one in own.items()}
        for name, own in done.items()
    }
    return done, over


if __name__ == "__main__":
    main()
