"""`python -m benchmarks.preference`: DPO against TRL's trainer, and a list against all its pairs.

Random tokens, a small Llama from its config with a vocabulary of 32,000, one thread; every way runs
in a process of its own, in turns. What is counted is `trainer.train()`: CPU seconds (user and
system), and the greatest resident memory over that with both models loaded. Tokens are those of
both sequences of a pair, however many of them were run. Added are the number of objectives, and how
many of the classic bugs the last `make mutations` caught.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Contestant, Sample, Spread, alternate
from siftune.finetune.core.methods import objectives

_MODULE: Final = "benchmarks.ours.dpo"
_WAYS: Final = ("siftune", "siftune-unshared", "trl", "trl-plain")
_MODEL: Final = {"width": 256, "layers": 4, "vocabulary": 32_000, "micro_tokens": 4096}
_SHAPES: Final = ((256, 64), (512, 64))
_ANSWERS: Final = 7
GOALS: Final = {"speed": 2.0, "memory": 0.5, "loss": 1e-4, "list_tokens": 0.4, "objectives": 35}
_KILLS: Final = Path(__file__).parents[1] / "tests" / "oracles" / "KILLS.md"


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0: every goal is reached; 1: one is not, and the figures mark it."""
    asked = _asked(words)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    repeats, steps = (1, 2) if asked.quick else (3, 3)
    shapes = _SHAPES[:1] if asked.quick else _SHAPES
    found = {f"{p}/{a}": _shape(p, a, repeats, steps) for p, a in shapes}
    ranked = _ranked(repeats)
    proved = _proved()
    result = {"goals": GOALS, "pairs": found, "list": ranked, "proved": proved}
    met = _met(found, ranked, proved)
    _show(found, ranked, proved)
    if asked.json:
        print(json.dumps(result | {"met": met}))
    return 0 if met else 1


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preference", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="one shape, one turn, two steps")
    return parser.parse_args(words)


def _shape(prompt: int, answer: int, repeats: int, steps: int) -> dict[str, Any]:
    """All ways on pairs of one shape; ratios: TRL over ours for time, ours over TRL for memory."""
    options = {**_MODEL, "prompt": prompt, "answer": answer, "pairs": 4, "steps": steps}
    _say(f"prompt {prompt}, answers {answer}")
    samples = _run(_WAYS, options, repeats)
    found: dict[str, Any] = {
        way: {
            "tokens_per_cpu_second": _spread([s.facts["tokens"] / s.cpu for s in runs]),
            "extra_mb": _spread([s.facts["extra_mb"] for s in runs]),
            "losses": runs[0].facts["losses"],
        }
        for way, runs in samples.items()
    }
    own = samples["siftune"]
    for way, runs in samples.items():
        if way != "siftune":
            found[way]["ratios"] = _against(own, runs)
    return found


def _against(own: Sequence[Sample], other: Sequence[Sample]) -> dict[str, Any]:
    turns = list(zip(own, other, strict=True))
    return {
        "speed": _spread([b.cpu / a.cpu for a, b in turns]),
        "memory": _spread([a.facts["extra_mb"] / b.facts["extra_mb"] for a, b in turns]),
        "loss": max(
            abs(one - two)
            for a, b in turns
            for one, two in zip(a.facts["losses"], b.facts["losses"], strict=True)
        ),
    }


def _ranked(repeats: int) -> dict[str, Any]:
    """Seven answers to one prompt as a list, against the 21 pairs made of them."""
    _say(f"{_ANSWERS} answers to one prompt")
    options = {**_MODEL, "prompt": 256, "answer": 64, "answers": _ANSWERS}
    samples = _run(("list", "pairs"), options, repeats)
    turns = list(zip(samples["list"], samples["pairs"], strict=True))
    tokens = {way: runs[0].facts["tokens"] for way, runs in samples.items()}
    return {
        "tokens": tokens,
        "list_tokens": tokens["list"] / tokens["pairs"],
        "cpu": _spread([a.cpu / b.cpu for a, b in turns]),
    }


def _run(ways: Sequence[str], options: dict[str, Any], repeats: int) -> dict[str, list[Sample]]:
    contestants = [
        Contestant(way, _MODULE, {**options, "way": way}, options.get("pairs", 1), repeats)
        for way in ways
    ]
    samples = alternate(contestants, _say)
    missing = [way for way in ways if not samples.get(way)]
    if missing:
        raise SystemExit(f"could not run: {', '.join(missing)}")
    return samples


def _proved() -> dict[str, int]:
    """Objectives in the registry; bugs that were put back, and how many a test caught."""
    told = re.search(r"(\d+) of (\d+) are caught", _KILLS.read_text(encoding="utf-8"))
    caught, bugs = map(int, told.groups()) if told else (0, 0)
    return {"objectives": len(objectives()), "bugs": bugs, "caught": caught}


def _met(found: dict[str, Any], ranked: dict[str, Any], proved: dict[str, int]) -> bool:
    against = [shape["trl"]["ratios"] for shape in found.values()]
    every = proved["objectives"] >= GOALS["objectives"] and 0 < proved["bugs"] == proved["caught"]
    return (
        every
        and ranked["list_tokens"] <= GOALS["list_tokens"]
        and all(
            one["speed"]["median"] >= GOALS["speed"]
            and one["memory"]["median"] <= GOALS["memory"]
            and one["loss"] <= GOALS["loss"]
            for one in against
        )
    )


def _show(found: dict[str, Any], ranked: dict[str, Any], proved: dict[str, int]) -> None:
    print("| prompt/answer | way | tokens per CPU s | extra MB | ours is faster by | ours needs |")
    print("|---|---|---|---|---|---|")
    for shape, ways in found.items():
        for way, line in ways.items():
            ratio = line.get("ratios")
            rate, extra = line["tokens_per_cpu_second"]["median"], line["extra_mb"]["median"]
            tail = f"{_range(ratio['speed'])} | {_range(ratio['memory'])}" if ratio else " | "
            print(f"| {shape} | {way} | {rate:,.0f} | {extra:,.0f} | {tail} |")
    print(
        f"\n{_ANSWERS} answers as a list: {ranked['list_tokens']:.3f} of the tokens of the pairs,"
    )
    print(f"{_range(ranked['cpu'])} of their CPU seconds")
    print("\n{objectives} objectives; {caught} of {bugs} classic bugs caught".format(**proved))


def _range(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f}x ({spread['low']:.2f}-{spread['high']:.2f})"


def _spread(values: Sequence[float]) -> dict[str, float]:
    return asdict(Spread.of(values))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
