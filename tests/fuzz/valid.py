"""Arguments with which every command ends well, on small rows and models: `prepare`, `arguments`.

A training takes one step, of a model of one layer, so that a command line costs half a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from siftune.finetune.core.methods import family_of
from tests.fuzz.commands import called
from tests.tiny_models import embedder, language_model, reward_model

__all__ = ["Options", "arguments", "companions", "options_of", "prepare"]

Options = dict[str, str]
"""Values by flag; the value of a flag that takes none is the empty text."""

_COUNT: Final = 6

_SCORED: Final = """
source: rows.jsonl
stages:
  - {score: length, of: both}
  - score: heuristics
"""
_EMBEDDED: Final = "  - {score: embedding, model: embedder, cache: vectors}\n"
_LENGTHS: Final = "source: pairs.jsonl\nstages: [{score: length}]\n"
_CURATE: Final = """
source: rows.jsonl
stages:
  - score: length
  - select: exact_dedup
  - {select: random, rows: 4}
"""
_PIPELINE: Final = """
base: lm
rows: {source: rows.jsonl, stages: [{select: random, rows: 4}]}
pairs: {source: pairs.jsonl, stages: []}
heldout: {prompts: rows.jsonl}
train:
  - sft: {batch_size: 4, held_out: 0}
  - dpo: {batch_size: 4, held_out: 0}
