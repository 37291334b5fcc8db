"""Score of one completion by a reward, with facts of it, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

__all__ = ["EMPTY", "FACTS", "TOO_LONG", "UNKNOWN", "FactsReward", "Scored", "ScoringReward"]

EMPTY: Final = "no_tokens"
TOO_LONG: Final = "too_long"
UNKNOWN: Final = "unlike_training"
"""Reasons of a completion without a score: the last one is that of a reward that abstains."""

FACTS: Final = ("distance", "spread")
"""Facts of a completion beside its score, which the watch has detectors for."""


@dataclass(frozen=True)
class Scored:
    """``score`` of a completion, or None with a ``reason``.

    Between an ensemble and its members an answer of reason `UNKNOWN` has its score, too.

    ``distance`` is that from the answers that the model was trained on (`known_states`), None where
    the model has none; ``spread`` is the standard deviation of the scores of an ensemble.
    """

    score: float | None
    reason: str | None = None
    distance: float | None = None
    spread: float | None = None


class ScoringReward(Protocol):
    """A reward that also gives the distance, the spread, and why there is no score."""

    def scored(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[Scored]:
        """The score of each completion with what is known of it, in order."""


@runtime_checkable
class FactsReward(Protocol):
    """A reward that gives facts of each completion beside its score; see `FACTS`."""

    def with_facts(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[Scored]:
        """The score of each completion with its facts, in order."""
