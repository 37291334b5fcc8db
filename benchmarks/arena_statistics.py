"""`python -m benchmarks.arena_statistics`: whether the arena's intervals, tests and power hold.

Simulated arenas, of which the truth is known: raw values of each arm, seed and prompt go through
what the arena calls. Three parts: coverage of the 95 % interval beside that of two bootstraps,
false positives of arenas in which no arm differs, and power beside its forecast. Everything is
seeded. ``--out FILE`` writes the Markdown, as committed in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from siftune.curate.judge_stats.intervals import wilson
from siftune.pipelines.arena.statistics import (
    FEWEST,
    Components,
    MeanSquares,
    holm,
    mean_squares,
    power,
)

Floats: TypeAlias = npt.NDArray[np.float64]
Size: TypeAlias = tuple[int, ...]

_METHODS: Final = 14  # comparisons of an arena: seven methods, two budgets

_COVERAGE: Final = (  # name, seeds, prompts, Components of a difference
    ("no effect of the seed", 3, 200, Components(0, 1, 1)),
    ("seed a tenth of the variance of the mean", 3, 200, Components(0.00222, 1, 1)),
    ("seed half of it", 3, 200, Components(0.02, 1, 1)),
    ("seed nine tenths of it", 3, 200, Components(0.18, 1, 1)),
    ("seed nearly all of it", 3, 200, Components(1, 0.1, 1)),
    ("no effect of the prompt", 3, 200, Components(0.01, 0, 1)),
    ("few prompts", 3, 30, Components(0.05, 1, 1)),
    ("five seeds", 5, 200, Components(0.02, 1, 1)),
    ("ten seeds", 10, 200, Components(0.02, 1, 1)),
)
_FEW: Final = (  # name, seeds, prompts, Components, share of right answers (None: normal values)
    ("few prompts, nearly all of the variance", 5, 30, Components(0, 1, 0.1), None),
    ("few prompts, nearly all of the variance", 10, 30, Components(0, 1, 0.1), None),
    ("fewer prompts", 10, 20, Components(0, 1, 0.1), None),
    ("2 % of answers right", 3, 200, Components(0, 0, 2), 0.02),
    ("5 % of answers right", 3, 200, Components(0, 0, 2), 0.05),
    ("5 % of answers right", 5, 200, Components(0, 0, 2), 0.05),
    ("10 % of answers right", 3, 200, Components(0, 0, 2), 0.1),
)
_SHAPES: Final = ("normal", "skewed", "answers right or wrong", "weighted by tokens")


def main(words: list[str] | None = None) -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arenas", type=int, default=1_000, help="simulated arenas a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file of the tables")
    asked = parser.parse_args(words)
    lines = [_HEAD.format(arenas=asked.arenas)]
    lines += coverage(asked.arenas, asked.seed)
    lines += false_positives(asked.arenas, asked.seed)
    lines += power_lines(asked.arenas, asked.seed)
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


_HEAD: Final = """# Do the arena's statistics hold?

