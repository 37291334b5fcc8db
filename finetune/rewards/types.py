"""The shape that rewards have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Reward", "of_texts"]


class Reward(Protocol):
    """Gives each completion a number, higher is better, or None where it cannot be scored.

    Text in: a reward never sees the policy's tokens, so it may have any tokenizer, or none. What
    has no score gets no advantage and is left out of the update; it is not worth 0.
    """

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Scores of completions, in order.

        ``rows`` are as `training_rows.to_prompts` gives them: ``id``, ``prompt`` (the turns that
        were asked; ``prompts`` are the same as the policy was shown them), ``reference`` (the known
        answer, or None) and ``tools`` (the functions that may be called, or None).
        """


def of_texts(
    own: Callable[..., list[float | None]],
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> list[float | None]:
    """Call a reward; without ``rows`` each is its prompt as one user turn, without a reference.

    >>> from siftune.finetune.rewards.length import Length
    >>> Length(target=4)(["?"], ["one two"])
    [-0.5]
    """
    if rows is None:
        empty = {"reference": None, "answer": None, "tools": None}
        asked = ([{"role": "user", "content": prompt}] for prompt in prompts)
        rows = [{"id": str(at), "prompt": turns, **empty} for at, turns in enumerate(asked)]
    return own(reward, prompts, completions, rows)
