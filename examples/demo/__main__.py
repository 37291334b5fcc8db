"""The demo: a made-up world, good and spoiled rows, and how much selecting from them helps.

    python -m examples.demo [FOLDER]

Generates the world, makes a small model that has read it, runs demo.yaml (selection, SFT,
reward model, DPO, PPO, and four arms on one token budget), and prints which planted faults were
found. Offline; what is done is not done again. Exit code 1 if selection did not help.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from examples.demo.found import flips_found, planted_vs_found, stages_found
from examples.demo.world import World, generate
from siftune.curate.core.errors import SiftuneError
from siftune.curate.core.progress import Progress
from siftune.curate.files.atomic import digest_of
from siftune.finetune.models.loading import read_facts
from siftune.finetune.tools.init import Init, read_texts
from siftune.pipelines.recipe import load
from siftune.pipelines.render import arms_text
from siftune.pipelines.reports.report import write_report
from siftune.pipelines.run import run

RECIPE: Final = Path(__file__).with_name("demo.yaml")
READER: Final = Init(
    vocab_size=1000, hidden=96, layers=2, heads=4, context=64, steps=3000, lr=4e-3, log_every=200
)
"""Some 300,000 weights: enough to know every fact of the world after seven readings."""


def main(folder: Path) -> int:
    """Run the demo in ``folder``; returns the exit code."""
    start = time.monotonic()
    world = generate(folder / "world", seed=0, size=2000)
    print(
        f"a world of {_lines(world.facts):,} texts, {_lines(world.pool):,} rows, half of them bad"
    )
    base = folder / "base"
    _read(world, base)
    manifest = run(load(RECIPE, _places(world, base)), folder / "run", say=Progress())
    _print_found(world, folder / "run")
    print(f"\n{_section('Arms')}\n{arms_text(manifest['arms'])}")
    print(f"\nreport: {write_report(folder / 'run')}")
    print(f"time: {time.monotonic() - start:.0f} s")
    return _verdict(manifest["arms"]["arms"])


def _read(world: World, base: Path) -> None:
    """Train the base model on the world's text, unless this very model is there."""
    facts = read_facts(base) if base.is_dir() else {}
    read = facts.get("data", {}).get("hash") == digest_of(read_texts(world.facts))
    if not (read and facts.get("options") == asdict(READER)):
        READER(world.facts, base)


def _places(world: World, base: Path) -> Iterator[str]:
    """The recipe's paths, in this folder."""
    recipe = load(RECIPE)
    yield f"base={base}"
    yield f"rows.source={world.pool}"
    yield f"pairs.source={world.pairs}"
    yield f"heldout.prompts={world.questions}"
    yield f"heldout.pairs={world.held_out_pairs}"
    for part in ("rows", "pairs"):
        stages = getattr(recipe, part).stages
        for at, stage in enumerate(stages, 1):
            if "model" in stage.options:
                yield f"{part}.stages.{at}.model={base}"
            if "against" in stage.options:
                yield f"{part}.stages.{at}.against={world.questions}"


def _print_found(world: World, out: Path) -> None:
    ledger = out / "rows" / "ledger.parquet"
    print(f"\n{_section('Planted and found, by kind')}")
    print(_table(planted_vs_found(world.truth, ledger)))
    print(f"\n{_section('Dropped rightly, by stage')}")
    print(_table(stages_found(world.truth, ledger)))
    print(f"\n{_section('Flipped preference labels')}")
    print(_table(flips_found(world.pairs_truth, out / "pairs" / "ledger.parquet")))


def _verdict(arms: Sequence[Mapping[str, Any]]) -> int:
    """0 if the curated arm beats random beyond doubt and is no worse than training on all."""
    by_name = {arm["arm"]: arm for arm in arms}
    beats_random = by_name["random"]["behind_low"] > 0
    as_good_as_all = by_name["all"]["behind"] >= 0
    print(f"curated beats random (95 % interval above zero): {'yes' if beats_random else 'NO'}")
    print(f"curated is no worse than everything: {'yes' if as_good_as_all else 'NO'}")
    return 0 if beats_random and as_good_as_all else 1


def _table(table: pl.DataFrame) -> str:
    with pl.Config(
        tbl_formatting="NOTHING",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=-1,
        tbl_width_chars=160,
        fmt_str_lengths=90,
        float_precision=3,
    ):
        return str(table)


def _section(title: str) -> str:
    return f"{title}\n{'-' * len(title)}"


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/demo"))
    try:
        code = main(parser.parse_args().folder)
    except SiftuneError as error:
        print(f"demo: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
