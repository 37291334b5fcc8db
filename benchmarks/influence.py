"""Influence by gradients beside true leave-one-out: rank correlation, for SFT and for DPO.

`python -m benchmarks.influence` makes a small language model and made-up rows of four tasks, right
and wrong ones. The scorer `less` trains its adapter on half of the rows for four epochs at its
default rate. From the last checkpoint the adapter is trained for one epoch on all rows, by Adam
with the moments of the checkpoint or by plain gradient steps, and again without each row in turn
(its gradient is left out of its step). The effect of a row is by how much the loss of the target
rows is higher without it. The table has Spearman's rank correlation of the effects with the scores,
for each seed, which decides the model, the rows and their order; no seed is left out. The learning
rate of the epoch is `--lr`, by default that of the paper, 2e-5; the first plain step is as long as
Adam's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from siftune.curate.io.ingest import read_rows
from siftune.finetune.influence.adam import AdamState
from siftune.finetune.influence.adapted_model import AdaptedModel, Row, row_key
from siftune.finetune.scorers.less import LESS
from siftune.finetune.tools.init import Init

Loss = Literal["sft", "dpo"]
SCORES: Mapping[str, Mapping[str, Any]] = {
    "product": {"similarity": "product"},
    "cosine (LESS)": {"similarity": "cosine"},
}

_COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "blood": "red"}
_OPPOSITES = {"hot": "cold", "big": "small", "good": "bad", "long": "short", "early": "late"}
_PLURALS = {"mouse": "mice", "foot": "feet", "child": "children", "man": "men", "goose": "geese"}
_NUMBERS = {"one": "2", "two": "3", "three": "4", "four": "5", "five": "6"}
_TASKS = (
    ("What is the colour of {}?", "The colour of {} is {}.", _COLOURS),
    ("What is the opposite of {}?", "The opposite of {} is {}.", _OPPOSITES),
    ("What is the plural of {}?", "More than one {} are {}.", _PLURALS),
    ("What comes after {}?", "After {} comes {}.", _NUMBERS),
)
_OPENINGS = ("", "Please tell me: ", "Answer shortly. ", "I have a question. ")


def made_up(count: int, seed: int, loss: Loss, task: int | None = None) -> list[dict[str, str]]:
    """Distinct rows of the tasks, or of one; every fourth has a wrong answer."""
    rng = np.random.default_rng([seed, 0 if task is None else task + 1])
    found: dict[str, dict[str, str]] = {}
    while len(found) < count:
        asks, answers, known = _TASKS[rng.integers(len(_TASKS)) if task is None else task]
        word, other = rng.choice(list(known), 2, replace=False)
        prompt = str(rng.choice(_OPENINGS)) + asks.format(word)
        sides = [answers.format(word, known[one]) for one in (word, other)]
        if task is None and len(found) % 4 == 0:
            sides.reverse()
        row = {"prompt": prompt, "completion": sides[0]}
        if loss == "dpo":
            row = {"prompt": prompt, "chosen": sides[0], "rejected": sides[1]}
        found.setdefault(json.dumps(row), row)
    return list(found.values())


@dataclass
class Epoch:
    """One epoch from a checkpoint, with the mean loss of the targets at its end.

    Losses are computed here from the whole logits of padded batches, not by the code that is
    measured.
    """

    model: AdaptedModel
    rows: Sequence[Row]
    targets: Sequence[Row]
    optimizer: Literal["adam", "sgd"]
    lr: float
    batch_size: int

    def effects(self, start: AdamState) -> np.ndarray:
        """By how much the targets' loss is higher without each row."""
        states = [start]
        for first in range(0, len(self.rows), self.batch_size):
            states.append(self._stepped(states[-1], first, None))
        whole = self._target_loss(states[-1])
        return np.array([self._without(at, states) - whole for at in range(len(self.rows))])

    def _without(self, at: int, states: Sequence[AdamState]) -> float:
        """The loss of the targets after the epoch without row ``at``, from its step on."""
        own = at // self.batch_size
        state = self._stepped(states[own], own * self.batch_size, at)
        for first in range((own + 1) * self.batch_size, len(self.rows), self.batch_size):
            state = self._stepped(state, first, None)
        return self._target_loss(state)

    def _stepped(self, state: AdamState, first: int, without: int | None) -> AdamState:
        places = range(first, min(first + self.batch_size, len(self.rows)))
        self.model.weights = state.weights
        loss = self.losses([self.rows[at] for at in places if at != without]).sum()
        parts = torch.autograd.grad(loss, self.model.parameters)
        gradient = torch.cat([part.flatten() for part in parts]) / len(places)
        if self.optimizer == "adam":
            return state.step(gradient, self.lr)
        return replace(state, weights=state.weights - self.lr * gradient)

    def of_like_length(self, start: AdamState) -> Epoch:
        """The epoch by plain gradients, whose first step is as long as this one's."""
        plain = replace(self, optimizer="sgd", lr=1.0)
        own, other = (
            float((each._stepped(start, 0, None).weights - start.weights).norm())
            for each in (self, plain)
        )
        return replace(plain, lr=own / other)

    def _target_loss(self, state: AdamState) -> float:
        self.model.weights = state.weights
        with torch.no_grad():
            return float(self.losses(self.targets).double().mean())

    def losses(self, rows: Sequence[Row]) -> torch.Tensor:
        """The loss of each row: mean loss a token of an answer, DPO loss of a pair."""
        if len(rows[0]) == 1:
            logps, counts = self._logps(rows, 0)
            return -logps / counts
        with torch.no_grad(), self.model.adapter_off():
            before = [self._logps(rows, side)[0] for side in (0, 1)]
        ratios = [self._logps(rows, side)[0] - before[side] for side in (0, 1)]
        return -torch.nn.functional.logsigmoid(self.model.beta * (ratios[0] - ratios[1]))

    def _logps(self, rows: Sequence[Row], side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of the log-probabilities of the answers, and their numbers of tokens."""
        width = max(len(row[side].ids) for row in rows)
        ids, scored = torch.zeros((2, len(rows), width), dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, : len(row[side].ids)] = torch.tensor(row[side].ids)
            scored[at, : len(row[side].ids)] = torch.tensor(row[side].scored)
        logs = self.model.model(ids, use_cache=False).logits[:, :-1].log_softmax(-1)
        found = logs.gather(2, ids[:, 1:, None])[..., 0] * scored[:, 1:]
        return found.sum(1), scored.sum(1)


def correlations(seed: int, loss: Loss, rows: int, targets: int, lr: float) -> dict[str, float]:
    """Spearman's correlation of each score with the true effects, by optimizer and score."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        given = made_up(rows, seed, loss)
        held = made_up(targets, seed + 1000, loss, task=0)
        for name, some in (("rows", given), ("target", held)):
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in some))
        texts = [" ".join(one.values()) for at in range(2) for one in made_up(60, 5000 + at, loss)]
        (folder / "text.txt").write_text("\n\n".join(texts))
        init = Init(vocab_size=400, hidden=64, layers=2, heads=4, context=128, steps=60, seed=seed)
        init(folder / "text.txt", folder / "lm")
        table = read_rows(str(folder / "rows.jsonl"))[0]
        table = table if loss == "dpo" else _conversations(table)
        return _compared(folder, table, loss, seed, lr)