evaluate: {limit: 1, max_new_tokens: 2}
"""
_ARENA: Final = """
base: lm
pool: {source: rows.jsonl, stages: []}
budgets: [2 rows]
seeds: [0]
train: {sft: {batch_size: 4}}
heldout: {other: {rows: held-out.jsonl, limit: 1, measures: [nll]}}
overlap: allow
"""
_SHAPE: Final = {"--vocab-size": "300", "--hidden": "16", "--layers": "1", "--heads": "2"}
_INIT: Final = {**_SHAPE, "--context": "32", "--steps": "1", "--batch-size": "2"}
_ONE_STEP: Final = {"--batch-size": "4", "--held-out": "0"}
_LENGTH: Final = {"--reward": "length", "--reward-options": "{target: 3}"}
_ROLLOUT: Final = {
    "--model": "lm",
    "--rollouts": "1",
    "--batch-size": "2",
    "--minibatches": "1",
    "--epochs": "1",
    "--max-new-tokens": "2",
    **_LENGTH,
}
_GROUPED: Final = (*("grpo", "dapo", "dr_grpo", "rloo", "reinforce_pp", "gspo", "cispo", "opo"),)
_OF_PAIRS: Final = ("reward", "reward_ensemble", "propose_reward")
_SAMPLED: Final = {"--limit": "1", "--max-new-tokens": "2"}

_POSITIONAL: Final[Mapping[str, Mapping[str, str]]] = {
    "curate ingest": {"sources": "rows.jsonl"},
    "curate run": {"recipe": "curate.yaml"},
    "curate methods": {"name": "deita"},
    "curate explain": {"run": "run", "row_id": "rows:1"},
    "curate export": {"run": "run"},
    "finetune init": {"rows": "text.txt"},
    "finetune merge": {"models": "lm", "second": "lm"},
    "finetune conformance": {"target": "siftune.finetune.losses.pair.dpo:DPO"},
    "pipelines arena": {"recipe": "arena.yaml"},
    "pipelines run": {"recipe": "pipeline.yaml"},
    "report": {"run": "run"},
    "models get": {"name": "smollm2"},
    "models path": {"name": "smollm2"},
}
_OPTIONS: Final[Mapping[str, Options]] = {
    "curate score contamination": {"--against": "held-out.jsonl"},
    "curate score dsir": {"--against": "held-out.jsonl"},
    "curate score target_similarity": {"--against": "scored"},
    "curate score embedding": {"--model": "embedder"},
    "curate score ifd": {"--model": "lm"},
    "curate score perplexity": {"--model": "lm"},
    **{
        f"curate score {name}": {"--model": "lm", "--against": "held-out.jsonl"}
        for name in ("nuggets", "tss")
    },
    "curate score classifier": {"--model": "rm"},
    "curate score policy_logp": {"--model": "lm"},
    "curate score rds": {"--model": "lm"},
    "curate score selectit": {"--model": "lm", "--prompts": "1"},
    "curate select car": {"--by": "length_chars", "--rows": "3"},
    "curate select cluster_balanced": {"--rows": "3"},
    "curate select deita_filter": {"--rows": "3", "--by": "length_chars"},
    "curate select facility_location": {"--rows": "3"},
    "curate select k_center": {"--rows": "3"},
    "curate select longest": {"--rows": "3"},
    "curate select mixture": {"--rows": "3"},
    "curate select mmr": {"--rows": "3", "--by": "length_chars"},
    "curate select pareto": {"--by": "length_chars,length_words", "--rows": "3"},
    "curate select quota": {"--group-by": "source", "--rows": "2"},
    "curate select random": {"--rows": "3"},
    "curate select rds_round_robin": {
        "--rows": "3",
        "--against": "scored",
        "--embedding": "embedding",
    },
    "curate select split": {"--test-share": "0.5"},
    "curate select stratified": {"--value": "length_chars", "--rows": "3"},
    "curate select threshold": {"--by": "length_chars", "--min": "1"},
    "curate select top_fraction": {"--by": "length_chars", "--fraction": "0.5"},
    "curate select top_k": {"--by": "length_chars", "--rows": "3"},
    "finetune init": _INIT,
    "finetune reward": {"--model": "lm", **_ONE_STEP},
    "finetune reward_ensemble": {
        "--model": "lm",
        "--members": "2",
        "--reward-options": "{options: {max_steps: 1}}",
    },
    "finetune coverage": {"--against": "pairs.jsonl", "--model": "embedder", "--clusters": "2"},
    "finetune propose_reward": {
        "--judge": "lm",
        "--task": "politeness",
        "--count": "1",
        "--rounds": "1",
        "--limit": "2",
        "--max-tokens": "2",
    },
    "finetune judge": {"--model": "lm", "--batch-size": "4", "--held-out": "0.9"},
    "finetune sft": {"--model": "lm", **_ONE_STEP},
    "finetune gkd": {"--model": "lm", "--ref-model": "lm", **_ONE_STEP},
    "finetune ppo": _ROLLOUT,
    **{f"finetune {name}": {**_ROLLOUT, "--group-size": "2"} for name in _GROUPED},
    "finetune evaluate": {"--model": "lm", **_SAMPLED},
    "finetune sample": {
        "--model": "lm",
        "--count": "16",
        **_LENGTH,
        "--limit": "1",
        "--max-new-tokens": "64",  # two of the answers end
    },
    "finetune compare": {
        "--model": "lm",
        "--losses": "dpo",
        "--seeds": "0",
        "--batch-size": "4",
        "--held-out": "0.3",
        "--answers": "1",
        "--max-new-tokens": "2",
    },
    "models get": {"--from": "text.txt"},
}
_COMPANIONS: Final[Mapping[str, Options]] = {
    "--lora-alpha": {"--lora": "2"},
    "--adapter": {"--lora": "2"},
    "--load-in-4bit": {"--lora": "2"},
    "--patience": {"--held-out": "0.5", "--save-every": "1"},
    "--keep": {"--held-out": "0.5", "--save-every": "1"},
    "--eval-limit": {"--eval-rows": "held-out.jsonl", "--max-new-tokens": "2"},
    "--max-new-tokens": {"--eval-rows": "held-out.jsonl", "--eval-limit": "1"},
    "--eval-rows": {"--eval-limit": "1", "--max-new-tokens": "2"},
    "--ref-mixup-alpha": {"--ref-sync-steps": "1", "--track-reference": "true"},
    "--ref-sync-steps": {"--track-reference": "true"},
    "--max-kl": {"--track-reference": "true"},
    "--cache": {"--precompute-reference": "true"},
    "--kl-horizon": {"--kl-target": "1"},
    "--ptx-coef": {"--ptx-rows": "rows.jsonl"},
    "--ptx-rows": {"--ptx-coef": "1"},
    "--reward-options": {"--reward": "length"},
    "--mixture": {"--reference": "lm"},
    "--opponents": {"--reference": "lm"},
    "--scale": {"--opponents": "2"},
    "--loss-options": {"--losses": "dpo,simpo"},
    "--tokens-by": {"--tokens": "40"},
    "--task-options": {"--kind": "con_j"},
    "--bands": {"--candidates": "minhash"},
    "--rows-per-band": {"--candidates": "minhash"},
}
"""What an option goes with: without it, it is refused before it is looked at, or not read."""

_SWAPPED: Final[Mapping[str, Options]] = {
    "--fraction": {"--rows": ""},
    "--tokens": {"--rows": "", "--tokens-by": "length_words"},
    "--tokens-by": {"--rows": "", "--tokens": "40"},
}
"""Of a budget: options that are left out (an empty value) for another, and what that needs."""

_OF_SCORED: Final = ("semantic_dedup", "cluster_balanced", "deita_filter", "facility_location")
_OF_SCORED_TOO: Final = (
    "car",
    "clusters",
    "target_similarity",
    "flags",
    "rds_round_robin",
    "k_center",
    "mmr",
    "pareto",
    "stratified",
    "threshold",
    "top_fraction",
    "top_k",
)


def arguments(words: tuple[str, ...], positional: Iterable[str]) -> dict[str, str]:
    """The values of a command's arguments by their names."""
    known = _POSITIONAL.get(" ".join(words), {})
    return {name: known.get(name) or _rows_of(words) for name in positional} | {**known}


