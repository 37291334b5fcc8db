"""`python -m benchmarks.one_backbone`: memory of PPO with four models on one base.

Policy, critic and reward model are LoRA adapters on the base, and the reference is the base without
them. ``--model`` is a model folder or a name. A reward adapter is made first, in a process of its
own; what it scores does not matter. Then PPO trains for one rollout. Peak memory is from the first
scores on, after all models are loaded: updates, sampling, scoring, and the optimiser's state. It is
compared with the base's weights: 1.35 times these is the goal. ``--separate`` trains with a critic
and a reward model of their own instead, for comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import polars as pl

from siftune.curate.core.schema import schema_of
from siftune.curate.rows.chat import turn

GOAL: Final = 1.35
"""Peak memory of training, in units of the base model's weights."""

_RANK: Final = 8
_PROMPTS: Final = ("Name a colour.", "Say hello to a friend.", "What is two plus two?", "Why?")


def main(words: list[str] | None = None) -> int:
    """Exit code 0: the goal is reached; 1: it is not."""
    asked = _asked(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.make:
        _make_reward(asked.model, Path(asked.make))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "reward"
        again = [sys.executable, "-m", "benchmarks.one_backbone", "--model", asked.model]
        subprocess.run([*again, "--make", str(made)], check=True)
        found = _trained(asked, Path(folder), made / ("whole" if asked.separate else "adapter"))
    print(json.dumps(found))
    return 0 if found["times"] <= GOAL or asked.separate else 1


def _asked(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.one_backbone")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--separate", action="store_true")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def _make_reward(model: str, out: Path) -> None:
    """A reward model with LoRA: its adapter alone, and merged."""
    from siftune.finetune.models import loading
    from siftune.finetune.models.lora import Kept, whole_model, with_adapter
    from siftune.finetune.models.saving import base_facts, save_model

    tokenizer = loading.load_tokenizer(model)
    kinds: tuple[tuple[Kept, str], ...] = (("keep", "adapter"), ("merge", "whole"))
    for kept, name in kinds:
        base: Any = loading.load_reward(model)
        trained = with_adapter(base, _RANK, 16, task="SEQ_CLS")
        beside = out / f"{name}.beside"
        beside.mkdir(parents=True)
        whole = whole_model(trained, kept, model, lambda: base, beside)  # noqa: B023
        save_model(whole, tokenizer, out / name, {"base": base_facts(model), "seed": 0}, beside)


def _trained(asked: argparse.Namespace, folder: Path, reward: Path) -> dict[str, Any]:
    """Train for one rollout; bytes of weights, and of the process from the first scores on."""
    import peft  # noqa: F401
    import torch
    import trl  # noqa: F401

    from siftune.curate.core import registry
    from siftune.finetune.models import loading
    from siftune.finetune.rewards.reward_model import RewardModel

    torch.set_num_threads(1)
    rows = folder / "rows.parquet"
    _rows().write_parquet(rows)
    seen: list[int] = []
    own = RewardModel.__call__

    def scored(self: RewardModel, *given: Any) -> list[float | None]:
        """Reset the peak at the first scores, read it at the next, after the updates."""
        found = own(self, *given)
        seen.append(_status("VmHWM") - before)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return found

    RewardModel.__call__ = scored  # type: ignore[method-assign]
    sizes: dict[str, int] = {}
    load = loading.load_causal

    def loaded(*given: Any, **named: Any) -> Any:
        model = load(*given, **named)
        each = {id(one): one for one in model.parameters()}.values()
        sizes.setdefault("base", sum(one.numel() * one.element_size() for one in each))
        return model

    loading.load_causal = loaded
    before = _status("VmRSS")
    options = {
        "model": asked.model, "reward": str(reward), "lora": _RANK, "rollouts": 1, "epochs": 1,
        "batch_size": asked.answers, "minibatches": 2, "micro_batch": 1, "kl_stop": None,
        "max_new_tokens": asked.new_tokens, "critic": "separate" if asked.separate else "adapter",
    }  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        registry.build("finetune.trainers", "ppo", options)(rows, folder / "out")
    return {
        "model": asked.model,
        "one_base": not asked.separate,
        "base_mb": round(sizes["base"] / 2**20, 1),
        "loading_mb": round(seen[0] / 2**20, 1),
        "training_mb": round(seen[1] / 2**20, 1),
        "times": round(seen[1] / sizes["base"], 3),
        "goal": GOAL,
    }


def _status(name: str) -> int:
    """Bytes of this process, by the name in its status."""
    words = Path("/proc/self/status").read_text(encoding="utf-8").split()
    return int(words[words.index(f"{name}:") + 1]) * 1024


def _rows() -> pl.DataFrame:
    table = [
        {
            "id": f"asked:{at}",
            "source": "asked",
            "row": at,
            "kind": "conversation",
            "digest": str(at),
            "messages": [turn("user", text), turn("assistant", "yes")],
        }
        for at, text in enumerate(_PROMPTS)
    ]
    return pl.DataFrame(table, schema=schema_of("conversation"))


if __name__ == "__main__":
    sys.exit(main())
