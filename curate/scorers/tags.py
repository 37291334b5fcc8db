"""Tags of the intentions of each conversation, by an LLM judge, as InsTag has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.judge_columns import JudgeColumns

__all__ = ["Tags"]


@dataclass(frozen=True, kw_only=True)
class Tags(JudgeColumns):
    """``tags``, a list of words, and ``tags_count``, their number; InsTag, arXiv:2308.07074.

    The number measures complexity; quotas or diversity selectors use the list.

    Not for diversity of surface forms: tags name intentions alone.

    Options:
        task: Task that gives tags: instag, or one of your own.
    """

    task: str = "instag"

    name: ClassVar = "tags"
    content: ClassVar = ("messages",)

    def names(self) -> dict[str, str]:
        """``tags`` and ``tags_count``."""
        return super().names() | {"tag_count": f"{self.prefix}_count"}

    def _check(self, task: Task) -> None:
        if "tags" not in task.adds or "tag_count" not in task.adds:
            raise UsageError(f"tags: the task {self.task} gives no tags and tag_count")