def _rows_of(words: tuple[str, ...]) -> str:
    """The rows that a command reads."""
    name, family = words[-1], family_of(words[-1]) or ""
    if words[0] == "curate":
        return "scored" if name in (*_OF_SCORED, *_OF_SCORED_TOO) else _curated(name)
    if name == "judge":
        return "labelled.jsonl"
    if name in ("reward", "reward_ensemble", "compare", "propose_reward") or family.endswith(
        ".pair"
    ):
        return "pairs.jsonl"
    return (
        "ranked.jsonl" if name == "rejection" or family.endswith(".listwise") else _single(family)
    )


def _curated(name: str) -> str:
    return "lengths" if name == "balanced" else "rows.jsonl"


def _single(family: str) -> str:
    return "answers.jsonl" if family else "rows.jsonl"


def options_of(words: tuple[str, ...]) -> Options:
    """The options without which a command does not work, or takes longer than one step."""
    name = " ".join(words)
    if name in _OPTIONS:
        return dict(_OPTIONS[name])
    return {"--model": "lm", **_ONE_STEP} if family_of(words[-1]) else {}


def companions(flag: str, words: tuple[str, ...], known: Iterable[str]) -> Options:
    """What is given beside ``flag`` where it is tried, of the flags that the command knows."""
    given = options_of(words) | _COMPANIONS.get(flag, {})
    if words[1:2] == ("select",) and "--rows" in given:
        given |= _SWAPPED.get(flag, {})
    flags = set(known)
    return {name: value for name, value in given.items() if name in flags and value}


def prepare(folder: Path, models: bool = True) -> None:
    """Write what the arguments name into ``folder``, which is the current one.

    Without ``models``, commands that read one, or embeddings, do not work.
    """
    for name, rows in _tables().items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipes = {"scored": _SCORED, "lengths": _LENGTHS, "curate": _CURATE, "pipeline": _PIPELINE}
    recipes["arena"] = _ARENA
    if models:
        recipes["scored"] += _EMBEDDED
        reward_model(language_model(folder / "lm"), folder / "rm")
        embedder(folder / "embedder")
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)
    _made("curate", "ingest", "rows.jsonl", "--out", "run")
    for name in ("scored", "lengths"):
        _made("curate", "run", f"{name}.yaml", "--out", name)
    (folder / "folder").mkdir()
    (folder / "noise.parquet").write_bytes(bytes(range(256)))
    (folder / "empty.jsonl").write_bytes(b"")


def _made(*words: str) -> None:
    done = called(*words)
    if done.code:
        raise RuntimeError(f"what is tried on cannot be made: {words}: {done.message}")


def _tables() -> dict[str, list[dict[str, Any]]]:
    asked = [{"prompt": f"Say {at}."} for at in range(_COUNT)]
    good = [f"{at} is it, and {'more ' * at}that." for at in range(_COUNT)]
    numbers = {"win_probability": 0.5, "reward": 1.0, "weight": 2.0}
    lists = {"scores": [1.0, 0.0], "win_rate": [0.7, 0.3], "by_reference": [1, 0]}
    return {
        "rows": [row | {"completion": text} for row, text in zip(asked, good, strict=True)],
        "held-out": [{"prompt": "Say hello.", "completion": "Hello."}],
        "pairs": [
            row
            | {"chosen": text, "rejected": "no", "score_chosen": 2.0, "score_rejected": 1.0}
            | {"win_probability": 0.5}
            for row, text in zip(asked, good, strict=True)
        ],
        "labelled": [
            {"prompt": f"Say {at}.", "chosen": f"It is {at}.", "rejected": "no"} for at in range(24)
        ],
        "answers": [
            row | {"completion": text, "label": at % 2 == 0, **numbers}
            for at, (row, text) in enumerate(zip(asked, good, strict=True))
        ],
        "ranked": [
            row | {"completions": [text, "no"], **lists}
            for row, text in zip(asked, good, strict=True)
        ],
    }
