"""`python -m benchmarks.on_policy`: GRPO and RLOO against TRL's trainers.

Made-up prompts, a small Llama from its config with a vocabulary of 32,000, one thread, fp32; every
way runs in a process of its own, in turns, and trains for one rollout of two prompts with eight
answers each. Counted are CPU seconds (user and system): of the rollout (sampling, scores, and the
log-probs that the update needs), of the update (forward, backward, optimizer), and of both; and the
greatest resident memory over that with policy and reference loaded. Tokens are those of the
answers.

Before that, both sides are given the same answers of ragged lengths, and advantages, loss and
gradient of the first step are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Contestant, Sample, Spread, alternate

_MODULE: Final = "benchmarks.ours.on_policy"
_MODEL: Final = {"width": 256, "layers": 4, "vocabulary": 32_000}
_SIZES: Final = {**_MODEL, "prompts": 2, "answers": 8, "rollouts": 1}
_OURS: Final = "siftune"
_WAYS: Final = (_OURS, "trl")
_MORE: Final = (_OURS, "siftune-unshared", "trl", "trl-plain", "trl-checkpointed")
_CASES: Final = (
    ("grpo", 256, 64, _MORE),
    ("grpo", 256, 128, _WAYS),
    ("grpo", 64, 64, _WAYS),
    ("grpo", 64, 128, _WAYS),
    ("rloo", 256, 64, _WAYS),
    ("rloo", 64, 128, _WAYS),
)
"""Method, most tokens of a prompt and of an answer, ways."""
GOALS: Final = {"update": 2.0, "both": 1.3, "memory": 0.5, "difference": 1e-4}
_PARTS: Final = ("rollout", "update", "both")
_NOTES: Final = """
Two prompts with eight answers each, rewarded by the share of even words; a Llama of width 256, four
layers and a vocabulary of 32,000, from its config; fp32, one thread; one optimizer step a rollout,
β 0.04, ε 0.2, temperature 1, a reference that is another model than the policy. Tokens are those of
the answers.

What is not alike:

* TRL's GRPO multiplies the KL of a token by the ratio (`use_bias_correction_kl`), which changes its
  gradient; it is off, so that the loss is DeepSeekMath's, as ours. TRL's RLOO has the ratio of the
  whole answer, ours -A log π divided by the most tokens of an answer: the gradients are equal but
  for that number.
* Gradient checkpointing, which TRL turns on by default and which saves it memory for time, is off
  but in `trl-checkpointed`. The watch and the limit of KL are off on our side.
* Our rollout measures old log-probs and entropies; TRL's GRPO takes those of the update for the old
  ones. Ours samples once more after the last update; a rollout's seconds are the mean.
* Without Triton TRL evaluates its LM head at the tokens of the prompt too (`trl-plain`: with all
  logits at once instead of in chunks). With a GPU it does not, so the ratios here are those of a
  CPU. `python -m benchmarks.gpu` has rows of both methods in the shape of SmolLM2-135M; nobody has
  run them yet.
"""


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 0: every goal is reached; 1: one is not, and the figures mark it."""
    asked = _asked(words)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cases = _CASES[:1] if asked.quick else _CASES
    checks = {method: _checked(method) for method in dict.fromkeys(case[0] for case in cases)}
    found = {
        f"{method} {prompt}/{answer}": _measured(method, prompt, answer, ways, asked.turns)
        for method, prompt, answer, ways in cases
    }
    lines = "\n".join([*_table(found), "", *_words(checks)])
    print(lines)
    if asked.out:
        asked.out.write_text(_page(lines, asked.turns), encoding="utf-8")
    met = _met(found, checks)
    if asked.json:
        print(json.dumps({"goals": GOALS, "cases": found, "checks": checks, "met": met}))
    return 0 if met else 1


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_policy", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="one shape, one turn")
    parser.add_argument("--turns", type=int, default=3, help="runs of each way; 3 unless set")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    asked = parser.parse_args(words)
    asked.turns = 1 if asked.quick else asked.turns
    return asked


def _checked(method: str) -> dict[str, float]:
    """Largest differences of advantages, loss and gradient of the first step, ours and TRL's.

    Those of gradients are relative to the gradient's norm: of the norms, and of products with
    random directions. RLOO is divided by the longest answer here and not in TRL, so TRL's gradient
    is that many times ours; and its losses have equal gradients, not equal values.
    """
    _say(f"{method}: the first step on the same answers")
    longest = 32
    options = {**_SIZES, "answers": 4, "prompt": 64, "answer": longest, "method": method}
    facts = _run(("check",), options, 1)["check"][0].facts
    return differences(method, facts[_OURS], facts["trl"], longest)


