"""`python -m benchmarks.gpu`: what a GPU does here, in at most eight minutes, from nothing.

Rows are made up by a seed and models have random weights in the shapes of MiniLM and SmolLM2, so
neither a network nor a file beside the repository is needed. Parts: the limits of this GPU (matrix
products, copying), embedding, k-center and semantic dedup on vectors of width 384, IFD beside a
loop of single rows, and steps of DPO, and rollouts and updates of GRPO and RLOO, beside TRL (same
model, same batch). Each part runs in a process of its own until its clock ends it, and is compared
with the CPU: decisions are equal, scores within the tolerance that the table has. Prints a table;
`--out` has all figures as JSON. The parts of GRPO and RLOO have not been run on a GPU yet.

`--scale 0.01` takes fewer rows and small models; with `--cpu` it runs without a GPU, which tries
the script out and measures nothing of interest.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from benchmarks.made_up_models import llama_options
from benchmarks.worker import peak_mb

_MINUTES: Final = 8.0
_ENDING: Final = 5.0  # seconds in which a process that has sent its facts frees what it holds
_PARTS: Final = "benchmarks.ours.gpu"
_DPO: Final = "benchmarks.ours.dpo"
_RL: Final = "benchmarks.ours.on_policy"
COSINE: Final = 0.999
"""Least cosine of an embedding to that of the CPU in fp32."""
LOSS: Final = 1e-3
"""Largest difference of a mean loss, in nats, to that of the CPU in fp32, or of DPO's to TRL's."""


@dataclass(frozen=True)
class Part:
    """A process to run: ``seconds`` is its clock, ``limit`` the product that bounds its speed."""

    name: str
    module: str
    options: Mapping[str, Any]
    seconds: float
    limit: str = ""


@dataclass
class Clock:
    """The time that is left of all; ``gpu`` is whether one is used."""

    minutes: float
    gpu: bool
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return 60 * self.minutes - (time.monotonic() - self.start)


def parts(scale: float, device: str) -> list[Part]:
    """The parts, at a share of their rows; below a tenth, with small models."""
    full = scale >= 0.1
    common = {"device": device, "full": full}
    rows = max(200, round(100_000 * scale))
    vectors = max(2_000, round(1_000_000 * scale))
    checked = min(30_000, vectors // 2)
    chats = max(10, round(2_000 * scale))
    shape = llama_options(not full)
    pairs = {"prompt": 128, "answer": 128, "pairs": 8, "steps": 10, "micro_tokens": 1 << 20}
    if not full:
        pairs |= {"prompt": 16, "answer": 16, "pairs": 2}
        shape |= {"vocabulary": 2_048}
    few = pairs | {"pairs": 2, "steps": 2}
    rollout = {"prompt": 256, "answer": 128, "prompts": 8, "answers": 8, "rollouts": 2}
    if not full:
        rollout = {"prompt": 16, "answer": 16, "prompts": 2, "answers": 4, "rollouts": 1}
    dpo = {**shape, "threads": os.cpu_count() or 1}
    ours, theirs = {"way": "siftune"}, {"way": "trl"}
    on, cpu = {"device": device}, {"device": "cpu"}

    def rl(name: str, **options: Any) -> Part:
        return Part(name, _RL, {**dpo, **rollout, **on, **options}, 45)

    def part(name: str, seconds: float, limit: str = "", **options: Any) -> Part:
        return Part(name, _PARTS, {"part": name, **common, **options}, seconds, limit)

    return [
        part("limits", 75),
        part("embedding", 90, "minilm_bf16", rows=rows, checked=min(200, rows)),
        part("k_center", 90, "search_fp32", rows=vectors, checked=checked, k=min(1_000, rows)),
        part("semantic_dedup", 120, "search_bf16", rows=vectors, checked=checked),
        part("ifd", 75, "square_fp32", rows=chats, checked=min(16, chats)),
        Part("dpo", _DPO, {**dpo, **pairs, **ours, **on}, 60),
        Part("dpo by TRL", _DPO, {**dpo, **pairs, **theirs, **on}, 60),
        Part("dpo, few pairs", _DPO, {**dpo, **few, **ours, **on}, 45),
        Part("dpo, few pairs, CPU", _DPO, {**dpo, **few, **ours, **cpu}, 60),
        rl("grpo", method="grpo", **ours),
        rl("grpo by TRL", method="grpo", **theirs),
        rl("rloo", method="rloo", **ours),
        rl("rloo by TRL", method="rloo", **theirs),
        rl("grpo, given answers", method="grpo", given=True, **ours),
        rl("grpo, given answers, by TRL", method="grpo", given=True, **theirs),
    ]


def run(part: Part, clock: Clock) -> dict[str, Any]:
    """The facts of a part, or ``why`` there are none.

    Without a GPU the processes are forked from one that has loaded the modules; with one each
    starts afresh, because a process cannot use a GPU that its parent has looked at.
    """
    seconds = min(part.seconds * clock.minutes / _MINUTES, clock.left)
    if seconds < 1:
        return {"why": "no time was left"}
    context: Any = multiprocessing.get_context("spawn" if clock.gpu else "forkserver")
    if not clock.gpu:
        context.set_forkserver_preload([_PARTS, _DPO, "transformers", "trl.trainer.dpo_trainer"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, sender), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            return {"why": f"stopped by its clock after {seconds:.0f} s"}
        facts: dict[str, Any] = receiver.recv()
        process.join(_ENDING)
        return facts
    except EOFError:
        return {"why": "its process ended without a result"}
    finally:
        process.kill()
        process.join()


def _work(part: Part, sender: Connection) -> None:
    printed = io.StringIO()  # progress bars and log lines of libraries
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            facts = importlib.import_module(part.module).work(dict(part.options))
        facts["peak_mb"] = peak_mb()
    except Exception as error:  # of any part: the others run on, and the table has the reason
        lines = str(error).strip().splitlines() or ["no message"]
        facts = {"why": f"{type(error).__name__}: {lines[0]}"}
    sender.send(facts)


Results = Mapping[str, Mapping[str, Any]]
_SAME_LOSS: Final = (
    ("dpo", "dpo by TRL"),
    ("dpo, few pairs", "dpo, few pairs, CPU"),
    ("grpo, given answers", "grpo, given answers, by TRL"),
)


def checks(found: Results) -> dict[str, bool]:
    """Whether results of the device equal those of the CPU, and losses those of TRL."""
    made: dict[str, bool] = {}
    for name in ("k_center", "semantic_dedup"):
        if "equal" in found[name]:
            made[f"{name}: decisions equal"] = found[name]["equal"]
    if "least_cosine" in found["embedding"]:
        made[f"embedding: cosine ≥ {COSINE}"] = found["embedding"]["least_cosine"] >= COSINE
    if "largest_difference" in found["ifd"]:
        made[f"ifd: losses within {LOSS:g}"] = found["ifd"]["largest_difference"] <= LOSS
    for name, other in _SAME_LOSS:
        if all("losses" in found[one] for one in (name, other)):
            sides = zip(found[name]["losses"], found[other]["losses"], strict=True)
            gap = max(abs(one - two) for one, two in sides)
            made[f"{name}: losses within {LOSS:g} of {other}"] = gap <= LOSS
    return made


def table(asked: Sequence[Part], found: Results) -> Iterator[str]:
    """Markdown: seconds, rate, and shares of the limits that were measured in the same run."""
    yield "| part | rows | seconds | rate | of the matrix product | of copying | GPU MB |"
    yield "|---|---|---|---|---|---|---|"
    limits = found["limits"]
    for part in asked:
        facts = found[part.name]
        if "why" in facts:
            yield f"| {part.name} | | not measured: {facts['why']} | | | | |"
        elif part.name != "limits":
            asks = part.options
            rows = asks.get("rows") or asks.get("pairs") or asks["prompts"] * asks["answers"]
            cells = (f"{rows:,}", f"{facts['wall']:.2f}", *_rates(part, facts, limits))
            memory = f"{facts['gpu_mb']:,.0f}" if "gpu_mb" in facts else ""
            yield f"| {' | '.join((part.name, *cells, memory))} |"
    for name, value in limits.items():
        if name.endswith(("_tflops", "_gb_s")):
            yield f"| limit: {name} | | | {value:,.2f} | | | |"


def _rates(part: Part, facts: Mapping[str, Any], limits: Mapping[str, Any]) -> tuple[str, str, str]:
    """Rate, and the shares of products and of copying: one reading of the rows, no more."""
    rows = part.options.get("rows")
    rate = f"{rows / facts['wall']:,.0f} rows/s" if rows else ""
    if "tokens" in facts:
        rate = f"{facts['tokens'] / facts['wall']:,.0f} tokens/s"
    if "loop_wall" in facts:
        loop = facts["loop_tokens"] / facts["loop_wall"]
        rate += f" (row by row {loop:,.0f})"
    product, copying = limits.get(f"{part.limit}_tflops"), limits.get("copy_gb_s")
    shares = ["", ""]
    if product and "flops" in facts:
        shares[0] = f"{facts['flops'] / facts['wall'] / 1e12 / product:.1%}"
    if copying and "bytes" in facts:
        shares[1] = f"{facts['bytes'] / facts['wall'] / 1e9 / copying:.1%}"
    return rate, shares[0], shares[1]


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0: all parts ran and agree with the CPU; 1: one does not; 2: there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU, to try it out")
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, help="time for all parts; their clocks share it"
    )
    parser.add_argument("--out", type=Path, help="file for all figures as JSON")
    asked = parser.parse_args(words)
    name = None if asked.cpu else _gpu()
    if name is None and not asked.cpu:
        print("no GPU is found here: nothing is measured; --cpu --scale 0.01 tries the script out")
        return 2
    if asked.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    clock = Clock(asked.minutes, not asked.cpu)
    found: dict[str, dict[str, Any]] = {}
    every = parts(asked.scale, "cpu" if asked.cpu else "cuda")
    for part in every:
        found[part.name] = run(part, clock)
        last = found[part.name].get("why", "done")
        print(f"{part.name}: {last}; {clock.left:.0f} s are left", file=sys.stderr, flush=True)
    same = checks(found)
    print(f"device: {name or 'CPU'}, scale {asked.scale:g}")
    print("\n".join(table(every, found)))
    print("\n".join(f"{'yes' if good else 'NO'}: {check}" for check, good in same.items()))
    if asked.out:
        result = {"device": name or "cpu", "scale": asked.scale, "parts": found, "checks": same}
        asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(not all(same.values()) or any("why" in facts for facts in found.values()))


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


if __name__ == "__main__":
    sys.exit(main())
