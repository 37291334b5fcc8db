"""Open Assistant trees as conversations: one for each thread from the root to a last answer."""

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

__all__ = ["OASST"]


@dataclass(frozen=True)
class OASST:
    """``prompt: {"text", "role", "replies": […]}``, one conversation a thread.

    A thread ends in an assistant's message below which no assistant answers; an unanswered user's
    message at its end is left out. Deleted messages end a thread. The tree's fields and
    those of each message (rank, language, labels) stay in ``extra``. A file may also have the
    messages one by one, those of a tree together (``message_id``, ``parent_id``). Köpf et al. 2023,
    arXiv:2304.07327.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = True
    of_messages: ClassVar[bool] = True  # oasst1 and oasst2 are published so too

    def matches(self, row: Row) -> bool:
        """Whether it is a tree; `oasst_ranked` matches the same records: the user has to choose."""
        return is_tree(row)

    def read(self, row: Row) -> list[Row]:
        """The conversations of one tree."""
        threads = [way for way in walk([root_of(row)]) if _ends(way[-1])]
        if not threads:
            raise BadRow("no_answer", "no message of the tree is an assistant's")
        return [
            {"messages": [turn_of(node) for node in way], "extra": rows_extra(row, way)}
            for way in threads
        ]

    def write(self, row: Row) -> Row:
        """A tree of one thread."""
        extra, turns = dict(row.get("extra") or {}), row["messages"]
        if not turns or turns[-1]["role"] != "assistant":
            raise BadRow("no_place", "a thread ends with an assistant's message")
        fields = extra.pop(FIELDS, None) or [{}] * len(turns)
        return {"prompt": nest(turns, fields, [])} | extra


def _ends(node: Row) -> bool:
    return node.get("role") == "assistant" and not any(
        reply.get("role") == "assistant" or any(map(_answers, replies(reply)))
        for reply in replies(node)
    )


def _answers(node: Row) -> bool:
    return node.get("role") == "assistant" or any(map(_answers, replies(node)))
