"""The demo on a real model: rows of your own curated, and SmolLM2 trained on what is left.

    python -m examples.demo_real SOURCE [--pairs PAIRS] [--out FOLDER] [-o KEY=VALUE]

Gets SmolLM2-135M-Instruct where it is absent, runs real.yaml (selection, LoRA SFT, reward
model, DPO, PPO), and shows held-out metrics and answers before and after. Without PAIRS it makes
them: the answer of the rows is preferred to SmolLM2's own to the same prompt (as in SPIN,
arXiv:2401.01335), so they teach to answer as the rows do, and are no evidence of human preference.
What is done is not done again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.core.errors import DataError, SiftuneError
from siftune.curate.core.progress import Progress
from siftune.curate.files.atomic import digest_of, hash_file, write_text
from siftune.curate.models.catalog import CATALOG
from siftune.curate.models.get import get
from siftune.curate.runners.run import run as curate_run
from siftune.curate.runs.recipe import Recipe
from siftune.curate.runs.recipe import parse as parse_recipe
from siftune.finetune.data import training_rows
from siftune.finetune.evaluation.generation_eval import GenerationEval
from siftune.finetune.models import loading
from siftune.finetune.models.precision import frozen_dtype
from siftune.pipelines.recipe import load
from siftune.pipelines.reports.before_after import comparison
from siftune.pipelines.reports.report import write_report
from siftune.pipelines.run import run

RECIPE: Final = Path(__file__).with_name("real.yaml")
MODELS: Final = ("smollm2", "minilm")
MINUTES: Final = 44  # of CPU time, measured on one thread of an AMD EPYC core without bf16
PROMPTS: Final = 240  # asked to make pairs; answers that did not end make none
LONGEST: Final = 96  # tokens of an answer
BATCH: Final = 40  # answers at a time


def main(words: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    asked = _asked(words)
    start, say = time.monotonic(), Progress()
    say(
        "a few thousand rows, a model of 135 million weights: "
        f"{MINUTES} minutes of CPU time when it was measured, to be shared by your cores"
    )
    try:
        for name in MODELS:
            if not Path(name).is_dir():  # a folder of that name is meant before the catalogue
                get(CATALOG[name], None, say)
        rows = [f"rows.source={asked.source}", *asked.set]
        pairs = asked.pairs or own_pairs(rows, asked.prompts, asked.out / "own", say)
        run(load(RECIPE, [*rows, f"pairs.source={pairs}"]), asked.out / "run", say=say)
        report = write_report(asked.out / "run")
    except SiftuneError as error:
        say(f"demo-real: {error}")
        return error.exit_code
    print("\n".join(_table(comparison(asked.out / "run") or {})))
    print(f"\nreport, with the answers before and after: {report}")
    print(f"time: {(time.monotonic() - start) / 60:.0f} minutes")
    return 0


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo_real", description=__doc__)
    parser.add_argument("source", help="instruction rows: a file that siftune reads, or a hub name")
    parser.add_argument("--pairs", help="preference pairs; by default they are made")
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="how many, to make pairs")
    parser.add_argument("--out", type=Path, default=Path("runs/demo-real"), help="the folder")
    parser.add_argument(
        "-o", dest="set", action="append", default=[], metavar="KEY=VALUE", help="set a key"
    )
    return parser.parse_args(words)


def own_pairs(rows: Sequence[str], prompts: int, folder: Path, say: Progress) -> Path:
    """Preference pairs from rows: their answer, and rejected beside it SmolLM2's own.

    An answer that did not end within `LONGEST` tokens makes no pair: the model would learn that
    short is better from where it was cut.

    Raises:
        DataError: no answer ended.
    """
    recipe = load(RECIPE, [*rows, "pairs.source=made-here.jsonl"]).rows
    if recipe is not None:
        curate_run(_prompts_of(recipe, prompts), folder, say=say)
    kept = folder / "kept.parquet"
    key = digest_of([hash_file(kept), loading.model_hash(MODELS[0]), LONGEST])
    path = folder / f"pairs-{key[:16]}.jsonl"
    if not path.is_file():
        asked = training_rows.to_prompts(training_rows.load(kept, ("conversation",)))
        say(f"pairs: SmolLM2 answers {len(asked)} prompts")
        answers = _answers(asked, say)
        lines = [orjson.dumps(pair).decode() for pair in _pairs(asked, answers)]
        if not lines:
            raise DataError("no answer of SmolLM2 ended: give --pairs")
        write_text(path, "\n".join([*lines, ""]))
    say(f"pairs: {pl.read_ndjson(path).height}, {path}")
    return path


def _prompts_of(rows: Recipe, prompts: int) -> Recipe:
    """Sound and short rows of the recipe, held-out ones among them, and of these some at random."""
    short = [stage for stage in rows.stages if stage.name in ("heuristics", "flags", "length")]
    stages = [{stage.group: stage.name, **stage.options} for stage in short]
    fits = {"select": "threshold", "by": "length_tokens", "min": 16, "max": 128}
    picked = {"select": "random", "rows": prompts}
    return parse_recipe(
        {
            "name": "own",
            "source": list(rows.source),
            "limit": rows.limit,
            "stages": [*stages, fits, picked],
        }
    )


def _answers(asked: Sequence[Mapping[str, Any]], say: Progress) -> list[dict[str, Any]]:
    """SmolLM2's answers, drawn at a temperature of 0.7."""
    unknown = tuple({**row, "reference": None} for row in asked)
    tokenizer = loading.load_tokenizer(MODELS[0])
    model = loading.placed(loading.load_causal(MODELS[0], frozen_dtype("auto")))
    found: list[dict[str, Any]] = []
    for start in range(0, len(unknown), BATCH):
        part = unknown[start : start + BATCH]
        ask = GenerationEval(
            part, tokenizer, temperature=0.7, max_new_tokens=LONGEST, batch_size=BATCH
        )
        found += ask(model)
        say.count("pairs", len(found), len(unknown), "answers")
    return found


def _pairs(
    asked: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for row, answer in zip(asked, answers, strict=True):
        own = answer["completion"]
        if answer.get("ended") and own.strip() and own.strip() != row["reference"].strip():
            yield {
                "prompt": [{"role": t["role"], "content": t["content"]} for t in row["prompt"]],
                "chosen": [{"role": "assistant", "content": row["reference"]}],
                "rejected": [{"role": "assistant", "content": own}],
            }


def _table(found: Mapping[str, Any]) -> Iterator[str]:
    yield "\n" + "".join(f"{name:>32}" for name in ("", *found.get("models", ())))
    for name, values in found.get("metrics", ()):
        yield "".join(f"{text:>32}" for text in (name, *values))


if __name__ == "__main__":
    sys.exit(main())
