"""Reasoning traces: length of thought and answer, loops, and faults of their form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from siftune.curate.core.ranges import Share, check_ranges
from siftune.curate.rows.chat import last_turn

__all__ = ["Reasoning"]

_BLOCK: Final = re.compile(r"<(think|thinking|reasoning|thought)>(.*?)</\1>", re.S)
_OPEN: Final = re.compile(r"<(think|thinking|reasoning|thought)>")
_CLOSE: Final = re.compile(r"</(think|thinking|reasoning|thought)>")
_WORD: Final = re.compile(r"\w+")
_GRAM: Final = 8  # words
_NUMBERS: Final = 1  # in an 8-gram whose numbers are alike; with more it is a step of a sum
_FEW: Final = 64  # words of a trace that is too short for a loop


@dataclass(frozen=True)
class Reasoning:
    r"""What an answer with a ``<think>`` block (DeepSeek-R1's form, arXiv:2501.12948) consists of.

    ``reasoning_words`` and ``reasoning_answer_words`` count words inside the blocks and outside;
    ``reasoning_repeated`` is the share of the 8-grams of words inside that occurred before (null of
    fewer than 64 words); in those with one number all numbers are alike, so that "Check case 7: it
    fails" repeats "Check case 6: it fails". ``reasoning_flags`` names faults:

    * ``unclosed``: a block is opened and not closed, as in a trace that was cut at its length
    * ``unopened``: a block is closed and not opened, as where the template opens it
    * ``several``: more than one block
    * ``empty``: a block without a word
    * ``late``: text before the first block
    * ``no_answer``: nothing after the last block
    * ``loop``: ``reasoning_repeated`` above ``loop_share``
    * ``no_final``: the thought has a ``\boxed{}`` that the answer has not

    An answer without a block has 0 words of reasoning and no flag. A row without an answer has
    null.

    Not for comparing lengths over domains: sums take fewer words than proofs.

    Options:
        loop_share: Share of repeated 8-grams from which on a trace is a loop.
    """

    loop_share: Share = 0.3

    needs: ClassVar = ("messages",)
    flags: ClassVar = {
        "reasoning_flags": (
            *("empty", "late", "loop", "no_answer", "no_final", "several", "unclosed", "unopened"),
        )
    }
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {
        "reasoning_words": pl.UInt32,
        "reasoning_answer_words": pl.UInt32,
        "reasoning_repeated": pl.Float32,
        "reasoning_flags": pl.List(pl.String),
    }

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Score each conversation's last assistant turn."""
        answers = last_turn(batch["messages"])[1].to_list()
        rows = [(None,) * 4 if answer is None else self._parts(answer) for answer in answers]
        return pl.DataFrame(rows, schema=self.adds, orient="row")

    def _parts(self, answer: str) -> tuple[int, int, float | None, list[str]]:
        blocks = [found.group(2) for found in _BLOCK.finditer(answer)]
        rest = _BLOCK.sub("\n", answer)
        opened, closed = _OPEN.search(rest), _CLOSE.search(rest)
        if closed:  # what comes before it is thought
            blocks.insert(0, rest[: closed.start()])
            rest = rest[closed.end() :]
        elif opened:
            blocks.append(rest[opened.end() :])
            rest = rest[: opened.start()]
        words = _WORD.findall(" ".join(blocks).lower())
        repeated = _repeated(words)
        faults = {"unclosed": bool(opened and not closed), "unopened": bool(closed)}
        if blocks:
            faults |= dict(self._faults(answer, blocks, rest, repeated))
        flags = sorted(name for name, raised in faults.items() if raised)
        return len(words), len(_WORD.findall(rest)), repeated, flags

    def _faults(
        self, answer: str, blocks: list[str], rest: str, repeated: float | None
    ) -> Iterator[tuple[str, bool]]:
        first = _OPEN.search(answer)
        yield "several", len(blocks) > 1
        yield "empty", any(not block.strip() for block in blocks)
        yield "late", first is not None and bool(answer[: first.start()].strip())
        after = answer[[*_CLOSE.finditer(answer)][-1].end() :] if _CLOSE.search(answer) else ""
        yield "no_answer", not after.strip()
        yield "loop", repeated is not None and repeated > self.loop_share
        yield "no_final", any(r"\boxed{" in block for block in blocks) and r"\boxed{" not in rest


def _repeated(words: list[str]) -> float | None:
    """Share of the 8-grams that occurred before.

    >>> _repeated(["a"] * 9), _repeated([str(n) for n in range(64)] + [str(n) for n in range(36)])
    (None, 0.31182795698924726)
    """
    if len(words) < _FEW:
        return None
    plain = ["0" if word.isdecimal() else word for word in words]
    grams = [
        tuple(kind if kind.count("0") <= _NUMBERS else words[at : at + _GRAM])
        for at, kind in enumerate(plain[at : at + _GRAM] for at in range(len(words) - _GRAM + 1))
    ]
    return 1 - len(set(grams)) / len(grams)
