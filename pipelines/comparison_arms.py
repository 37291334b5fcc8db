"""The arms that a selection is compared with, each with the same number of answer tokens."""

from __future__ import annotations

from dataclasses import replace

from siftune.curate.runs.recipe import Recipe, Spec

__all__ = ["TOKENS", "arm_recipe", "varies"]

TOKENS = "length_tokens"


def arm_recipe(arm: str, pool: Recipe, kept: str, tokenizer: str, tokens: int, seed: int) -> Recipe:
    """The recipe that selects the rows of an arm.

    ``curated`` is what the selection kept; ``random`` draws from the same pool and ``longest``
    takes its longest answers, both up to ``tokens``; ``all`` is the pool. None of them has what a
    `split` of the pool holds out of training.
    """
    count = Spec("score", "length", {"tokenizer": tokenizer})
    if arm == "curated":
        return Recipe(f"arm {arm}", (kept,), (count,), seed)
    budget = {"tokens": tokens, "tokens_by": TOKENS}
    chosen = {
        "random": (Spec("select", "random", budget),),
        "longest": (Spec("select", "longest", {"by": TOKENS, **budget}),),
        "all": (),
    }
    stages = (*_splits(pool), count, *chosen[arm])
    return replace(pool, name=f"arm {arm}", stages=stages, seed=seed)


def _splits(pool: Recipe) -> tuple[Spec, ...]:
    """The pool's splits by prompt, with the pool's seed: the arm's would cut elsewhere."""
    return tuple(
        replace(stage, options={"seed": pool.seed, **stage.options})
        for stage in pool.stages
        if (stage.group, stage.name) == ("select", "split")
    )


def varies(arm: str) -> bool:
    """Whether the rows of the arm depend on the seed."""
    return arm == "random"
