"""`python -m benchmarks.math_rl ROWS --work DIR`: RL with a reward that can be verified.

ROWS are questions with a number as answer. Some are drawn by a seed to train on, others are held
out. Each method (``grpo``, ``ppo`` ...) trains the model with LoRA from each seed, on the reward
``exact + 0.2 · format``: the final number is right, and the answer ends with the sentence that was
asked for. The model answers the held-out questions greedily before and after. The table has the
share of right answers and of answers in the format, each with a 95 % interval over the questions,
and the difference to the start, paired by question and bootstrapped over questions and seeds.

What is done stays in the folder: the command may be stopped at any time, and goes on where it was.
``--also ROWS`` is another set that only the table is made of.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

import siftune as sf
from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.rows.chat import contents
from siftune.finetune.rewards.math_answer import MathAnswer

FORMAT: Final = r"The answer is -?[\d,.]*\d\.?\s*\z"
_ASK: Final = "Reason in one short sentence, then end with: The answer is N."
_REWARD: Final[dict[str, Any]] = {
    "math_answer": 1.0,
    "format": {
        "reward": "regular_expression",
        "weight": 0.2,
        "options": {"pattern": FORMAT},
    },
}
_DRAWS: Final = 2000
_SHOWN: Final = 6


@dataclass(frozen=True)
class Given:
    """What was asked for on the command line."""

    work: Path
    model: str
    steps: int
    prompts: int
    answers: int
    new_tokens: int
    lr: float
    lora: int

    def options(self, method: str) -> dict[str, Any]:
        """The options of a training: as many completions a step for each method."""
        grouped = {"batch_size": self.prompts, "group_size": self.answers}
        alone = {"batch_size": self.prompts * self.answers}
        return {
            **(alone if method == "ppo" else grouped),
            "rollouts": self.steps,
            "minibatches": 1,
            "epochs": 1,
            "temperature": 1.0,
            "max_new_tokens": self.new_tokens,
            "lr": self.lr,
            "lora": self.lora,
            "schedule": "constant",
            "reward": _REWARD,
        }


def questions(path: str, count: int, skip: int, seed: int) -> list[dict[str, str]]:
    """``count`` rows drawn by the seed, after the ``skip`` first of that order."""
    table = sf.read(path).kept
    order = np.random.default_rng(seed).permutation(table.height)[skip : skip + count]
    asked = table[order.tolist()].with_columns(question=contents(table["messages"])[order.tolist()])
    return [
        {"id": row["id"], "question": f"{row['question']} {_ASK}", "answer": row["answer"]}
        for row in asked.iter_rows(named=True)
    ]


def answers(given: Given, model: str, held_out: list[dict[str, str]], folder: Path) -> pl.DataFrame:
    """Greedy answers of a model to the held-out questions, read from the folder if done."""
    if not (folder / "evaluation.json").is_file():
        sf.evaluate(
            model,
            held_out,
            out=folder,
            max_new_tokens=given.new_tokens,
            reward=_REWARD,
            precision="bf16",
        )
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    references = [{"reference": row["answer"]} for row in held_out]
    said = [row["completion"] for row in rows]
    return pl.DataFrame(
        {
            "question": [row["question"] for row in rows],
            "completion": said,
            "reference": [row["answer"] for row in held_out],
            "exact": MathAnswer()([""] * len(said), said, references),
            "format": [row["reward/format"] for row in rows],
            "tokens": [row["tokens"] for row in rows],
        }
    )


def trained(given: Given, method: str, seed: int, rows: list[dict[str, str]]) -> tuple[str, float]:
    """The folder of a trained model, and the CPU seconds that this call took."""
    out = given.work / f"{method}-{seed}"
    start = time.process_time()
    train = getattr(sf.train, method)
    train(rows, model=given.model, out=out, seed=seed, **given.options(method))
    return str(out), time.process_time() - start


def interval(values: Floats, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval of ``values`` (seeds, questions), both resampled."""
    random = np.random.default_rng(seed)
    seeds, count = values.shape
    means = [
        values[random.integers(0, seeds, seeds)][:, random.integers(0, count, count)].mean()
        for _ in range(_DRAWS)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def lines_of(name: str, before: pl.DataFrame, after: Sequence[pl.DataFrame]) -> list[str]:
    """The rows of the table for one method: both measures, and their differences to the start."""
    cells = [name, str(len(after))]
    for measure in ("exact", "format"):
        start = before[measure].to_numpy().astype(float)
        ends = np.stack([one[measure].to_numpy().astype(float) for one in after])
        cells += [_text(interval(ends)), _text(interval(ends - start), sign=True)]
    tokens = np.stack([one["tokens"].to_numpy() for one in after]).mean()
    return [f"| {' | '.join([*cells, f'{tokens:.1f}'])} |"]


def _text(found: tuple[float, float, float], sign: bool = False) -> str:
    mean, low, high = (f"{one:{'+' if sign else ''}.3f}" for one in found)
    return f"{mean} ({low} … {high})"


def table(before: pl.DataFrame, after: dict[str, list[pl.DataFrame]]) -> Iterator[str]:
    """The table as Markdown."""
    yield "| model | seeds | right | to the start | in the format | to the start | tokens |"
    yield "| --- | ---: | --- | --- | --- | --- | ---: |"
    start = [
        _text(interval(before[measure].to_numpy().astype(float)[None]))
        for measure in ("exact", "format")
    ]
    yield f"| start | | {start[0]} | | {start[1]} | | {before['tokens'].to_numpy().mean():.1f} |"
    for name, tables in after.items():
        yield from lines_of(name, before, tables)


def samples(before: pl.DataFrame, after: dict[str, list[pl.DataFrame]]) -> Iterator[str]:
    """The first held-out questions with the answers before and after."""
    for at in range(min(_SHOWN, before.height)):
        yield f"\n**{before['question'][at]}** ({before['reference'][at]})\n"
        yield f"- start: {_one_line(before['completion'][at])}"
        for name, tables in after.items():
            yield f"- {name}: {_one_line(tables[0]['completion'][at])}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main(words: list[str] | None = None) -> None:
    """Train, answer, and print the tables."""
    given, asked = _asked(words)
    rows = questions(asked.rows, asked.train, asked.held_out, asked.split)
    sets = {"held out": questions(asked.rows, asked.held_out, 0, asked.split)}
    if asked.also is not None:
        sets["the other set"] = questions(asked.also, asked.held_out, 0, asked.split)
    models: dict[str, list[str]] = {}
    for seed in range(asked.seeds):  # all methods from one seed first: a table after each
        for method in asked.methods.split(","):
            folder, seconds = trained(given, method, seed, rows)
            models.setdefault(method, []).append(folder)
            _say(f"{method}, seed {seed}: {seconds:.0f} CPU s")
            asked.out.write_text("\n".join(_page(given, asked, sets, models)) + "\n", "utf-8")
    print(asked.out.read_text("utf-8"))


def _page(
    given: Given,
    asked: argparse.Namespace,
    sets: dict[str, list[dict[str, str]]],
    models: dict[str, list[str]],
) -> Iterator[str]:
    yield "# RL with a verifiable reward\n"
    words = (Path(word).name if "/" in word else word for word in sys.argv[1:])
    yield f"    python -m benchmarks.math_rl {' '.join(words)}\n"
    for name, rows in sets.items():
        evaluated = given.work / "answers" / name.replace(" ", "-")
        before = answers(given, given.model, rows, evaluated / "start")
        after = {
            method: [answers(given, one, rows, evaluated / Path(one).name) for one in folders]
            for method, folders in models.items()
        }
        yield f"## {name}: {len(rows)} questions\n"
        yield from table(before, after)
        if name == "held out":
            yield from samples(before, after)
        yield ""


def _asked(words: list[str] | None) -> tuple[Given, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("rows", help="JSON lines with question and answer")
    add("--work", type=Path, required=True, help="folder of what is done")
    add("--out", type=Path, required=True, help="Markdown file of the tables")
    add("--also", help="another set, only for the table")
    add("--methods", default="grpo,ppo")
    add("--seeds", type=int, default=3)
    add("--model", default="smollm2")
    add("--train", type=int, default=500, help="questions to train on")
    add("--held-out", type=int, default=200)
    add("--split", type=int, default=0, help="seed of the split")
    add("--steps", type=int, default=60, help="rollouts, each with one update")
    add("--prompts", type=int, default=8, help="prompts of a rollout")
    add("--answers", type=int, default=8, help="completions to each")
    add("--new-tokens", type=int, default=48)
    add("--lr", type=float, default=1e-4)
    add("--lora", type=int, default=16)
    asked = parser.parse_args(words)
    asked.work.mkdir(parents=True, exist_ok=True)
    options = (asked.model, asked.steps, asked.prompts, asked.answers, asked.new_tokens)
    return Given(asked.work, *options, asked.lr, asked.lora), asked


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