`python -m benchmarks.arena_statistics` writes this file: {arenas:,} simulated arenas a line, with
the 95 % interval of each share. Variances of one difference are by seed, by prompt and of the rest;
the shares named below are those of the variance of the mean over seeds and prompts.
"""


def values_of(
    source: np.random.Generator, parts: Components, size: Size, shape: str = "normal"
) -> Floats:
    """The values of an arm of mean 0, (…, seeds, prompts).

    Skewed prompts are log-normal, centred, of the same variance.
    """
    *many, seeds, prompts = size
    by_prompt = source.standard_normal((*many, 1, prompts))
    if shape == "skewed":
        by_prompt = (np.exp(by_prompt) - np.exp(0.5)) / np.sqrt(np.e * (np.e - 1))
    return np.asarray(
        np.sqrt(parts.seeds) * source.standard_normal((*many, seeds, 1))
        + np.sqrt(parts.prompts) * by_prompt
        + np.sqrt(parts.rest) * source.standard_normal(size)
    )


def coverage(arenas: int, seed: int) -> Iterator[str]:
    """How often the interval holds the true difference, 0."""
    yield "\n## Coverage of the 95 % interval\n"
    yield "| truth | seeds | prompts | arena | bootstrap of both | Satterthwaite alone |"
    yield "|---|---|---|---|---|---|"
    cases: list[tuple[Any, ...]] = [(*one, "normal") for one in _COVERAGE]
    cases += [(shape, 3, 200, Components(0.02, 1, 1), shape) for shape in _SHAPES[1:]]
    for name, seeds, prompts, parts, shape in cases:
        source = np.random.default_rng(seed)
        half = _half(parts)
        shared = 3 * source.standard_normal((arenas, 1, prompts))
        size = (arenas, seeds, prompts)
        arms = [shared + values_of(source, half, size, shape) for _ in range(2)]
        if shape == "answers right or wrong":
            arms = [(one > 0).astype(float) for one in arms]
        tokens = shape == "weighted by tokens"
        weights = source.geometric(1 / 60, (arenas, prompts)) if tokens else np.ones(size)[:, 0]
        effect, squares = mean_squares(arms[0] - arms[1], weights.astype(float))
        held = squares.outside(effect) >= 0.05
        booted = [_bootstrap_holds(source, one) for one in arms[0] - arms[1]]
        shown = [_share(held), "" if tokens else _share(booted), _share(_plugged(squares, effect))]
        yield f"| {name} | {seeds} | {prompts} | {' | '.join(shown)} |"


def _half(parts: Components) -> Components:
    """Variances of one of two arms whose difference has ``parts``."""
    return Components(parts.seeds / 2, parts.prompts / 2, parts.rest / 2)


def _bootstrap_holds(source: np.random.Generator, table: Floats, draws: int = 200) -> bool:
    """Whether the percentile interval of a bootstrap of both, seeds and prompts, holds 0."""
    seeds, prompts = table.shape
    rows = source.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    columns = source.multinomial(prompts, np.full(prompts, 1 / prompts), draws) / prompts
    low, high = np.quantile(((rows @ table) * columns).sum(1), [0.025, 0.975])
    return bool(low <= 0 <= high)


def _plugged(squares: MeanSquares, effect: Any) -> Any:
    from scipy.special import stdtrit

    return np.abs(effect) <= stdtrit(squares.degrees, 0.975) * np.sqrt(squares.variance)


def significant(
    arenas: int,
    seed: int,
    effects: Floats,
    parts: Components,
    seeds: int,
    prompts: int,
    right: float | None = None,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which methods are significant after Holm, and which are tested, both (arenas, methods).

    All methods of an arena are compared with the same arm, `random`, to which half of the variance
    of a difference belongs. With ``right`` the values are 1 for this share of the answers and 0
    for the others: those above a threshold that depends on the prompt, equally in all arms.
    """
    source = np.random.default_rng(seed)
    found, tested = [], []
    for _ in range(arenas):
        arms = values_of(source, _half(parts), (len(effects) + 1, seeds, prompts))
        if right is not None:
            arms = arms + 2 * source.standard_normal(prompts)
            arms = (arms > ndtri(1 - right) * np.sqrt(5)).astype(float)
        table = arms[1:] - arms[0] + effects[:, None, None]
        effect, squares = mean_squares(table, np.ones((len(effects), prompts)))
        enough = (table != 0).any(axis=1).sum(axis=-1) >= FEWEST
        with np.errstate(invalid="ignore"):  # arms without any right answer
            raw = squares.p_value(effect).tolist()
        adjusted = holm([p if more else None for p, more in zip(raw, enough, strict=True)])
        found.append([p is not None and p < 0.05 for p in adjusted])
        tested.append(enough)
    return np.array(found), np.array(tested)


def false_positives(arenas: int, seed: int) -> Iterator[str]:
    """Arenas without any true difference in which something is called significant."""
    yield "\n## Arenas without a true difference: share with anything significant, after Holm\n"
    yield f"A comparison is tested from {FEWEST} prompts on whose values differ.\n"
    yield (
        "| truth | methods × budgets | seeds | prompts | comparisons tested | "
        "arenas with a false positive |"
    )
    yield "|---|---|---|---|---|---|"
    cases: list[tuple[Any, ...]] = [(*one, None) for one in _COVERAGE]
    for name, seeds, prompts, parts, right in [*cases, *_FEW]:
        none = np.zeros(_METHODS)
        wrong, tested = significant(arenas, seed + 1, none, parts, seeds, prompts, right)
        shown = f"{tested.mean():.0%} | {_share(wrong.any(1))}"
        yield f"| {name} | {_METHODS} | {seeds} | {prompts} | {shown} |"


def power_lines(arenas: int, seed: int) -> Iterator[str]:
    """Power of one true difference among others that are none, beside the forecast."""
    yield f"\n## Power at a true difference, one of {_METHODS} comparisons\n"
    yield "| truth | seeds | prompts | difference | forecast | found |"
    yield "|---|---|---|---|---|---|"
    for name, seeds, prompts, parts in _COVERAGE[:4] + _COVERAGE[6:]:
        for wanted in (0.5, 0.8):
            effects = np.zeros(_METHODS)
            effects[0] = _effect_with(parts, seeds, prompts, wanted)
            told = power(parts, seeds, prompts, effects[0], _METHODS)
            hits = significant(arenas, seed + 2, effects, parts, seeds, prompts)[0][:, 0]
            yield (
                f"| {name} | {seeds} | {prompts} | {effects[0]:.3f} | {told:.3f} | {_share(hits)} |"
            )


def _effect_with(parts: Components, seeds: int, prompts: int, wanted: float) -> float:
    low, high = 0.0, 20 * float(np.sqrt(parts.seeds + (parts.prompts + parts.rest) / prompts))
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if power(parts, seeds, prompts, middle, _METHODS) < wanted
            else (low, middle)
        )
    return high


def _share(held: Any) -> str:
    right = np.asarray(held, float)
    mean = float(right.mean())
    low, high = wilson(mean, mean * (1 - mean) / right.size, right.size)
    return f"{mean:.3f} ({low:.3f} … {high:.3f})"


if __name__ == "__main__":
    main()
