"""Folders of a training run and their files: the model folder OUT, OUT.work, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from siftune.curate.files.output_marker import marker_of
from siftune.curate.files.outputs import check_folder, check_place, check_run_folder, may_overwrite
from siftune.finetune.core import distributed

__all__ = [
    "BESIDE_FILES",
    "CHECKPOINT_FILES",
    "COMPARISON_FILES",
    "ENSEMBLE_FILES",
    "WORK_FILES",
    "check_comparison",
    "check_model",
    "work_of",
]

_SHARD: Final = "-{number}-of-{number}"
_WEIGHTS: Final = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin")
_TOKENIZER: Final = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "chat_template.jinja", "processor_config.json"),
)
_STATE: Final = (
    *("trainer_state.json", "training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt"),
    *("scaler.pt", "rng_state.pth", "rng_state_{number}.pth"),
)
_FSDP: Final = ("pytorch_model_fsdp_{number}", "optimizer_{number}")

CHECKPOINT_FILES: Final = (
    *("sealed.json", "watch.json", "pending.json", "pending_{number}.json", "rl.json"),
    *("reference.safetensors", "value_head.safetensors"),
    *_WEIGHTS,
    *(f"{name}.index.json" for name in _WEIGHTS),
    *(f"model{_SHARD}.safetensors", f"pytorch_model{_SHARD}.bin", "pytorch_model_fsdp.bin"),
    *("config.json", "generation_config.json", "adapter_config.json", "README.md"),
    *_TOKENIZER,
    *_STATE,
    *(f"{folder}/" for folder in _FSDP),
    *(
        f"{folder}/{name}"
        for folder in _FSDP
        for name in (".metadata", "__{number}_{number}.distcp")
    ),
)
"""What may be in a checkpoint that is not sealed; a sealed one has a list of its own."""

BESIDE_FILES: Final = (
    *("metrics.jsonl", "held_out.jsonl", "dropped.jsonl", "value_head.safetensors"),
    *("known_states.safetensors", "gate.safetensors"),
    *("evaluation.json", "evaluation/", "evaluation/step-{number}.jsonl"),
    *("watch.jsonl", "alarms.json", "watch/", "watch/step-{number}.jsonl"),
    *("answers.json", "answers/", "answers/step-{number}.jsonl"),
    *("adapter_model.safetensors", "adapter_config.json", "adapter/", "judge.json"),
    *("adapter/adapter_model.safetensors", "adapter/adapter_config.json"),
)
"""What training writes beside the model."""

WORK_FILES: Final = (
    *("run.json", "logps-{hex32}.parquet", "beside/", "beside.{number}/"),
    *(f"{folder}/{name}" for folder in ("beside", "beside.{number}") for name in BESIDE_FILES),
    *("checkpoint-{number}/", *(f"checkpoint-{{number}}/{name}" for name in CHECKPOINT_FILES)),
)
"""All that training writes into OUT.work, as names of `output_marker.Marker`."""

COMPARISON_FILES: Final = (
    *("compare.json", "split.json", "train.parquet", "held_out.parquet"),
    *("{name}-{number}.cpu.json", "{name}-{number}.evaluated.json"),
    *("{name}-{number}/", "{name}-{number}.work/"),  # model folders, with own markers
)
"""All that `siftune finetune compare` writes."""

ENSEMBLE_FILES: Final = (
    *("ensemble.json", "split.json", "held_out.parquet", "rows-{number}.parquet"),
    *("member-{number}/", "member-{number}.work/"),  # model folders, with own markers
)
"""All that `siftune finetune reward_ensemble` writes."""


def work_of(out: Path) -> Path:
    """The folder of checkpoints of the model folder ``out``."""
    return out.with_name(f"{out.name}.work")


def check_model(path: Path, command: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output path that ``command``, a training, may not write to.

    A model folder of the same command is not refused here: it may be the finished run itself, which
    its options and data decide (`Run.finished`).
    """
    if not distributed.first():  # the first process makes folders meanwhile
        return
    check_place(path, inputs)
    if may_overwrite() or not _may_be_finished(path, command):
        check_folder(path, command)
    check_run_folder(work_of(path), command, WORK_FILES, inputs)


def _may_be_finished(path: Path, command: str) -> bool:
    if not path.is_dir():
        return False
    marker = marker_of(path)
    if marker is None:  # a model folder of an earlier version has none
        return (path / "siftune.json").is_file()
    return marker.command == command


def check_comparison(path: Path, command: str, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output path that ``command``, a comparison, may not write into."""
    check_run_folder(path, command, COMPARISON_FILES, inputs)
