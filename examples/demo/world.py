"""Generate the demo's world: text to pretrain on, a pool with planted faults, pairs, questions."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from examples.demo.facts import Entity, Fact, make_entities
from examples.demo.rows import FAULTS, Ask, asks_about, edited, spoiled
from siftune.curate.files.outputs import whole_folder

__all__ = ["PLANTED", "World", "generate"]

PLANTED: Final[Mapping[str, float]] = {
    "exact_duplicate": 0.05,
    "near_duplicate": 0.05,
    "paraphrase": 0.05,
    "wrong": 0.14,
    "truncated": 0.06,
    "empty": 0.02,
    "placeholder": 0.04,
    "off_language": 0.05,
    "pii": 0.03,
    "leaked": 0.01,
    "refusal": 0.07,
    "rambling": 0.05,
}
"""Share of the pool's rows that is of each kind; the rest is good."""

_FLIPPED: Final = 0.2
_REJECTED: Final = ("wrong", "wrong", "wrong", "refusal", "rambling", "truncated", "placeholder")
_PERSONAL: Final = ("month", "food", "colour")  # what an over-careful annotator refuses to answer


@dataclass(frozen=True)
class World:
    """Where the files of a generated world are.

    ``facts`` is JSONL ``text``; ``pool`` Alpaca JSONL; ``questions`` JSONL ``prompt``,
    ``completion``, ``fact`` (held out: no pool row needs their facts, but for the leaks);
    ``pairs`` and ``held_out_pairs`` JSONL ``prompt``, ``chosen``, ``rejected``. ``truth`` and
    ``pairs_truth`` hold what was planted: ``row`` (the line), ``kind``, ``meaning``, ``of`` (the
    line of a duplicate's original), ``similarity``.
    """

    folder: Path

    @property
    def facts(self) -> Path:
        """Text to pretrain on."""
        return self.folder / "facts.jsonl"

    @property
    def pool(self) -> Path:
        """Instruction rows, good and bad."""
        return self.folder / "pool.jsonl"

    @property
    def truth(self) -> Path:
        """What each line of the pool is."""
        return self.folder / "pool.truth.jsonl"

    @property
    def questions(self) -> Path:
        """Held-out questions with their exact answers."""
        return self.folder / "questions.jsonl"

    @property
    def pairs(self) -> Path:
        """Preference pairs, some with the label flipped."""
        return self.folder / "pairs.jsonl"

    @property
    def pairs_truth(self) -> Path:
        """Which pairs are flipped."""
        return self.folder / "pairs.truth.jsonl"

    @property
    def held_out_pairs(self) -> Path:
        """Preference pairs on held-out questions; every label is right."""
        return self.folder / "held_out_pairs.jsonl"


@dataclass(frozen=True)
class _Row:
    """A line of the pool, before the lines are shuffled; ``of`` points into the same list."""

    kind: str
    question: str
    answer: str
    meaning: str
    of: int | None = None
    similarity: float | None = None


