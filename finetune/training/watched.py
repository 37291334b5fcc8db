"""The watch of a trainer: its options, the fixed prompts, and the callback with what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import KINDS, kind_of
from siftune.finetune.core import distributed
from siftune.finetune.data import training_rows
from siftune.finetune.evaluation.generation_eval import GenerationEval
from siftune.finetune.losses.types import needs_of
from siftune.finetune.rewards.several import untrained
from siftune.finetune.rewards.types import load, reward_of
from siftune.finetune.tools.evaluate import chosen_rows
from siftune.finetune.watch.actions import Action
from siftune.finetune.watch.alarms import Training
from siftune.finetune.watch.prompts import diverse

if TYPE_CHECKING:
    from siftune.finetune.rewards.types import Reward
    from siftune.finetune.rl.loop import Loop
    from siftune.finetune.runs.resumable_run import Run
    from siftune.finetune.watch.watching import Means, WatchCallback

__all__ = [
    "WatchOptions",
    "ask_of",
    "beta_of",
    "check_watch",
    "stopped_by",
    "watch_of",
    "watch_rollouts",
]

_COMPARED: Final = 1000  # rows that prompts are chosen among
_BATCH: Final = 16
_FEWEST: Final = 10  # points that the detector gold needs for an alarm, beside all the others


class WatchOptions(Protocol):
    """The options of a trainer that the watch reads."""

    @property
    def watch(self) -> Action:
        """What an alarm does."""

    @property
    def watch_detectors(self) -> Mapping[str, Any]:
        """Options of detectors by name."""


def check_watch(options: WatchOptions) -> None:
    """Refuse options of the watch that nothing reads.

    Raises:
        ValueError: one is set; the text names it and what it needs.
    """
    for name in ("watch_detectors", "watch_rows", "watch_gold"):
        if options.watch == "off" and getattr(options, name, None):
            raise ValueError(f"{name}: there is no watch with watch off; leave out one of the two")
    prompts, given = (getattr(options, f"watch_{name}", None) for name in ("prompts", "rows"))
    if getattr(options, "watch_gold", None) is not None and not (prompts or given):
        raise ValueError(
            "watch_gold: with watch_prompts 0 there are no answers to score; set watch_rows or "
            "watch_prompts, or leave watch_gold out"
        )


def stopped_by(watch: WatchCallback | None) -> dict[str, Any]:
    """Facts of a model: the alarms of the watch, and that it ended the training, if it did."""
    if watch is None:
        return {}
    facts: dict[str, Any] = {"watch": watch.watch.facts()}
    if watch.watch.ended is not None:
        facts |= {"stopped": "watch", "stopped_because": str(watch.watch.ended)}
    return facts


def beta_of(trainer: Any) -> Callable[[float], None] | None:
    """Multiplies β of a trainer's (first) loss; None where that has none.

    A loss with a teacher counts as one without: β of GKD is a share of its mixture, at most 1.
    """
    loss = trainer.loss
    first = loss.parts[0][0] if hasattr(loss, "parts") else loss
    if (
        needs_of(first).teacher
        or not is_dataclass(first)
        or "beta" not in {one.name for one in fields(first)}
    ):
        return None

    def multiply(factor: float) -> None:
        now = trainer.loss
        if not hasattr(now, "parts"):
            trainer.loss = replace(now, beta=now.beta * factor)
            return
        (own, weight), *others = now.parts
        parts = ((replace(own, beta=own.beta * factor), weight), *others)
        trainer.loss = replace(now, parts=parts)

    return multiply


def watch_of(
    options: WatchOptions,
    training: Training,
    run: Run,
    ask: Callable[[Any], Any] | None = None,
    raise_beta: Callable[[float], None] | None = None,
    model: Any = None,
    more: Callable[[int], Means] | None = None,
) -> WatchCallback | None:
    """The watch of a run; None where it is off.

    ``ask`` answers the fixed prompts, ``raise_beta`` multiplies β, ``model`` is the one that is
    trained, of which a rollback may need the first weights. ``more(step)`` are further means.

    Raises:
        UsageError: a detector is not there, or β is to be raised and there is none.
    """
    if options.watch == "off":
        return None
    if options.watch == "raise_beta" and raise_beta is None:
        raise UsageError(
            "watch: raise_beta needs a loss with beta, or kl_coef (the beta of a loss with a "
            "teacher is a share of two divergences); take log, roll_back or stop"
        )
    from siftune.finetune.runs.checkpoints import trained
    from siftune.finetune.watch.watching import Watch, WatchCallback

    start = None
    if options.watch == "roll_back" and model is not None:
        start = {name: one.detach().to("cpu", copy=True) for name, one in trained(model).items()}
    watch = Watch(
        run.beside, training, options.watch, options.watch_detectors, raise_beta, ask, start
    )
    return WatchCallback(watch) if more is None else WatchCallback(watch, more)


def watch_rollouts(
    options: Any, tokenizer: Any, loop: Loop, used: pl.DataFrame, run: Run
) -> WatchCallback | None:
    """The watch that a loop of RL gives its rollouts; None where it is off.

    Prompts are of ``eval_rows``, or without any of the rows that are trained on; β is the weight of
    the KL, which checkpoints have. A gold score that names one of the rewards of weight 0 is that
    one, and then it is known of the answers of each rollout, too.
    """
    if options.watch == "off":
        return None
    held = options.eval_rows
    table = used if held is None else training_rows.load(held, KINDS)
    prompts, given = options.watch_prompts, options.watch_rows
    rewards: dict[str, Reward] = {}
    own = untrained(loop.collector.reward).get(options.watch_gold)
    if options.watch_gold is not None:
        gold = own or reward_of(options.watch_gold, {}, options.precision)
        load(gold)
        rewards = {"reward": loop.collector.reward, "gold": gold}
        if own is None:
            _note_few_points(loop.settings.rollouts, loop.save_every)
    most = options.max_new_tokens
    ask = ask_of(table, tokenizer, prompts, options.seed, most, given, rewards)

    def multiply(factor: float) -> None:
        loop.kl_coef *= factor

    found = watch_of(options, "rl", run, ask, multiply if options.kl_coef > 0 else None, loop.ac)
    if found is not None:
        found.watch.keeps_beta = True
        found.watch.gold = None if own is None else options.watch_gold
        loop.watch = found.watch
    return found


def _note_few_points(rollouts: int, save_every: int) -> None:
    """Notify where the gold score is measured too rarely for an alarm."""
    points = 1 + -(-rollouts // save_every)  # before the training and at each checkpoint
    if points < _FEWEST:
        distributed.notify(
            f"watch_gold: the gold score is measured {points} times in this run, and its detector "
            f"needs {_FEWEST} for an alarm: make save_every smaller or take more rollouts"
        )


def ask_of(
    table: pl.DataFrame,
    tokenizer: Any,
    count: int,
    seed: int,
    max_new_tokens: int,
    given: str | None = None,
    rewards: Mapping[str, Reward] | None = None,
) -> Callable[[Any], list[dict[str, Any]]] | None:
    """Answers a model's fixed prompts greedily: ``count`` of ``table``, or those of a file.

    Those of a table are unlike each other and decided by ``seed`` and the ids (`watch.prompts`).
    None where there are none: texts have no prompts. ``rewards`` score the answers, each under its
    name.
    """
    if given is not None:
        rows = training_rows.to_prompts(training_rows.load(Path(given), KINDS))
    elif not count or table.is_empty() or kind_of(table) == "text":
        return None
    else:
        rows = training_rows.to_prompts(chosen_rows(table, _COMPARED, seed))
        rows = [dict(row) for row in diverse([r for r in rows if r["prompt"]], count, seed)]
    asked = tuple({**row, "reference": None, "answer": None} for row in rows)
    ask = GenerationEval(asked, tokenizer, max_new_tokens=max_new_tokens, batch_size=_BATCH)
    return partial(_answers, ask, rows, rewards or {}) if asked else None


def _answers(
    ask: Callable[[Any], list[dict[str, Any]]],
    rows: Sequence[Mapping[str, Any]],
    rewards: Mapping[str, Reward],
    model: Any,
) -> list[dict[str, Any]]:
    """The answers with their scores, without numbers that nothing was measured for."""
    found, known = ask(model), {row["id"]: row for row in rows}
    said = [row for row in found if row.get("completion") is not None]
    asked = [{**known[row["id"]], "finished": row.get("ended", True)} for row in said]
    texts = [row["prompt"] for row in said], [row["completion"] for row in said]
    for name, reward in rewards.items():
        for row, score in zip(said, reward(*texts, asked), strict=True):
            row[name] = score
    return [{key: value for key, value in row.items() if value is not None} for row in found]
