"""Constraints: checkable instructions as IFEval has them, such as a number of words or no comma."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from siftune.curate.core.registry import closest
from siftune.curate.text.answer_match import after_thinking
from siftune.curate.text.checkable_instructions import INSTRUCTIONS, follows, loose_variants

__all__ = ["Constraints"]


@dataclass(frozen=True)
class Constraints:
    """Share of a row's checkable instructions that the completion follows; arXiv:2311.07911.

    Rows name them as the files of IFEval do: ``instruction_id_list``, such as
    ``[punctuation:no_comma]``, and ``kwargs``, a list of the arguments of each. ``instructions``
    are for rows that have none. All 25 of the paper are there
    (`text.checkable_instructions.INSTRUCTIONS`); those of a language need `pip install
    'siftune[langid]'`.

    ``mode: strict`` reads the completion as it is, ``loose`` also without its first or last line or
    both, and without asterisks: one of the eight texts has to follow, as the paper defines it.
    ``count: share`` is the instruction-level accuracy of the row, ``all`` the prompt-level one: 1
    where all are followed, else 0. What is before the last ``</think>`` is not read.

    A row has no score where it names no instruction, one that is not known, or one whose arguments
    are missing.

    Options:
        mode: Read the completion as it is (strict), or also without outer lines and asterisks
            (loose).
        count: Score the share of instructions that are followed, or 1 for all and else 0.
        instructions: Instructions for rows that have none, by name, each with its arguments.

    >>> asked = {"instruction_id_list": ["punctuation:no_comma", "detectable_format:title"]}
    >>> Constraints()(["?"] * 2, ["<<A title>>", "no, none"], [{"extra": asked}] * 2)
    [1.0, 0.0]
    """

    mode: Literal["strict", "loose"] = "strict"
    count: Literal["share", "all"] = "share"
    instructions: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse instructions that are not known, or whose arguments are missing."""
        for name, given in self.instructions.items():
            if name not in INSTRUCTIONS:
                near = closest(name, tuple(INSTRUCTIONS))
                raise ValueError(f"instructions: there is no {name!r}; {near}")
            if follows(name, given or {}, "text") is None:
                got = dict(given or {})
                raise ValueError(
                    f"instructions: {name}: an argument is missing or wrong, got {got}"
                )

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Between 0 and 1, or None, for each completion."""
        asked = [self._asked(row) for row in rows]
        texts = map(after_thinking, completions)
        return [self._score(said, one) for said, one in zip(texts, asked, strict=True)]

    def _asked(self, row: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """The instructions of a row with their arguments; none where they cannot be read."""
        extra = row.get("extra") or {}
        names, given = (
            _loaded(extra.get(key, row.get(key))) for key in ("instruction_id_list", "kwargs")
        )
        if names is None:
            return [(name, one or {}) for name, one in self.instructions.items()]
        given = [{}] * len(names) if given is None and isinstance(names, list) else given
        if not isinstance(names, list) or not isinstance(given, list) or len(names) != len(given):
            return []
        if not all(one is None or isinstance(one, Mapping) for one in given):
            return []
        return [(str(name), one or {}) for name, one in zip(names, given, strict=True)]

    def _score(self, said: str, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> float | None:
        followed = [self._follows(name, given, said) for name, given in asked]
        if not followed or None in followed:
            return None
        held = sum(map(bool, followed))
        return float(held == len(followed)) if self.count == "all" else held / len(followed)

    def _follows(self, name: str, given: Mapping[str, Any], said: str) -> bool | None:
        strict = follows(name, given, said)
        if self.mode == "strict" or strict is not False:
            return strict
        return any(follows(name, given, text) for text in loose_variants(said))


def _loaded(value: Any) -> Any:
    """A field that may be a JSON text."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, tuple) else value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return ""
