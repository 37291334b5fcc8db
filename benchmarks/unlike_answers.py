"""Distance of answers from a reward model's training: AUROC on shuffled and foreign ones.

`python -m benchmarks.unlike_answers --pairs FILE --cache FOLDER` takes pairs of prompts with an odd
number (AlpacaEval's layout) for each seed, and keeps of their answers what a reward model keeps;
the threshold is set by the answers to 35 % of these prompts. It looks at answers of 40 to 700
characters to the other prompts, and to those of other files (`--others`: conversation trees, rows
with instruction and output): as they are, with their words shuffled, and in other languages
(`benchmarks.foreign_answers`). AUROC is the chance that such an answer has the larger distance than
one of the same file as it is. Its intervals are a bootstrap over the answers, the mean over the
seeds taken in each.

The backbone is not trained here: the states are those of its middle layer, which training with
`freeze` of at least half of the layers leaves as they are, so the numbers are those of such a
reward model whatever its head learns.
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
from siftune.curate.chat.templates import ENCODER
from siftune.finetune.data.comparisons import pairs_in
from siftune.finetune.data.prompt_truncation import answer_starts, encode_scored
from siftune.finetune.data.training_rows import held_out
from siftune.finetune.models import loading
from siftune.finetune.reward_models.head_states import half_states, scores_and_states
from siftune.finetune.reward_models.known_states import (
    FILE,
    KnownAnswers,
    distance_of,
    load_known_states,
)
from siftune.finetune.reward_models.limits import find_limits

_CHARS = (40, 700)
_LENGTH = 512
_WORDS = (13, 30, 60, 120, 1000)
_SHUFFLED = "shuffled words"
_KNOWN = "as they are"
_PARTS = ("surprise", "order", "states", "neighbours")
Texts = list[tuple[str, str]]
Backbone = tuple[Any, Any]


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


def known_of(
    asked: argparse.Namespace, backbone: Backbone, seed: int, pairs: Any, texts: Texts
) -> KnownAnswers:
    """What training on some pairs of the odd prompts keeps of their answers."""
    odd = np.flatnonzero(pairs.prompt % 2 == 1)
    sides = ((at, pairs.better[at], pairs.worse[at]) for at in odd)
    fits = [at for at, *both in sides if all(_fits(texts[one]) for one in both)]
    lines = (
        {
            "prompt": texts[pairs.better[at]][0],
            "chosen": texts[pairs.better[at]][1],
            "rejected": texts[pairs.worse[at]][1],
        }
        for at in random.Random(seed).sample(fits, asked.trained)
    )
    rows = asked.cache / f"pairs-{seed}.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    folder = asked.cache / f"known-{seed}"
    folder.mkdir(exist_ok=True)
    train, test = held_out(pairs_in(rows), 0.35, seed)
    facts = find_limits(*backbone, train, test, folder)
    print(f"seed {seed}: {facts['known_states']}, {(folder / FILE).stat().st_size:,} bytes\n")
    found = load_known_states(folder)
    assert found is not None
    return found


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


def backbone_of(name: str) -> Backbone:
    """A model with a head for scores, and its tokenizer as a reward model gets it."""
    tokenizer = loading.load_tokenizer(name)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = ENCODER
    tokenizer.model_max_length = _LENGTH
    model = loading.load_reward(name).eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def states_of(backbone: Backbone, listed: Texts) -> list[tuple[Sequence[int], Array]]:
    """Ids and states of the answers."""
    model, tokenizer = backbone
    rows = [{"id": "row", "prompt": [{"role": "user", "content": q}]} for q, _ in listed]
    said = [[{"role": "assistant", "content": a}] for _, a in listed]
    texts = encode_scored(tokenizer, rows, said, _LENGTH)
    starts, ids = answer_starts(tokenizer, rows, texts), [one.ids for one in texts]
    return scores_and_states(
        model,
        tokenizer,
        ids,
        starts=starts,
        read=lambda ids, states: (ids, half_states(ids, states)),
    )[1]


def rows_of(name: str, parts: Mapping[str, Array], over: Mapping[str, Array]) -> Iterator[str]:
    """Rows of one set: ``parts`` (seeds, answers, 4) of each kind, ``over`` the threshold."""
    far = {kind: distance_of(one) for kind, one in parts.items()}
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
    far = {kind: distance_of(one) for kind, one in parts.items()}
    words = {kind: np.array([len(a.split()) for _, a in texts[kind]]) for kind in far}
    for low, high in pairwise(_WORDS):
        at = {kind: (words[kind] >= low) & (words[kind] < high) for kind in (_KNOWN, _SHUFFLED)}
        if min(one.sum() for one in at.values()) >= 5:
            two = [far[kind][:, at[kind]] for kind in (_KNOWN, _SHUFFLED)]
            yield f"| {name} | {low} to {high - 1} | {at[_SHUFFLED].sum()} | {interval(*two)} |"


def main(words: Sequence[str] | None = None) -> None:
    """Fit, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="judgements in AlpacaEval's layout")
    add("--cache", type=Path, required=True, help="folder of what is kept")
    add("--others", type=Path, nargs="*", default=[], help="files with other answers")
    add("--model", default="minilm")
    add("--trained", type=int, default=300, help="pairs to fit to and to set the threshold")
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
    parts, over = scored(asked, pairs, texts, kinds)
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


def scored(
    asked: argparse.Namespace, pairs: Any, texts: Texts, kinds: Mapping[str, Mapping[str, Texts]]
) -> tuple[dict[str, dict[str, Array]], dict[str, dict[str, Array]]]:
    """By file and kind: parts (seeds, answers, 4), and what is over the threshold."""
    backbone = backbone_of(asked.model)
    seeds = [known_of(asked, backbone, seed, pairs, texts) for seed in range(asked.seeds)]
    parts: dict[str, dict[str, Array]] = {}
    over: dict[str, dict[str, Array]] = {}
    for name, own in kinds.items():
        for kind, listed in own.items():
            states = states_of(backbone, listed)
            found = np.array([[known.parts(*one) for one in states] for known in seeds])
            unknown = [k.is_unknown(distance_of(p)) for k, p in zip(seeds, found, strict=True)]
            parts.setdefault(name, {})[kind] = found
            over.setdefault(name, {})[kind] = np.array(unknown)
    return parts, over


if __name__ == "__main__":
    main()
