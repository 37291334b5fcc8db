"""Regular expression: whether the completion matches a pattern of yours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from siftune.curate.text.answer_match import after_thinking

__all__ = ["RegularExpression"]

Where = Literal["anywhere", "start", "whole"]


@dataclass(frozen=True)
class RegularExpression:
    r"""1 where ``pattern`` matches the completion, else 0.

    What is before the last ``</think>`` is no part of it.

    The syntax is that of Rust's ``regex``, whose time is linear in the text for every pattern: no
    completion can make it hang. It has neither references to groups nor look-around; a pattern with
    these, or one that is too large, is refused. ``(?s)`` at its start lets ``.`` match the end of a
    line, ``(?i)`` ignores case.

    Options:
        pattern: Pattern, in the syntax of Rust's regex.
        where: Match anywhere in the completion, at its start, or the whole of it.
        negate: Score 1 where the pattern does not match.

    >>> RegularExpression(r"\d{4}", where="whole")(["?"] * 3, ["2024", "2024.", ""], [{}] * 3)
    [1.0, 0.0, 0.0]
    """

    pattern: str
    where: Where = "anywhere"
    negate: bool = False

    reads_extra: ClassVar = False

    def __post_init__(self) -> None:
        """Refuse what is no pattern of linear time."""
        import polars as pl

        try:
            pl.Series([""]).str.contains(self.pattern)  # alone: `a)(b` would fit into a group
            self._matches([""])
        except pl.exceptions.ComputeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise ValueError(
                "pattern: expected one of linear time (Rust's regex: no look-around, no references "
                f"to groups), got {self.pattern!r}: {reason}"
            ) from None

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """1.0 or 0.0 for each completion."""
        return [float(found is not self.negate) for found in self._matches(completions)]

    def _matches(self, completions: Sequence[str]) -> list[bool]:
        import polars as pl  # `--help` does without

        before, behind = {"anywhere": ("", ""), "start": (r"\A", ""), "whole": (r"\A", r"\z")}[
            self.where
        ]
        texts = pl.Series([*map(after_thinking, completions)], dtype=pl.String)
        found: list[bool] = texts.str.contains(f"{before}(?:{self.pattern}){behind}").to_list()
        return found
