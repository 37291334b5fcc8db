"""Length penalty: distance to a target, overlong answers, or a cosine by correctness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from siftune.curate.core.ranges import Count, check_ranges
from siftune.finetune.rewards.types import Reward, load, reward_of

__all__ = ["LengthPenalty"]

Shape = Literal["target", "cosine", "soft_overlong"]


@dataclass(frozen=True)
class LengthPenalty:
    """A number that depends on the length ``n`` of the completion, by ``shape``.

    * ``target``: ``-min(1, |n - length| / length)``, 0 at ``length``.
    * ``soft_overlong``: 0 up to ``length - cache``, then ``(length - cache - n) / cache``, and -1
      above ``length``: DAPO, arXiv:2503.14476, equation 13, with ``length`` as its L_max and
      ``cache`` as its L_cache (a fifth of L_max, as there, where it is not set).
    * ``cosine``: ``long + ½ (short - long) (1 + cos(π n / length))``: ``short`` at no length,
      ``long`` at ``length``, of the right or of the wrong answers, and ``exceeded`` from ``length``
      on or where the row has ``finished`` as false; arXiv:2502.03373, section 4.1, with its
      defaults: long thinking costs little where the answer is right, and helps where it is wrong.
      An answer is right where the reward ``correct`` is at least ½; without its score there is
      none.

    The length is in words, or in tokens of ``tokenizer``. Beside a reward for the answer: alone it
    rewards any text of the right length.

    Options:
        shape: Penalty of the distance to a target, of overlong answers, or a cosine.
        length: Number of words or tokens: the target, or the most that are allowed.
        cache: Length below ``length`` over which soft_overlong falls from 0 to -1.
        tokenizer: Model whose tokens are counted; none counts words.
        correct: Reward that is 1 for a right answer, for cosine.
        correct_options: Options of that reward.
        right_short: Value of a right answer of no length.
        right_long: Value of a right answer of the full length.
        wrong_short: Value of a wrong answer of no length.
        wrong_long: Value of a wrong answer of the full length.
        exceeded: Value of an answer that is longer, or was cut.

    >>> LengthPenalty("soft_overlong", 6, cache=4)(["?"] * 3, ["a b", "a b c", "a " * 7], [{}] * 3)
    [0.0, -0.25, -1.0]
    """

    shape: Shape
    length: Count
    cache: Count | None = None
    tokenizer: str | None = None
    correct: str = "math_answer"
    correct_options: Mapping[str, Any] = field(default_factory=dict)
    right_short: float = 2.0
    right_long: float = 1.0
    wrong_short: float = -10.0
    wrong_long: float = 0.0
    exceeded: float = -10.0

    def __post_init__(self) -> None:
        """Refuse options out of range, or of another shape."""
        check_ranges(self)
        if self.cache is not None and self.shape != "soft_overlong":
            raise ValueError(f"cache: it is an option of soft_overlong, not of {self.shape}")
        if self._cache >= self.length and self.shape == "soft_overlong":
            raise ValueError(f"cache: expected less than length={self.length}, got {self._cache}")
        if self.shape == "cosine":
            _ = self._correct

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """A value for each completion; with cosine None where correctness is not known."""
        lengths = self._lengths(completions)
        if self.shape == "target":
            return [0 - min(1.0, abs(n - self.length) / self.length) for n in lengths]
        if self.shape == "soft_overlong":
            return [self._overlong(n) for n in lengths]
        right = self._correct(prompts, completions, rows)
        finished = [row.get("finished") is not False for row in rows]
        return [
            None if score is None else self._cosine(n if whole else self.length, score >= 0.5)
            for n, score, whole in zip(lengths, right, finished, strict=True)
        ]

    def load(self) -> None:
        """Load the tokenizer, and what the reward of correctness needs."""
        if self.tokenizer is not None:
            _ = self._tokenizer
        if self.shape == "cosine":
            load(self._correct)

    def _overlong(self, n: int) -> float:
        return max(-1.0, min(0.0, (self.length - self._cache - n) / self._cache))

    def _cosine(self, n: int, right: bool) -> float:
        if n >= self.length:
            return self.exceeded
        short, long = self.wrong_short, self.wrong_long
        if right:
            short, long = self.right_short, self.right_long
        return long + (short - long) * (1 + math.cos(math.pi * n / self.length)) / 2

    @property
    def _cache(self) -> int:
        return max(1, self.length // 5) if self.cache is None else self.cache

    def _lengths(self, completions: Sequence[str]) -> list[int]:
        if self.tokenizer is None:
            return [len(text.split()) for text in completions]
        return [len(self._tokenizer.encode(text, add_special_tokens=False)) for text in completions]

    @cached_property
    def _tokenizer(self) -> Any:
        from siftune.finetune.models.loading import load_tokenizer

        return load_tokenizer(str(self.tokenizer))

    @cached_property
    def _correct(self) -> Reward:
        return reward_of(self.correct, self.correct_options)
