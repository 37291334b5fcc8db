"""PKU-SafeRLHF by safety: a prompt and two responses, the safer one chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.records.judgements import TwoResponses

__all__ = ["SafeRLHFSafety"]


@dataclass(frozen=True)
class SafeRLHFSafety(TwoResponses):
    """``prompt``, ``response_0``, ``response_1``, and which is safer: 0 or 1.

    Read as the safety preference, ``safer_response_id``, where the format is set; `safe_rlhf`,
    which is detected for such rows, reads ``better_response_id``. Ji et al. 2024, arXiv:2406.15513;
    the data set's card.
    """

    over: ClassVar[tuple[str, ...]] = ("text",)
    label: ClassVar[str] = "safer_response_id"
