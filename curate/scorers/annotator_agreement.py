"""Agreement of the votes on a pair: how many there are, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.rows.columns import Reader, base_column, values

__all__ = ["AnnotatorAgreement"]

_WORDS: Final = {
    **dict.fromkeys(("first", "a", "chosen", "win", "model_a"), 1),
    **dict.fromkeys(("second", "b", "rejected", "loss", "lose", "model_b"), -1),
    **dict.fromkeys(("tie", "tied", "draw", "both", "neither", "tie (bothbad)"), 0),
}


@dataclass(frozen=True)
class AnnotatorAgreement:
    """Scores of the votes that several raters, or judges of a panel, gave on each pair.

    A vote is a number (above 0 for the chosen answer, below 0 for the rejected one, 0 for a tie) or
    a word such as first, second or tie; first is the chosen answer. Sources have them as a list
    column, as `judge_pairwise_votes` of a panel, or as a list in ``extra``.

    * ``annotator_agreement``: share of two raters drawn at random that agree, ``Σ n_k (n_k - 1) /
      (n (n - 1))`` over the three verdicts, Fleiss' agreement of an item (Fleiss 1971); null for
      fewer than two votes
    * ``annotator_agreement_votes``: number of votes n
    * ``annotator_agreement_label``: share of the votes for the label, ties half. Below one half the
      label is against the majority

    Agreement by chance is not taken off: one pair has no rates to estimate it from; `siftune curate
    agree` gives kappa and alpha of the whole set.

    Not for rows without votes of single annotators: a label alone has no agreement.

    Options:
        votes: Column with a list of votes for each pair, such as judge_pairwise_votes or
            extra.votes.
    """

    votes: str

    example: ClassVar = (("votes", "extra.votes"),)
    content: ClassVar = ("prompt", "chosen", "rejected")
    adds: ClassVar = {
        "annotator_agreement": pl.Float64,
        "annotator_agreement_votes": pl.UInt32,
        "annotator_agreement_label": pl.Float64,
    }

    @property
    def needs(self) -> tuple[str, ...]:
        """The column of votes."""
        return (base_column(self.votes),)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The same, as lists."""
        return ((self.votes, _lists),)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Count the votes of each pair."""
        rows = [_scores(self.votes, one) for one in _lists(batch, self.votes).to_list()]
        return pl.DataFrame(rows, pl.Schema(self.adds), orient="row")


def _lists(table: pl.DataFrame, name: str) -> pl.Series:
    """The votes: a column of lists, or texts that hold JSON lists."""
    column = values(table, name)
    if isinstance(column.dtype, pl.List):
        return column
    if column.dtype == pl.Null:
        return column
    if column.dtype != pl.String:
        raise UsageError(f"{name!r}: expected a list of votes a row, the column is {column.dtype}")
    found = [None if text is None else _listed(name, text) for text in column]
    return pl.Series(column.name, found, dtype=pl.Object)


def _listed(name: str, text: str) -> list[Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is not list:
        raise UsageError(f"{name!r}: expected a list of votes, such as [1, -1], got {text[:40]!r}")
    return value


def _scores(
    name: str, votes: Sequence[Any] | None
) -> tuple[float | None, int | None, float | None]:
    if votes is None:
        return None, None, None
    signs = [_sign(name, vote) for vote in votes if vote is not None]
    total = len(signs)
    counts = [signs.count(sign) for sign in (1, 0, -1)]
    alike = sum(one * (one - 1) for one in counts)
    agreement = alike / (total * (total - 1)) if total > 1 else None
    label = (counts[0] + counts[1] / 2) / total if total else None
    return agreement, total, label


def _sign(name: str, vote: Any) -> int:
    """1 for the chosen answer, -1 for the rejected one, 0 for a tie."""
    if isinstance(vote, str) and vote.strip().lower() in _WORDS:
        return _WORDS[vote.strip().lower()]
    if isinstance(vote, int | float) and vote == vote:
        return (vote > 0) - (vote < 0)
    raise UsageError(
        f"{name!r}: {vote!r} is no vote: expected a number (above 0 for chosen), first, second "
        "or tie"
    )
