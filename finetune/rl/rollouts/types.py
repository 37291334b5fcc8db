"""What a source of completions is given and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Draw", "Sampled", "Sampler"]


@dataclass(frozen=True)
class Draw:
    """One completion that is wanted: of what prompt, with which random numbers.

    ``row`` is the prompt's row, ``ids`` are its tokens. ``seed`` is of this draw alone;
    ``number`` counts the draws of this prompt in the run before it.
    """

    row: Mapping[str, Any]
    ids: tuple[int, ...]
    seed: tuple[int, ...]
    number: int = 0


@dataclass(frozen=True)
class Sampled:
    """Completions, one a draw: token ids, with the end token if one came.

    ``logps`` are those of each token under what sampled it, at the temperature of the run; None
    where that was the policy itself. With ``by_reference`` it was the run's reference model, whose
    log-probabilities are computed anyway.
    """

    ids: list[list[int]]
    logps: list[list[float]] | None = None
    by_reference: bool = False


class Sampler(Protocol):
    """Completes prompts."""

    def __call__(self, policy: Any, draws: Sequence[Draw]) -> Sampled:
        """A completion of each draw; ``policy`` is the model as it is now.

        Raises:
            SiftuneError: there is none for a draw; the text names its row.
        """