def differences(method: str, own: Any, other: Any, longest: int) -> dict[str, float]:
    """As `_checked`, from the facts of both sides."""
    times = longest if method == "rloo" else 1
    gradients = zip(own["gradient"], other["gradient"], strict=True)
    norm = other["gradient"][0]
    found = {
        "advantages": _largest(own["advantages"], other["advantages"]),
        "gradient": max(abs(times * one - two) for one, two in gradients) / norm,
    }
    return (
        found if method == "rloo" else {**found, "loss": _largest(own["losses"], other["losses"])}
    )


def _largest(some: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(one - two) for one, two in zip(some, others, strict=True))


def _measured(
    method: str, prompt: int, answer: int, ways: Sequence[str], turns: int
) -> dict[str, Any]:
    """All ways on one shape; ratios: TRL over ours for time, ours over TRL for memory."""
    _say(f"{method}: prompt {prompt}, answers {answer}")
    samples = _run(ways, {**_SIZES, "prompt": prompt, "answer": answer, "method": method}, turns)
    found: dict[str, Any] = {
        way: {
            **{part: _spread([_rate(run, part) for run in runs]) for part in _PARTS},
            "extra_mb": _spread([run.facts["extra_mb"] for run in runs]),
        }
        for way, runs in samples.items()
    }
    for way, runs in samples.items():
        if way != _OURS:
            found[way]["ratios"] = against(samples[_OURS], runs)
    return found


def _rate(run: Sample, part: str) -> float:
    """Tokens of answers in a CPU second."""
    seconds = {name: run.facts[f"{name}_cpu"] for name in ("rollout", "update")}
    used = sum(seconds.values()) if part == "both" else seconds[part]
    return float(run.facts["tokens"] / used)


def against(own: Sequence[Sample], other: Sequence[Sample]) -> dict[str, Any]:
    """Ratios of each turn to the same turn of ours."""
    turns = list(zip(own, other, strict=True))
    times = {part: _spread([_rate(a, part) / _rate(b, part) for a, b in turns]) for part in _PARTS}
    memory = [a.facts["extra_mb"] / b.facts["extra_mb"] for a, b in turns]
    return {**times, "memory": _spread(memory)}


def _run(ways: Sequence[str], options: dict[str, Any], turns: int) -> dict[str, list[Sample]]:
    rows = options["prompts"] * options["answers"]
    contestants = [Contestant(way, _MODULE, {**options, "way": way}, rows, turns) for way in ways]
    samples = alternate(contestants, _say)
    missing = [way for way in ways if not samples.get(way)]
    if missing:
        raise SystemExit(f"could not run: {', '.join(missing)}")
    return samples


def _met(found: dict[str, Any], checks: dict[str, dict[str, float]]) -> bool:
    ratios = [case["trl"]["ratios"] for case in found.values()]
    same = all(one <= GOALS["difference"] for check in checks.values() for one in check.values())
    return same and all(
        one["update"]["median"] >= GOALS["update"]
        and one["both"]["median"] >= GOALS["both"]
        and one["memory"]["median"] <= GOALS["memory"]
        for one in ratios
    )


def _table(found: dict[str, Any]) -> Iterator[str]:
    yield "Tokens of answers per CPU second; ours over theirs (medians and ranges of the turns)."
    yield ""
    yield (
        "| method, prompt/answer | way | rollout | update | both | extra MB | rollout, ours is "
        "faster by | update | both | ours needs |"
    )
    yield "|---|---|---:|---:|---:|---:|---|---|---|---|"
    for case, ways in found.items():
        for way, line in ways.items():
            rates = [f"{line[part]['median']:,.0f}" for part in (*_PARTS, "extra_mb")]
            ratios = line.get("ratios")
            tail = [_range(ratios[part]) for part in (*_PARTS, "memory")] if ratios else [""] * 4
            yield f"| {' | '.join((case, way, *rates, *tail))} |"


def _words(checks: dict[str, dict[str, float]]) -> Iterator[str]:
    yield "Largest differences of the first step on the same answers:"
    yield ""
    for method, found in checks.items():
        listed = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
        yield f"- {method}: {listed}"


def _page(lines: str, turns: int) -> str:
    many = "one turn" if turns == 1 else f"{turns} turns"
    return (
        "# GRPO and RLOO against TRL 1.16\n\n"
        f"Made by `python -m benchmarks.on_policy`: {many}.\n\n{lines}\n{_NOTES}"
    )


def _range(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f}x ({spread['low']:.2f}-{spread['high']:.2f})"


def _spread(values: Sequence[float]) -> dict[str, float]:
    return asdict(Spread.of(values))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
