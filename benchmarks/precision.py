"""`python -m benchmarks.precision`: bf16 against fp32, in the scores and in the speed.

``--model`` is a model folder or a name, ``--rows`` what `siftune curate ingest` wrote; without them
a tiny random model and made-up rows are taken. First the ``ifd`` scores and losses of ``--count``
rows in both precisions: Spearman's rank correlation and the greatest difference of a loss. Then
tokens a CPU second of ``ifd`` and of LoRA ``sft``, ``dpo`` and ``ppo``, loading and saving left in,
each in a process of its own on one thread.

A processor without bf16 instructions emulates them, slowly: there the scores are computed from
products of the same bf16 numbers in fp32, rounded to bf16 (what the instructions compute), and the
speeds are those of the emulation, marked as such.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from siftune.curate.core.schema import schema_of
from siftune.curate.models.precision import NumberFormat, multiplies_bf16
from siftune.curate.rows.chat import turn

LEAST: Final = 0.999
"""Rank correlation that bf16 has to keep."""

_FORMATS: Final[tuple[NumberFormat, ...]] = ("fp32", "bf16")
_METHODS: Final = ("ifd", "sft", "dpo", "ppo")
_TEXT: Final = "the cat sat on a mat and saw blue birds over seven hills by night"
_NEW_TOKENS: Final = 16


def main(words: list[str] | None = None) -> int:
    """Exit code 0: the order of rows is kept; 1: it is not."""
    asked = _asked(words)
    if asked.one:
        print(json.dumps(_timed(asked.one, asked.precision, asked.model, Path(asked.rows))))
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or _tiny_model(Path(folder))
        rows = Path(folder) / "rows.parquet"
        _short_rows(asked.rows, asked.count, asked.max_tokens, model).write_parquet(rows)
        kept = True if asked.speed_only else _agreement(model, rows)
        if not asked.scores_only:
            few = Path(folder) / "few.parquet"
            pl.read_parquet(rows).head(asked.train_rows).write_parquet(few)
            _speeds(model, few)
    return 0 if kept else 1


def _asked(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--model", help="a model folder or name; default: a tiny random model")
    parser.add_argument("--rows", help="ingested rows of conversations; default: made up")
    parser.add_argument("--count", type=int, default=200, help="rows that are scored")
    parser.add_argument("--max-tokens", type=int, default=512, help="longer rows are left out")
    parser.add_argument("--train-rows", type=int, default=32, help="rows that speed is timed on")
    parser.add_argument("--scores-only", action="store_true", help="leave the speeds out")
    parser.add_argument("--speed-only", action="store_true", help="leave the scores out")
    parser.add_argument("--one", choices=_METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--precision", choices=_FORMATS, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def _agreement(model: str, rows: Path) -> bool:
    """Print how far scores in bf16 are from those in fp32; whether they rank rows alike."""
    from scipy.stats import spearmanr

    from siftune.curate.scorers.ifd import IFD

    table = pl.read_parquet(rows)
    exact = IFD(model, precision="fp32")(table)
    with contextlib.nullcontext() if multiplies_bf16("cpu") else _fast_emulation():
        short = IFD(model, precision="bf16")(table)
    both = exact.hstack(short.select(pl.all().name.suffix("_bf16"))).drop_nulls()
    alike = True
    for name in exact.columns:
        one, other = both[name].to_numpy(), both[f"{name}_bf16"].to_numpy()
        rank = float(spearmanr(one, other).statistic)
        alike &= rank >= LEAST
        print(
            f"{name}: {len(one)} rows, rank correlation {rank:.5f}, greatest difference "
            f"{np.abs(one - other).max():.4f}, mean {np.mean(other - one):+.5f}"
        )
    return alike


@contextmanager
def _fast_emulation() -> Iterator[None]:
    """Linear layers of bf16 weights by fp32 products of the same numbers, rounded to bf16."""
    import torch
    from torch.nn import functional

    own: Any = functional.linear
    wide: dict[int, tuple[Any, Any]] = {}  # the weights too, so that no other takes their place

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:
        if weight.dtype != torch.bfloat16:
            return own(x, weight, bias)
        known = wide.setdefault(weight.data_ptr(), (weight, weight.float()))[1]
        return own(x.float(), known, None if bias is None else bias.float()).bfloat16()

    functional.linear = linear  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.linear = own


def _speeds(model: str, rows: Path) -> None:
    """Print tokens a CPU second of each method, and what bf16 gains."""
    how = "" if multiplies_bf16("cpu") else " (emulated: this processor has no bf16 instructions)"
    for method in _METHODS:
        rates = []
        for precision in _FORMATS:
            asked = ["--one", method, "--precision", precision, "--model", model]
            command = [sys.executable, "-m", "benchmarks.precision", *asked, "--rows", str(rows)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            rates.append(found["tokens"] / found["cpu_seconds"])
        fp32, bf16 = rates
        print(
            f"{method}: {fp32:.1f} tokens a CPU second in fp32, {bf16:.1f} in bf16, "
            f"{bf16 / fp32:.2f}×{how}",
            flush=True,
        )


def _timed(method: str, precision: NumberFormat, model: str, rows: Path) -> dict[str, float]:
    """One method on ``rows``: the tokens it ran forward at least once, and its CPU seconds."""
    _imported()
    lengths = _lengths(model, pl.read_parquet(rows))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        tokens = _run(method, precision, model, rows, lengths, Path(folder) / "out")
        return {"tokens": tokens, "cpu_seconds": time.process_time() - start}


def _imported() -> None:
    """Load the libraries before the clock starts."""
    import peft  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401


def _run(
    method: str,
    precision: NumberFormat,
    model: str,
    rows: Path,
    lengths: list[tuple[int, int]],
    out: Path,
) -> int:
    from siftune.curate.scorers.ifd import IFD
    from siftune.finetune.trainers.ppo import PPO
    from siftune.finetune.trainers.preference import Preference
    from siftune.finetune.trainers.sft import SFT

    how: dict[str, Any] = {"lora": 8, "precision": precision}
    prompts = sum(prompt for prompt, _ in lengths)
    answers = sum(answer for _, answer in lengths)
    if method == "ifd":
        IFD(model, precision=precision)(pl.read_parquet(rows))
        return prompts + 2 * answers
    if method == "sft":
        SFT(model, batch_size=4, **how)(rows, out)
        return prompts + answers
    if method == "dpo":
        pairs = out.with_suffix(".parquet")
        _pairs(pl.read_parquet(rows)).write_parquet(pairs)
        Preference(model, batch_size=4, held_out=0.0, **how)(pairs, out)
        return 2 * (prompts + answers)
    size: dict[str, Any] = {
        "rollouts": 1,
        "batch_size": len(lengths),
        "epochs": 1,
        "minibatches": 1,
    }
    reward: dict[str, Any] = {"reward": "text_share", "reward_options": {"text": "the"}}
    PPO(model=model, max_new_tokens=_NEW_TOKENS, micro_batch=4, **reward, **size, **how)(rows, out)
    return prompts + _NEW_TOKENS * len(lengths)


def _short_rows(given: str | None, count: int, longest: int, model: str) -> pl.DataFrame:
    """``count`` rows of at most ``longest`` tokens, spread evenly over the file."""
    if given is None:
        return _made_up(count)
    table = pl.read_parquet(given).filter(pl.col("kind") == "conversation")
    fits = [prompt > 0 and prompt + answer <= longest for prompt, answer in _lengths(model, table)]
    table = table.filter(pl.Series(fits))
    return table[np.unique(np.linspace(0, table.height - 1, count).astype(int))]


def _lengths(model: str, table: pl.DataFrame) -> list[tuple[int, int]]:
    """Tokens of all but the last turn, and of that turn, of each conversation."""
    from siftune.finetune.models.loading import load_tokenizer

    tokenizer: Any = load_tokenizer(model)

    def tokens(texts: list[str]) -> int:
        return len(tokenizer("\n".join(texts), add_special_tokens=False)["input_ids"])

    chats = [[one["content"] or "" for one in chat] for chat in table["messages"].to_list()]
    return [(tokens(chat[:-1]), tokens(chat[-1:])) for chat in chats]


def _made_up(count: int) -> pl.DataFrame:
    draw = np.random.default_rng(0)

    def text() -> str:
        return " ".join(draw.choice(_TEXT.split(), int(draw.integers(4, 16))))

    chats = [[turn("user", text()), turn("assistant", text())] for _ in range(count)]
    return _table("conversation", count, messages=chats)


def _pairs(table: pl.DataFrame) -> pl.DataFrame:
    """Each row's answer preferred to that of the next row."""
    chats = table["messages"].to_list()
    others = [*chats[1:], chats[0]]
    return _table(
        "preference",
        len(chats),
        prompt=[chat[:-1] for chat in chats],
        chosen=[chat[-1:] for chat in chats],
        rejected=[chat[-1:] for chat in others],
    )


def _table(kind: Any, count: int, **content: list[Any]) -> pl.DataFrame:
    base = {"id": [f"made:{at}" for at in range(count)], "source": ["made"] * count}
    rows = base | {"row": range(count), "kind": [kind] * count} | content
    return pl.DataFrame(rows, schema_overrides=schema_of(kind))


def _tiny_model(folder: Path) -> str:
    from siftune.finetune.tools.init import Init

    text = folder / "text.txt"
    text.write_text("\n\n".join([_TEXT] * 8))
    init = Init(vocab_size=300, hidden=64, layers=2, heads=2, context=256, steps=0)
    init(text, folder / "tiny")
    return str(folder / "tiny")


if __name__ == "__main__":
    raise SystemExit(main())