def _compared(
    folder: Path, table: pl.DataFrame, loss: Loss, seed: int, lr: float
) -> dict[str, float]:
    less = LESS(
        model=str(folder / "lm"),
        against=str(folder / "target.jsonl"),
        loss=loss,
        precision="fp32",
        warmup=0.5,
        batch_size=8,
        dimension=None,
        seed=seed,
    )
    rows = [row for row in less._each(table) if row is not None]
    assert len({row_key(row) for row in rows}) == table.height
    model = less.adapted(less.beta)
    distinct = sorted(rows, key=row_key)
    start = less.train(model, less.drawn(distinct), None)[-1].state
    model.model.double()  # effects are small differences
    start = replace(
        start,
        **{name: getattr(start, name).double() for name in ("weights", "first", "second")},
    )
    targets = less._targets()[0]
    order = np.random.default_rng([seed, 7]).permutation(len(rows))
    found = {}
    ordered = [rows[at] for at in order]
    by_adam = Epoch(model, ordered, targets, "adam", lr, less.batch_size)
    for epoch in (by_adam, by_adam.of_like_length(start)):
        effects = np.empty(len(rows))
        effects[order] = epoch.effects(start)
        for name, how in SCORES.items():
            score = replace(less, optimizer=epoch.optimizer, **how)(table)["less"].to_numpy()
            found[f"{epoch.optimizer}: {name}"] = spearman(score, effects)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    print(f"{loss}, seed {seed}: {shown}", file=sys.stderr, flush=True)
    return found


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's rank correlation."""
    first, second = (pl.Series(one).rank().to_numpy() for one in (left, right))
    return float(np.corrcoef(first, second)[0, 1])


def _conversations(table: pl.DataFrame) -> pl.DataFrame:
    if "messages" in table.columns:
        return table
    return table.select(messages=pl.col("prompt").list.concat("completion"))


def main(words: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--targets", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-5)
    asked = parser.parse_args(words)
    for loss in ("sft", "dpo"):
        each = [
            correlations(seed, loss, asked.rows, asked.targets, asked.lr)
            for seed in range(asked.seeds)
        ]
        for name in each[0]:
            values = [one[name] for one in each]
            shown = " ".join(f"{value:.3f}" for value in values)
            print(f"{loss:<4} {name:<22} mean {np.mean(values):.3f}   by seed {shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
