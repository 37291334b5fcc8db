"""Odd values of an option or argument by its kind: beyond its range, of another type, hostile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import rich_click as click

__all__ = ["values_of"]

_NUMBERS: Final = (
    *("0", "-1", "1", "2", "-0.5", "0.5", "1e-30", "1e30", "1e400", "nan", "inf", "-inf", ".inf"),
    *("1e-400", "abc", "", " ", "null", "9" * 25, "-" + "9" * 25, "9" * 5000, "1_000", "+1", "1e0"),
    *("[1]", "{a: b}", "2020-99-99", "!!int abc", "true", "? [a]: b", "&a [*a]", "[" * 3000),
    *("0x" + "f" * 40, "1:30", "*", "%", "\0", "\udcff"),
)
_ENDLESS: Final[Mapping[str, Sequence[str]]] = {"--epochs": ("1e30", "9" * 25)}
"""Sound values with which a training does not end while anyone waits."""
_SWITCHES: Final = ("true", "false", "yes", "0", "1", "2", "null", "", "[true]", "'true'", "wahr")
_TEXTS: Final = (
    *("", " ", "no such", "../../x y", "a\0b", "\udcff", "x" * 300, "[a]*?", "a\nb", "é", ".."),
    *("https://me:secret@host/x", "\x1b[31mred", "-", "--", "=", "a=b=c", "a=", "=b", "1", "~"),
    *("{a: [b", ".", "!!python/object:os.system x", "file\u202egnp", "'", '"', "${HOME}", "null"),
)
_PLACES: Final = (
    *("rows.jsonl", "pairs.jsonl", "ranked.jsonl", "empty.jsonl", "noise.parquet", "folder", "lm"),
    *("rm", "embedder", "run", "run/kept.parquet", "run/kept.parquet/x", "scored", "curate.yaml"),
    *("folder/new/x", "rows.jsonl/x", "/dev/null", "/proc/self/mem", "/proc/none/x"),
)
_WORDS: Final = ("id", "source", "prompt", "row", "length_chars", "embedding", "digest", "kind")
_WORDS_TOO: Final = (
    "extra",
    "extra.topic",
    "score_chosen",
    "exact_match",
    "dpo",
    "kto",
    "a,b",
    ",",
)
_PAIRS: Final[Mapping[str, Sequence[str]]] = {
    "--map": ("prompt=completion", "completion=prompt", "none=prompt", "prompt=prompt", "prompt="),
    "--also": ("sft=0.1", "nll=0.1", "sft=-1", "dpo=nan", "kto=1", "sft={weight: x}", "sft=true"),
    "--columns": ("reward=none", "reward=prompt", "none=weight", "score=[1]", "win_rate=scores"),
    "--loss-options": (
        "dpo={beta: -1}",
        "dpo={beta: nan}",
        "dpo=1",
        "none={beta: 1}",
        "dpo={a: 1}",
    ),
    "--reward-options": ("target=nan", "target=-1", "target=1e400", "none=1", "{target: [1]}"),
    "--online-merge": ("base=lm,rate=2", "base=none", "rate=0.1", "base=lm,density=0", "none=1"),
    "--method-options": ("density=0.5", "density=-1", "density=nan", "none=1", "parallel=2"),
    "--objective-options": ("weights={a: 1}", "weights=1", "gamma=-1", "gamma=nan", "none=1"),
    "--gate-options": ("steps=0", "lr=nan", "dropout=2", "length=none", "none=1", "{hidden: [1]}"),
    "--system-prompts": ("code=x", "none={a: 1}", "code=1"),
    "--watch-detectors": ("length={relative: -1}", "length=none", "none=1", "length=nan"),
    "--advantage-options": ("lam=nan", "lam=2", "eps=-1", "none=1", "{gamma: [1]}", "gamma=x"),
    "--policy-loss-options": (
        "cliprange=0",
        "cliprange=nan",
        "none=1",
        "clip_low=2",
        "{a: {b: 1}}",
    ),
    "--rollout-options": ("tries=0", "tries=1", "logprobs=raw", "pause=nan", "none=1", "pause=-1"),
    "--given": ("critique=none", "critique=[1]", "none=prompt", "checklist=prompt", "critique="),
    "--prices": ("smollm2=1", "none={input: 1}", "{smollm2: {input: nan}}", "{a: {b: 1}}", "a=b"),
    "--judge-options": (
        "precision=fp8",
        "max_new_tokens=-1",
        "none=1",
        "{precision: [1]}",
        "url=x",
    ),
    "--task-options": ("ties=maybe", "none=1", "{ties: [1]}", "dimension=-1", "explanation=nan"),
    "--shares": ("rows=1,none=2", "rows=-1", "rows=nan", "rows=0", "none=1", "1,2", "0,0", "-1,1"),
    "--rows": ("rows=1", "rows=-1", "none=2", "rows=x", "{rows: {a: 1}}"),
    "-o": (
        *("seed=nan", "seed=-1", "name=../x", "name=", "source=none", "source=[]", "limit=0"),
        *("stages=[]", "stages=1", "stages.1.select=none", "stages.1.rows=-1", "stages.9.by=id"),
        *("rows.source=none", "rows.limit=-1", "base=none", "base=null", "train=[]", "train=1"),
        *("train.1.sft.lr=nan", "train.1.sft.epochs=-1", "train.2.dpo.beta=0", "train.1.none=1"),
        *("heldout.prompts=none", "evaluate.temperature=-1", "evaluate.none=1", "arms={}"),
        *("learning_rate=nan", "max_steps=-5", "max_steps=1", "warmup_ratio=abc", "output_dir=/x"),
        *("optim=none", "report_to=[none]", "fp16=true", "eval_strategy=steps", "none=1"),
        *("num_train_epochs=[]", "per_device_train_batch_size=0", "beta=nan", "beta=[1]"),
        *("weight_decay=.inf", "max_grad_norm=-1", "seed=x", "dataloader_num_workers=-1"),
    ),
}
_CHOICES: Final = ("AUTO", "")


def values_of(param: click.Parameter) -> Sequence[str]:
    """What is tried of an option or argument; a flag has one value, the empty text."""
    if getattr(param, "is_flag", False):
        return ("",)
    metavar = str(param.metavar or "")
    if isinstance(param.type, click.types.IntParamType) or metavar in ("INT", "FLOAT"):
        return tuple(value for value in _NUMBERS if value not in _ENDLESS.get(param.opts[0], ()))
    if isinstance(param.type, click.Choice):
        return (*map(str, param.type.choices), *_CHOICES, *_TEXTS)
    if metavar == "true|false":
        return _SWITCHES
    if "=" in metavar:
        return (*_PAIRS[param.opts[0]], *_TEXTS, *_NUMBERS)
    return _of_text(param, metavar)


def _of_text(param: click.Parameter, metavar: str) -> Sequence[str]:
    if "|" in metavar and not metavar.startswith("TEXT"):
        return (*metavar.split("|"), *_CHOICES, *_TEXTS)
    if isinstance(param.type, click.Path):
        return (*_PLACES, *_TEXTS)
    if metavar.endswith("...]"):
        return (*_WORDS, *_WORDS_TOO, *_PAIRS.get(param.opts[0], ()), *_NUMBERS)
    return (*_WORDS, *_WORDS_TOO, *_PLACES, *_TEXTS)
