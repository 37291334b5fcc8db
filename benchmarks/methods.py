"""`python -m benchmarks.methods`: every way of training, on one real model and real rows.

SFT, a reward model, DPO, KTO and PPO with LoRA, and `evaluate`, `sample` and `score ifd`, each as
the command a user runs. For each: seconds, CPU seconds, peak memory, and what was measured on
held-out rows before and after, with 95 % intervals (a bootstrap over prompts). ``--rows`` is any
instruction file and ``--pairs`` any preference file that `siftune curate ingest` reads; prompts are
split, so that no held-out prompt is trained on. Ten prompts of our own are answered by the model
before, after SFT, DPO and PPO. A step that is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.measure import ROOT
from siftune.curate.core.registry import build
from siftune.finetune.core.intervals import as_text, with_interval

PROMPTS: Final = (
    "What is the capital of France?",
    "Name three animals that can fly.",
    "Explain in one sentence why the sky is blue.",
    "Write a polite sentence that declines an invitation to dinner.",
    "Translate into Spanish: Good morning, my friend.",
    "Give two tips for falling asleep.",
    "What is 12 plus 30?",
    "Which is heavier, a kilogram of iron or a kilogram of feathers?",
    "Suggest a name for a small bakery.",
    "Rewrite in the past tense: She walks to the market.",
)
_LORA: Final = ("--lora", "16", "--lora-alpha", "32")
_WORDS: Final = 20  # that PPO's reward asks for
_LONGEST: Final = 192  # tokens of prompt and answer


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    cpu: float
    peak_gb: float


@dataclass(frozen=True)
class Bench:
    """A model, its rows, and the folder that everything is written to."""

    model: str
    rows: str
    pairs: str
    pairs_format: str | None
    out: Path
    train_rows: int
    train_pairs: int
    held_out: int
    rollouts: int
    precision: str

    def __call__(self) -> Iterator[str]:
        """Lines of a Markdown report, while the commands run."""
        self.out.mkdir(parents=True, exist_ok=True)
        self._data()
        yield from _HEAD
        yield self._line("score ifd", f"{self.train_rows} rows", *self._ifd())
        yield from self._sft()
        yield from self._reward()
        for loss in ("dpo", "kto"):
            yield from self._preference(loss)
        yield from self._ppo()
        yield self._line("sample", "10 prompts, 4 answers each", *self._sample())
        yield from self._answers()

    def _data(self) -> None:
        self._select("train", self.rows, None, "train", self.train_rows)
        self._select("test", self.rows, None, "test", self.held_out)
        self._select("train-pairs", self.pairs, self.pairs_format, "train", self.train_pairs)
        self._select("test-pairs", self.pairs, self.pairs_format, "test", self.held_out)
        (self.out / "prompts.jsonl").write_text(
            "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS)
        )

    def _select(self, name: str, source: str, layout: str | None, part: str, rows: int) -> None:
        """Rows whose prompt is on one side of the split, drawn from those that are short."""
        sides = ("chosen_", "rejected_") if name.endswith("pairs") else ("",)
        short = [
            {"select": "threshold", "by": f"{side}length_tokens", "min": 2, "max": _LONGEST}
            for side in sides
        ]
        recipe = {
            "name": name,
            "source": source,
            **({"format": layout} if layout else {}),
            "stages": [
                {"select": "split", "part": part, "test_share": 0.2},
                {"score": "length", "tokenizer": self.model, "of": "both"},
                *short,
                {"select": "random", "rows": rows},
            ],
        }
        path = self.out / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        self._run(name, "curate", "run", str(path), "--out", str(self.out / name), allowed=(0, 4))

    def _ifd(self) -> tuple[Cost, str, str]:
        cost = self._run(
            "ifd", "curate", "score", self._at("train"), "ifd", "--model", self.model,
            "--precision", self.precision, "--out", self._at("ifd"),
        )  # fmt: skip
        import polars as pl

        scores = pl.read_parquet(self.out / "ifd" / "kept.parquet")["ifd"]
        low, mid, high = (scores.quantile(share, "linear") for share in (0.25, 0.5, 0.75))
        spread = f"median {mid:.3f}, quartiles {low:.3f} … {high:.3f}"
        return cost, "", f"{scores.len() - scores.null_count()} scored: {spread}"

    def _sft(self) -> Iterator[str]:
        before, first = self._evaluate("before", self.model)
        cost = self._run(
            "sft", "finetune", "sft", self._at("train"), "--model", self.model, *_LORA,
            "--lr", "2e-4", "--epochs", "1", "--precision", self.precision,
            "--out", self._at("sft"),
        )  # fmt: skip
        _, last = self._evaluate("after-sft", self._at("sft"))
        yield self._line("evaluate", f"{self.held_out} rows", before, "", "")
        trained = f"{self.train_rows} rows, 1 epoch; held-out loss, nats a token"
        yield self._line("sft", trained, cost, first["loss"], last["loss"])

    def _reward(self) -> Iterator[str]:
        cost = self._run(
            "reward", "finetune", "reward", self._at("train-pairs"), "--model", self.model, *_LORA,
            "--lr", "2e-4", "--epochs", "1", "--batch-size", "8", "--held-out", "0",
            "--eval-rows", self._at("test-pairs"), "--precision", self.precision,
            "--out", self._at("reward"),
        )  # fmt: skip
        steps = self._steps("reward", "correct")
        yield self._line("reward", f"{self.train_pairs} pairs; held-out accuracy", cost, *steps)
        longer = self._steps("reward", "longer")[1]
        yield self._line("", "the longer answer is the chosen one", None, "", longer)

    def _preference(self, loss: str) -> Iterator[str]:
        cost = self._run(
            loss, "finetune", loss, self._at("train-pairs"), "--model", self._at("sft"), *_LORA,
            "--lr", "1e-4", "--epochs", "1", "--batch-size", "8", "--held-out", "0",
            "--eval-rows", self._at("test-pairs"), "--precision", self.precision,
            "--out", self._at(loss),
        )  # fmt: skip
        measured = f"{self.train_pairs} pairs, from the SFT model; held-out loss"
        yield self._line(loss, measured, cost, *self._steps(loss, "loss"))
        if loss == "dpo":
            yield self._line("", "held-out accuracy", None, *self._steps(loss, "correct"))

    def _ppo(self) -> Iterator[str]:
        cost = self._run(
            "ppo", "finetune", "ppo", self._at("train"), "--model", self._at("sft"), *_LORA,
            "--reward", "length", "--reward-options", f"{{target: {_WORDS}}}", "--rollouts",
            str(self.rollouts), "--batch-size", "32", "--epochs", "2", "--minibatches", "2",
            "--max-new-tokens", "48", "--temperature", "1.0", "--lr", "3e-4", "--critic-lr", "1e-3",
            "--missing-eos-penalty", "1", "--eval-rows", self._at("test"), "--eval-limit", "64",
            "--precision", self.precision, "--out", self._at("ppo"),
        )  # fmt: skip
        what = f"{self.rollouts} rollouts of 32 prompts; reward: 0 at 20 words, -1 at none or 40"
        files = sorted((self.out / "ppo" / "evaluation").glob("step-*.jsonl"))
        yield self._line("ppo", what, cost, _mean_reward(files[0]), _mean_reward(files[-1]))
        yield self._line("", "answers that end in 48 tokens", None, *self._steps("ppo", "ended"))

    def _sample(self) -> tuple[Cost, str, str]:
        cost = self._run(
            "sample", "finetune", "sample", self._at("prompts.jsonl"), "--model", self._at("ppo"),
            "--reward", "length", "--reward-options", f"{{target: {_WORDS}}}", "--count", "4",
            "--precision", self.precision, "--out", self._at("sample"),
        )  # fmt: skip
        means = json.loads((self.out / "sample" / "sampling.json").read_text())["means"]
        return cost, "", f"{means['answers']} answers, mean reward {means['score']:.3f}"

    def _answers(self) -> Iterator[str]:
        """Greedy answers of each model to the ten prompts."""
        models = {"before": self.model} | {name: self._at(name) for name in ("sft", "dpo", "ppo")}
        written = {}
        for name, model in models.items():
            self._evaluate(f"answers-{name}", model, "prompts.jsonl")
            lines = (self.out / f"answers-{name}" / "rows.jsonl").read_text().splitlines()
            written[name] = [json.loads(line)["completion"] for line in lines]
        for at, prompt in enumerate(PROMPTS):
            yield f"\n**{prompt}**\n"
            for name in models:
                yield f"- {name}: {' '.join(written[name][at].split())}"

    def _evaluate(self, name: str, model: str, rows: str = "test") -> tuple[Cost, dict[str, str]]:
        cost = self._run(
            name, "finetune", "evaluate", self._at(rows), "--model", model, "--batch-size", "16",
            "--precision", self.precision, "--out", self._at(name),
        )  # fmt: skip
        written = json.loads((self.out / name / "evaluation.json").read_text())
        return cost, as_text(written["last"])

    def _steps(self, name: str, measure: str) -> tuple[str, str]:
        """A measure before the first step and after the last, each with its interval."""
        files = sorted((self.out / name / "evaluation").glob("step-*.jsonl"))
        return _mean(files[0], measure), _mean(files[-1], measure)

    def _at(self, name: str) -> str:
        return str(self.out / name)

    def _run(self, name: str, *words: str, allowed: Sequence[int] = (0,)) -> Cost:
        """Run a command of `siftune`, unless its cost is written already."""
        noted = self.out / f"{name}.cost.json"
        if noted.is_file():
            return Cost(**json.loads(noted.read_text()))
        print(f"{name} ...", file=sys.stderr)
        start = time.monotonic()
        command = [sys.executable, "-m", "siftune", *words]
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "SIFTUNE_STAGE_CACHE": "",
        }  # it is timed
        process = subprocess.Popen(command, env=environment, stdout=sys.stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in allowed:
            raise SystemExit(f"siftune {' '.join(words)}: exit code {process.returncode}")
        cpu = usage.ru_utime + usage.ru_stime
        cost = Cost(time.monotonic() - start, cpu, usage.ru_maxrss / 2**20)
        noted.write_text(json.dumps(asdict(cost)))
        return cost

    def _line(self, command: str, what: str, cost: Cost | None, before: str, after: str) -> str:
        costs = f"{cost.seconds:.0f} | {cost.cpu:.0f} | {cost.peak_gb:.1f}" if cost else " | | "
        return f"| {command} | {what} | {costs} | {before} | {after} |"


_HEAD: Final = (
    "| command | on | seconds | CPU seconds | peak GB | before | after |",
    "|---|---|---:|---:|---:|---|---|",
)


def _mean_reward(path: Path) -> str:
    """The reward of the answers of an evaluation, by the name that PPO learned from."""
    rows = _rows(path)
    reward = build("finetune.rewards", "length", {"target": _WORDS})
    scores = reward([row["prompt"] for row in rows], [row["completion"] for row in rows], rows)
    found = with_interval("reward", list(scores), [row["prompt"] for row in rows])
    return as_text(found)["reward"]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _mean(path: Path, measure: str) -> str:
    rows = _rows(path)
    rows = [row for row in rows if row.get(measure) is not None]
    keys = [str(row.get("prompt_key", row.get("prompt"))) for row in rows]
    return as_text(with_interval(measure, [float(row[measure]) for row in rows], keys))[measure]


def main(words: Sequence[str] | None = None) -> int:
    """Run the commands, and print the report on stdout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--model", default="smollm2", help="a model folder or name")
    parser.add_argument("--rows", required=True, help="an instruction file")
    parser.add_argument("--pairs", required=True, help="a preference file")
    parser.add_argument("--pairs-format", help="its layout, where it cannot be recognised")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--train-rows", type=int, default=200)
    parser.add_argument("--train-pairs", type=int, default=100)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--rollouts", type=int, default=4)
    parser.add_argument("--precision", default="auto")
    given: Mapping[str, Any] = vars(parser.parse_args(words))
    for line in Bench(**given)():
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
