"""Open Assistant trees as ranked lists: replies of assistants to one message, with ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.message_trees import (
    FIELDS,
    is_tree,
    nest,
    replies,
    root_of,
    rows_extra,
    turn_of,
    walk,
)
from siftune.curate.records.ranked_lists import texts
from siftune.curate.records.turns import leftover, number_field

__all__ = ["OASSTRanked"]

_ANSWERS = "completions.fields"
_USED = frozenset({"text", "role", "rank", "replies"})


@dataclass(frozen=True)
class OASSTRanked:
    """``prompt: {"text", "role", "replies": […]}``, one list for each message with ranked replies.

    Rank 0 is best, so a score is ``-rank``. Replies without a rank, and those of persons, are not
    in the list; one that has fewer than two is no row. A file may also have the messages one by
    one, as `oasst` takes them. Köpf et al. 2023, arXiv:2304.07327.
    """

    kind: ClassVar[Kind] = "ranked"
    over: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = True
    of_messages: ClassVar[bool] = True  # oasst1 and oasst2 are published so too

    def matches(self, row: Row) -> bool:
        """Whether it is a tree; `oasst` matches the same records: the user has to choose."""
        return is_tree(row)

    def read(self, row: Row) -> list[Row]:
        """The ranked lists of one tree."""
        lists = [(way, _ranked(way[-1])) for way in walk([root_of(row)])]
        made = [_row(row, way, answers) for way, answers in lists if len(answers) > 1]
        if not made:
            raise BadRow("no_ranked_replies", "no message of the tree has two ranked answers")
        return made

    def write(self, row: Row) -> Row:
        """A tree of one thread with the answers at its end."""
        extra, contents = dict(row.get("extra") or {}), texts(row)
        scores = row.get("scores") or [None]
        if None in scores or len(contents) < 2:
            raise BadRow("no_place", "a ranked list has at least two answers, each with a score")
        rest = extra.pop(_ANSWERS, None) or [{}] * len(contents)
        answers = [
            {"text": text, "role": "assistant", "rank": -score} | fields
            for text, score, fields in zip(contents, scores, rest, strict=True)
        ]
        fields = extra.pop(FIELDS, None) or [{}] * len(row["prompt"])
        return {"prompt": nest(row["prompt"], fields, answers)} | extra


def _ranked(node: Row) -> list[tuple[Row, float]]:
    answers = [reply for reply in replies(node) if reply.get("role") == "assistant"]
    ranks = [(reply, number_field(reply, "rank")) for reply in answers]
    return [(reply, rank) for reply, rank in ranks if rank is not None]


def _row(record: Row, way: list[Row], answers: list[tuple[Row, float]]) -> Row:
    extra = rows_extra(record, way)
    rest = [leftover(reply, _USED) for reply, _ in answers]
    if any(rest):
        extra[_ANSWERS] = rest
    return {
        "prompt": [turn_of(node) for node in way],
        "completions": [[turn_of(reply)] for reply, _ in answers],
        "scores": [-rank for _, rank in answers],
        "extra": extra,
    }
