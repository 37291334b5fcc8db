"""`python -m benchmarks.one_backbone`: memory of PPO with four models on one base.

Policy, critic and reward model are LoRA adapters on the base, and the reference is the base without
them. ``--model`` is a model folder or a name. A reward adapter is made first, in a process of its
own; what it scores does not matter. Then PPO trains for one rollout: sampling, scores, two updates,
a second sampling, a checkpoint. Counted are the bytes of all tensors that exist at once, gradients,
activations and the optimiser's state among them, but not Python, its modules and what an allocator
keeps. They are compared with the base's weights: 1.35 times these is the goal. Beside them stand
resident memory (Linux alone) with all modules imported, with the models loaded, and at its peak.
``--separate`` trains with a critic and a reward model of their own instead, for comparison.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import polars as pl
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn

GOAL: Final = 1.35
"""Peak memory of training, in units of the base model's weights."""

_PROMPTS: Final = ("Name a colour.", "Say hello to a friend.", "What is two plus two?", "Why?")


def main(words: list[str] | None = None) -> int:
    """Exit code 0: the goal is reached; 1: it is not."""
    asked = _asked(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.make:
        _make_reward(asked.model, Path(asked.make), asked.rank, whole=asked.separate)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "reward"
        given = sys.argv[1:] if words is None else words
        again = [sys.executable, "-m", "benchmarks.one_backbone", *given, "--make", str(made)]
        subprocess.run(again, check=True)
        found = _trained(asked, Path(folder), made / "reward")
    print(json.dumps(found))
    return 0 if found["times"] <= GOAL or asked.separate else 1


def _asked(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.one_backbone")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--separate", action="store_true")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def _make_reward(model: str, out: Path, rank: int, whole: bool) -> None:
    """A reward model with LoRA: merged where it is to be ``whole``, else its adapter alone."""
    from siftune.finetune.models import loading
    from siftune.finetune.models.lora import whole_model, with_adapter
    from siftune.finetune.models.saving import base_facts, save_model

    base: Any = loading.load_reward(model)
    trained = with_adapter(base, rank, 16, task="SEQ_CLS")
    beside = out / "beside"
    beside.mkdir(parents=True)
    made = whole_model(trained, "merge" if whole else "keep", model, lambda: base, beside)
    facts = {"base": base_facts(model), "seed": 0}
    save_model(made, loading.load_tokenizer(model), out / "reward", facts, beside)


class Tensors(TorchDispatchMode):
    """The most bytes that tensors have at once in the block: each storage once, on any device."""

    def __init__(self, there: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}
        self._total = self.peak = 0
        for one in there:
            self._add(one)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and count what it returns."""
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, torch.Tensor):
                self._add(one)
        return found

    def _add(self, one: torch.Tensor) -> None:
        storage = one.untyped_storage()
        known = self._known.get(storage._cdata)
        if known is not None and not known[0].expired():
            return
        self._total += storage.nbytes() - (0 if known is None else known[1])
        self._known[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        if self._total > self.peak:  # it may be without what has been freed since
            alive = {key: one for key, one in self._known.items() if not one[0].expired()}
            self._known, self._total = alive, sum(size for _, size in alive.values())
            self.peak = max(self.peak, self._total)


def _trained(asked: argparse.Namespace, folder: Path, reward: Path) -> dict[str, Any]:
    """Train for one rollout; bytes of weights and of all tensors."""
    from siftune.curate.core import registry
    from siftune.finetune.data import training_rows
    from siftune.finetune.models import loading
    from siftune.finetune.rewards.types import reward_of
    from siftune.finetune.rl.backbone import load_whole

    for name in ("peft", "transformers.trainer", "siftune.finetune.rl.prepare"):
        importlib.import_module(name)  # before resident memory is read
    torch.set_num_threads(1)
    rows = folder / "rows.parquet"
    _rows().write_parquet(rows)
    options = {
        "model": asked.model, "reward": str(reward), "lora": asked.rank, "rollouts": 1,
        "epochs": 1, "batch_size": asked.answers, "minibatches": 2, "micro_batch": 1,
        "kl_stop": None, "max_new_tokens": asked.new_tokens, "precision": asked.precision,
        "critic": "separate" if asked.separate else "adapter",
    }  # fmt: skip
    trainer: Any = registry.build("finetune.trainers", "ppo", options)
    resident = {"resident_python_mb": _resident("VmRSS")}
    score = reward_of(str(reward), {}, asked.precision)
    load_whole(score)
    table = training_rows.load(rows, ("conversation",))
    tokenizer = loading.load_tokenizer(asked.model)
    loop, _, _ = trainer._loop(table, tokenizer, score, rows, folder / "work")
    policy = loop.ac.policy.get_base_model()
    base = [one for name, one in policy.named_parameters() if "lora_" not in name]
    models = [*loop.ac.parameters(), *_own_parameters(score)]
    resident["resident_loaded_mb"] = _resident("VmRSS")
    with Tensors(models) as tensors:
        loop.train()
    one = sum(each.numel() * each.element_size() for each in base)
    every = {id(each): each.numel() * each.element_size() for each in models}
    return {
        "model": asked.model,
        "one_base": not asked.separate,
        "precision": asked.precision,
        "rank": asked.rank,
        "answers": asked.answers,
        "new_tokens": asked.new_tokens,
        "base_mb": round(one / 2**20, 1),
        "models_mb": round(sum(every.values()) / 2**20, 1),
        "peak_mb": round(tensors.peak / 2**20, 1),
        "times": round(tensors.peak / one, 3),
        "goal": GOAL,
        **resident,
        "resident_peak_mb": _resident("VmHWM"),
    }


def _resident(name: str) -> float | None:
    """Resident memory of this process now (``VmRSS``) or at its peak (``VmHWM``), in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (line,) = (line for line in status.read_text("utf-8").splitlines() if line.startswith(name))
    return round(int(line.split()[1]) / 1024, 1)


def _own_parameters(reward: Any) -> list[torch.Tensor]:
    """The weights of a reward model that is no adapter."""
    model = reward._parts[0]
    return list(model.parameters()) if isinstance(model, torch.nn.Module) else []


def _rows() -> pl.DataFrame:
    table = [
        {
            "id": f"asked:{at}",
            "source": "asked",
            "row": at,
            "kind": "conversation",
            "digest": str(at),
            "messages": [turn("system", "Be brief."), turn("user", text), turn("assistant", "yes")],
        }
        for at, text in enumerate(_PROMPTS)
    ]
    return pl.DataFrame(table, schema=schema_of("conversation"))


if __name__ == "__main__":
    sys.exit(main())
