r"""Format: thinking in ``<think>`` tags, then an answer; each tag once, in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.core.ranges import NonNegative, check_ranges

__all__ = ["Format"]


@dataclass(frozen=True)
class Format:
    """Whether a completion is ``<think>…</think>`` and an answer behind it, and nothing before it.

    As in DeepSeek-R1, arXiv:2501.12948, section 2.2.2. The score is a weighted share of four parts:
    ``tags`` (each tag comes exactly once), ``order`` (they come in their order), ``outside`` (there
    is no text but in its place: none before the thinking, and with an ``answer`` tag none between
    and behind) and ``filled`` (thinking and answer have text). The last three count only where the
    tags are there once: a repeated tag scores 0. The weights are divided by their sum, so
    that a completion in the format scores 1; ``strict`` scores 0 where any part is missing.

    With ``prefilled`` the prompt's template has opened the thinking: the completion has no opening
    tag.

    Options:
        think: Name of the tag of the thinking.
        answer: Name of the tag of the answer; none takes all text behind the thinking.
        prefilled: Whether the template of the prompt writes the opening tag.
        strict: Score 1 for all parts and else 0.
        tags: Weight of each tag coming exactly once.
        order: Weight of the tags coming in their order.
        outside: Weight of no text where none belongs.
        filled: Weight of thinking and answer not being empty.

    >>> texts = ["<think>1 + 1</think>2", "2", "<think></think>2", "So <think>1</think>2"]
    >>> Format()(["?"] * 4, texts, [{}] * 4)
    [1.0, 0.0, 0.75, 0.75]
    """

    think: str = "think"
    answer: str | None = None
    prefilled: bool = False
    strict: bool = False
    tags: NonNegative = 1.0
    order: NonNegative = 1.0
    outside: NonNegative = 1.0
    filled: NonNegative = 1.0

    reads_extra: ClassVar = False

    def __post_init__(self) -> None:
        """Refuse names that are no tags, and weights that are all 0."""
        check_ranges(self)
        names = [self.think, *([] if self.answer is None else [self.answer])]
        for name in names:
            if not re.fullmatch(r"[\w.:-]+", name):
                raise ValueError(f"expected the name of a tag, such as think, got {name!r}")
        if len(set(names)) < len(names):
            raise ValueError("answer: expected another tag than that of the thinking")
        if not sum(self._weights):
            raise ValueError("tags, order, outside and filled: expected one weight above 0")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Between 0 and 1."""
        return [self._score(completion) for completion in completions]

    @property
    def _weights(self) -> tuple[float, ...]:
        return (self.tags, self.order, self.outside, self.filled)

    def _score(self, said: str) -> float:
        parts = self._parts(f"<{self.think}>{said}" if self.prefilled else said)
        if self.strict:
            return float(all(parts))
        held = sum(weight for weight, part in zip(self._weights, parts, strict=True) if part)
        return held / sum(self._weights)

    def _parts(self, said: str) -> tuple[bool, bool, bool, bool]:
        """Whether each part holds."""
        names = [self.think, *([] if self.answer is None else [self.answer])]
        tags = [tag for name in names for tag in (f"<{name}>", f"</{name}>")]
        if any(said.count(tag) != 1 for tag in tags):
            return False, False, False, False
        at = [said.index(tag) for tag in tags]
        if at != sorted(at):
            return True, False, False, False
        ends = [start + len(tag) for start, tag in zip(at, tags, strict=True)]
        texts = [
            said[start:end].strip() for start, end in zip([0, *ends], [*at, len(said)], strict=True)
        ]
        # before, thinking, then the answer, or what is between the tags, the answer, and behind
        inside = (texts[1], texts[2] if self.answer is None else texts[3])
        outside = texts[:1] if self.answer is None else [texts[0], texts[2], texts[4]]
        return True, True, not any(outside), all(inside)
