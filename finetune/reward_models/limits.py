"""Calibration and out-of-distribution threshold of a trained reward model, from held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_stats.intervals import NotEstimableError
from siftune.finetune.data.prompt_truncation import answer_starts, encode_scored
from siftune.finetune.data.training_rows import prompt_keys, to_pairs
from siftune.finetune.models.lora import inner_model
from siftune.finetune.reward_models.head_states import scores_and_states
from siftune.finetune.reward_models.known_states import KnownAnswers
from siftune.finetune.reward_models.pair_calibration import calibrate_gaps

__all__ = ["find_limits"]

_ANSWERS: Final = 512
"""Training answers whose states are looked at, and held-out ones that set the threshold."""
_PAIRS: Final = 1_000
"""Held-out pairs that the calibration is fitted to."""
_MORE: Final = 2_000
"""Training pairs whose answers' tokens are counted."""
_COUNTED, _KEPT = 1 << 17, 1 << 16
"""Most tokens of answers that are counted, and whose states are held in memory."""


class _Text(NamedTuple):
    ids: list[int]
    start: int  # of the answer
    prompt: str  # its key

    @property
    def answer(self) -> list[int]:
        return self.ids[self.start :]


def find_limits(
    model: Any, tokenizer: Any, train: pl.DataFrame, test: pl.DataFrame, folder: Path
) -> dict[str, Any]:
    """Facts ``calibration`` and ``known_states`` of a trained model; its states go to ``folder``.

    What the pairs do not suffice for is a text, the reason. Without held-out pairs the answers to a
    fifth of the training prompts, left out of the fit, set the threshold, and nothing calibrates. A
    model of several outputs has neither.
    """
    model = inner_model(model).eval()
    if model.config.num_labels != 1:
        return {}
    length = tokenizer.model_max_length
    known = _texts(_drawn(train, _MORE), tokenizer, length)
    sides = _sides(_drawn(test, _PAIRS), tokenizer, length)
    others = sides if sides else _fifth(known)
    left_out = {one.prompt for one in others}
    known = [one for one in known if one.prompt not in left_out]
    try:
        fitted, count = _fitted(model, tokenizer, known)
    except UsageError as error:
        scores, _ = scores_and_states(model, tokenizer, [one.ids for one in others])
        states: Any = str(error)
    else:
        starts, read = [one.start for one in others], fitted.distance
        scores, far = scores_and_states(
            model, tokenizer, [one.ids for one in others], starts=starts, read=read
        )
        states = _saved(fitted, count, others, far, folder)
    calibration = _calibration(scores, sides) if sides else "there are no held-out pairs"
    return {"calibration": calibration, "known_states": states}


def _fitted(model: Any, tokenizer: Any, known: Sequence[_Text]) -> tuple[KnownAnswers, int]:
    """Counts of training answers with the states of the first ones, and how many have states."""
    known = _within(known, _COUNTED)
    some = _within(known[:_ANSWERS], _KEPT)
    at = [one.start for one in some]
    states = scores_and_states(model, tokenizer, [one.ids for one in some], starts=at)[1]
    size = max(len(tokenizer), model.config.get_text_config().vocab_size)
    answers, prompts = [one.answer for one in known], [one.prompt for one in known]
    return KnownAnswers.fit(answers, states, prompts, size), len(some)


def _saved(
    fitted: KnownAnswers, count: int, texts: Sequence[_Text], far: Sequence[float], folder: Path
) -> Any:
    """Set the threshold by the distances of different texts, and write the file."""
    distances = dict(zip((tuple(one.ids) for one in texts), far, strict=True))
    try:
        found = fitted.with_threshold(list(distances.values()))
    except UsageError as error:
        return str(error)
    found.save(folder)
    return {
        "answers": count,
        "held_out": len(distances),
        "threshold": found.threshold,
        "false_flags": found.false_flags,
    }


def _calibration(scores: Any, sides: Sequence[_Text]) -> Any:
    try:
        keys = [one.prompt for one in sides[0::2]]
        return calibrate_gaps(scores[0::2] - scores[1::2], keys).facts()
    except NotEstimableError as error:
        return str(error)


def _drawn(table: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most so many rows, by the hashes of their ids whatever their order."""
    ranks = [blake2b(key.encode()).digest() for key in table["id"]]
    return table[sorted(range(len(ranks)), key=ranks.__getitem__)[:most]]


def _sides(table: pl.DataFrame, tokenizer: Any, length: int) -> list[_Text]:
    """Both sides of each pair that fits and has tokens of answers, chosen first."""
    rows, keys = to_pairs(table), prompt_keys(table).to_list()
    two = [encode_scored(tokenizer, rows, [row[s] for row in rows], length) for s in _SIDES]
    starts = [answer_starts(tokenizer, rows, side) for side in two]
    found = []
    for chosen, rejected, first, second, key in zip(*two, *starts, keys, strict=True):
        if first < len(chosen.ids) and second < len(rejected.ids):
            found += [_Text(chosen.ids, first, key), _Text(rejected.ids, second, key)]
    return found


_SIDES: Final = ("chosen", "rejected")


def _texts(table: pl.DataFrame, tokenizer: Any, length: int) -> list[_Text]:
    """The distinct sides of pairs."""
    return list({tuple(one.ids): one for one in _sides(table, tokenizer, length)}.values())


def _within(texts: Sequence[_Text], tokens: int) -> Sequence[_Text]:
    """The first of them whose answers have at most so many tokens together."""
    sizes = np.cumsum([len(one.answer) for one in texts])
    return texts[: int((sizes <= tokens).sum())]


def _fifth(texts: Sequence[_Text]) -> list[_Text]:
    """The texts of a fifth of the prompts."""
    drawn = set(sorted({one.prompt for one in texts})[::5])
    return [one for one in texts if one.prompt in drawn]