def generate(folder: Path, seed: int = 0, size: int = 2000) -> World:
    """Write a world with about ``size`` pool rows into ``folder``; same arguments, same bytes.

    The folder is made, or replaced if a world was written there before; nothing else is.

    The world itself grows with ``size``: 3.5 people, 1.5 towns and an animal for every 100 rows.

    Raises:
        UsageError: ``folder`` holds something else.
        ValueError: ``size`` is below 200.
    """
    if size < 200:
        raise ValueError(f"a pool has at least 200 rows; asked for {size}")
    rng = random.Random(seed)
    people, towns, animals = (round(size * each / 100) for each in (3.5, 1.5, 1.0))
    entities = make_entities(rng, {"person": people, "town": towns, "animal": animals})
    held_out = _hold_out(entities, rng)
    asks = _asks(entities, held_out, rng)
    questions = [Ask((fact,), rng.randrange(_wordings(fact))) for fact in held_out]
    with whole_folder(folder, "examples.demo.world") as part:
        world = World(part)
        _write(world.facts, ({"text": text} for text in _reading(entities, questions, rng)))
        _write(
            world.questions,
            ({"prompt": q.question, "completion": q.answer, "fact": q.meaning} for q in questions),
        )
        _write_pool(world, _pool(asks, questions, size, rng), rng)
        _write_pairs(world, asks, questions, size // 2, rng)
    return World(folder)


def _wordings(fact: Fact) -> int:
    return len(fact.relation.asks)


def _hold_out(entities: list[Entity], rng: random.Random) -> list[Fact]:
    """One fact of every three of each entity."""
    return [
        fact for entity in entities for fact in rng.sample(entity.facts, len(entity.facts) // 3)
    ]


def _asks(entities: list[Entity], held_out: list[Fact], rng: random.Random) -> list[Ask]:
    secret = set(held_out)
    asks = [
        ask
        for entity in entities
        for ask in asks_about(entity, [fact for fact in entity.facts if fact not in secret], rng)
    ]
    rng.shuffle(asks)
    return asks


def _reading(
    entities: list[Entity], questions: list[Ask], rng: random.Random, rounds: int = 20
) -> Iterable[str]:
    """Notes on an entity and plain questions with answers; never a held-out question as worded."""
    secret = {question.question for question in questions}
    for _ in range(rounds):
        for entity in entities:
            facts = rng.sample(entity.facts, rng.randint(2, 3))
            yield " ".join(Ask((fact,), rng.randrange(5)).sentence(fact) for fact in facts)
            first, second, *_ = rng.sample(entity.facts, 3)
            for group in ((first,), (second,), (first, second)):
                ask = Ask(group, rng.randrange(4))
                if ask.question not in secret:
                    yield f"{ask.question}\n{ask.answer}"


def _pool(asks: list[Ask], questions: list[Ask], size: int, rng: random.Random) -> list[_Row]:
    counts = {kind: round(size * share) for kind, share in PLANTED.items()}
    wanted = size - sum(counts.values())
    good = asks[:wanted]
    rows = [_Row("good", ask.question, ask.answer, ask.meaning) for ask in good]
    rows += _duplicates(good, counts, rng)
    for kind in FAULTS:
        chosen = _asks_for(kind, asks, counts[kind], rng)
        rows += [_Row(kind, a.question, spoiled(kind, a, rng), a.meaning) for a in chosen]
    leaks = rng.sample(questions, counts["leaked"])
    return rows + [_Row("leaked", ask.question, ask.answer, ask.meaning) for ask in leaks]


def _asks_for(kind: str, asks: list[Ask], count: int, rng: random.Random) -> list[Ask]:
    """Questions that get a spoiled answer of this kind, in any wording; refusals are personal."""
    if kind == "refusal":
        asks = [ask for ask in asks if any(f.relation.name in _PERSONAL for f in ask.facts)]
    return [Ask(ask.facts, rng.randrange(4)) for ask in rng.choices(asks, k=count)]


def _duplicates(good: list[Ask], counts: Mapping[str, int], rng: random.Random) -> list[_Row]:
    rows = []
    for at in rng.choices(range(len(good)), k=counts["exact_duplicate"]):
        ask = good[at]
        rows.append(_Row("exact_duplicate", ask.question, ask.answer, ask.meaning, at, 1.0))
    long = [at for at, ask in enumerate(good) if len(ask.facts) > 2]
    while len(rows) < counts["exact_duplicate"] + counts["near_duplicate"]:
        at = rng.choice(long)
        question, answer, similarity = edited(good[at], rng, 0.7, 0.95)
        rows.append(_Row("near_duplicate", question, answer, good[at].meaning, at, similarity))
    for at in rng.sample(range(len(good)), counts["paraphrase"]):
        other = good[at].reworded(rng)
        rows.append(_Row("paraphrase", other.question, other.answer, other.meaning, at))
    return rows


def _write_pool(world: World, rows: list[_Row], rng: random.Random) -> None:
    order = list(range(len(rows)))
    rng.shuffle(order)
    line_of = {at: line for line, at in enumerate(order, start=1)}
    shuffled = [rows[at] for at in order]
    _write(
        world.pool,
        ({"instruction": row.question, "input": "", "output": row.answer} for row in shuffled),
    )
    _write(
        world.truth,
        (
            {
                "row": line,
                "kind": row.kind,
                "meaning": row.meaning,
                "of": None if row.of is None else line_of[row.of],
                "similarity": row.similarity,
            }
            for line, row in enumerate(shuffled, start=1)
        ),
    )


def _write_pairs(
    world: World, asks: list[Ask], questions: list[Ask], count: int, rng: random.Random
) -> None:
    short = [ask for ask in asks if len(ask.facts) <= 2]
    pairs, truth = [], []
    for line, ask in enumerate(rng.choices(short, k=count), start=1):
        pair = _pair(Ask(ask.facts, rng.randrange(4)), rng)
        flipped = rng.random() < _FLIPPED
        truth.append({"row": line, "kind": "flipped" if flipped else "good"})
        pairs.append(_flip(pair) if flipped else pair)
    _write(world.pairs, pairs)
    _write(world.pairs_truth, truth)
    _write(world.held_out_pairs, (_pair(question, rng) for question in questions))


def _pair(ask: Ask, rng: random.Random) -> dict[str, str]:
    rejected = spoiled(rng.choice(_REJECTED), ask, rng)
    return {"prompt": ask.question, "chosen": ask.answer, "rejected": rejected}


def _flip(pair: dict[str, str]) -> dict[str, str]:
    return {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("wb") as stream:
        for row in rows:
            stream.write(orjson.dumps(row) + b"\n")
