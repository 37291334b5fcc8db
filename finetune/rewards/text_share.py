"""Share of the completion that is one given text: a toy reward to try PPO with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = ["TextShare"]


@dataclass(frozen=True)
class TextShare:
    """``scale`` times the share of characters that spell ``text``; easy to learn, easy to hack.

    Occurrences are counted from the left and do not overlap. An empty completion scores 0.

    Options:
        text: Text whose share of the characters is rewarded.
        scale: Factor of the reward.

    >>> TextShare("yes")(["?", "?"], ["yes yes no", ""], [{}, {}])
    [0.6, 0.0]
    """

    text: str
    scale: float = 1.0

    reads_extra: ClassVar = False

    def __post_init__(self) -> None:
        """Refuse an empty text."""
        if not self.text:
            raise ValueError("text: expected at least one character")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Between 0 and ``scale``."""
        return [self._share(completion) for completion in completions]

    def _share(self, said: str) -> float:
        covered = said.count(self.text) * len(self.text)
        return self.scale * covered / len(said) if said else 0.0
