"""Panel of judges: the verdicts of several on one item, voted, with their agreement as columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from statistics import fmean, pstdev
from typing import Any, Final

import polars as pl

from siftune.curate.judge_calls.types import Verdict

__all__ = ["Panel"]

_AGREEMENT: Final[Mapping[str, type[pl.DataType]]] = {
    "agreement": pl.Float64,
    "spread": pl.Float64,
    "judges": pl.UInt32,
}


@dataclass(frozen=True)
class Panel:
    """Votes on the columns of a task, as in Replacing Judges with Juries, arXiv:2404.18796.

    A number is the mean of the judges', a list of numbers place by place; ranks are those of the
    mean ranks, equal where these are, and of several first ones none is ``best``. A word, flag or
    whole number is what more than half of the judges gave, else null (a ``winner``: a tie); of a
    list of words those that more than half gave. Columns that follow from others follow from the
    votes: ``best`` from ``ranks``, ``tag_count`` from ``tags``, ``tie`` from
    ``winner``. Of the task's first column, ``spread`` is the standard deviation, where it is a
    number, and ``agreement`` else: the share of judges with the most common value. ``votes`` is
    that column of each judge, null where one gave no verdict, and ``judges`` how many gave one.

    ``columns`` are those of the task (``adds``). With fewer verdicts than ``quorum`` (None: more
    than half of the judges) there is none.
    """

    columns: Mapping[str, pl.DataType | type[pl.DataType]]
    quorum: int | None = None

    def __post_init__(self) -> None:
        """Refuse columns that are no votes.

        Raises:
            ValueError: a column holds records, such as the items of a checklist.
        """
        for name, dtype in self.columns.items():
            if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
                raise ValueError(f"a panel cannot vote on the column {name}, which holds records")

    @property
    def adds(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """The columns of a vote and their types."""
        first = next(iter(self.columns.values()))
        return {**self.columns, "votes": pl.List(first), **_AGREEMENT}

    def vote(self, verdicts: Sequence[Verdict]) -> Verdict:
        """One verdict of those of all judges on an item, with the sum of what they cost."""
        given = [verdict.values for verdict in verdicts if verdict.values is not None]
        total = reduce(_added, verdicts[1:], verdicts[0])
        least = len(verdicts) // 2 + 1 if self.quorum is None else self.quorum
        if len(given) < least:
            reasons = Counter(verdict.error for verdict in verdicts if verdict.error)
            detail = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            return replace(total, values=None, error="no_quorum", detail=detail)
        values = {name: _voted(name, [one[name] for one in given]) for name in self.columns}
        values |= _following(values)
        headline = [one[next(iter(self.columns))] for one in given]
        numbers = all(isinstance(value, float) for value in headline)
        common = Counter(map(repr, headline)).most_common(1)[0][1]
        values["votes"] = [one.values and one.values[next(iter(self.columns))] for one in verdicts]
        values["agreement"] = None if numbers else common / len(given)
        values["spread"] = pstdev(headline) if numbers else None
        values["judges"] = len(given)
        return replace(total, values=values, error=None, detail="")


def _added(one: Verdict, other: Verdict) -> Verdict:
    return replace(
        one,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost=one.cost + other.cost,
        asked=one.asked + other.asked,
        cached=one.cached + other.cached,
        answers=one.answers + other.answers,
    )


_FOLLOWING: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "best": ("ranks", lambda ranks: ranks.index(1) if ranks.count(1) == 1 else None),
    "tag_count": ("tags", len),
    "tie": ("winner", lambda winner: winner == "tie"),
}


def _following(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that another one determines, by what was voted for that one."""
    return {
        name: None if values[of] is None else follow(values[of])
        for name, (of, follow) in _FOLLOWING.items()
        if name in values and of in values
    }


def _voted(name: str, values: Sequence[Any]) -> Any:
    given = [value for value in values if value is not None]
    if not given:
        return None
    if isinstance(given[0], list):
        return _list(given)
    if all(isinstance(value, float) for value in given):
        return fmean(given)
    value, count = Counter(given).most_common(1)[0]
    if 2 * count > len(values):
        return value
    return "tie" if name == "winner" else None


def _list(given: Sequence[list[Any]]) -> list[Any] | None:
    if any(isinstance(part, str) for one in given for part in one):
        held = Counter(part for one in given for part in dict.fromkeys(one))
        return [part for part, count in held.items() if 2 * count > len(given)]
    if len(set(map(len, given))) > 1:
        return None  # judges of other criteria
    means = [fmean(parts) for parts in zip(*given, strict=True)]
    if all(isinstance(part, int) for part in given[0]):
        return [1 + sum(other < mean for other in means) for mean in means]
    return means
