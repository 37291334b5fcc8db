"""PKU-SafeRLHF by helpfulness: a prompt and two responses, the more helpful one chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.records.judgements import TwoResponses

__all__ = ["SafeRLHF"]


@dataclass(frozen=True)
class SafeRLHF(TwoResponses):
    """``prompt``, ``response_0``, ``response_1``, and which is more helpful: 0 or 1.

    Read as the helpfulness preference, ``better_response_id``; `safe_rlhf_safety` reads the other
    label, which stays in ``extra`` here. Ji et al. 2024, arXiv:2406.15513;
    the data set's card.
    """

    over: ClassVar[tuple[str, ...]] = ("text", "safe_rlhf_safety")
    label: ClassVar[str] = "better_response_id"
