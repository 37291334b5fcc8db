"""Rewards that are a user's own function, class or object, and the check of what they return."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from copy import deepcopy
from typing import Any, ClassVar, Final

from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.curate.core.errors import UsageError
from siftune.finetune.core.scored import FACTS, Scored

__all__ = ["CheckedReward"]

_BATCH: Final = ("prompts", "completions", "rows")
_ONE: Final = ("prompt", "completion", "row")
_ALSO: Final = {"responses": "completions", "response": "completion"}
"""What columns and scorers call a completion."""


class _RewardFunction(FunctionComponent):
    """A reward from a function of ``prompts``, ``completions``, ``rows``, or of one of each.

    It is given those of them that it has as parameters: lists, or one by one ``prompt``,
    ``completion``, ``row``. Its other parameters without a default are fields of the rows of their
    names, unless they are set as options. Where one row has no such field, a function of one
    completion is not called, which is then not scored.
    """

    reads_fields: ClassVar[bool] = True

    @classmethod
    def data_of(cls, names: Sequence[str]) -> tuple[str, ...]:
        """The parameters for data; without such names the first two: prompts, completions."""
        for kind in (_BATCH, _ONE):
            if found := tuple(name for name in names if _ALSO.get(name, name) in kind):
                return found
        return tuple(names[:2])

    @property
    def fields_of_rows(self) -> list[str]:
        """The parameters that fields of the rows fill."""
        return [name for name in self._fields if self._options.get(name) is None]

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> Any:
        """The result of the function."""
        given = (prompts, completions, rows)
        fields = {name: [_field(row, name) for row in rows] for name in self.fields_of_rows}
        options = {key: value for key, value in self._options.items() if key not in fields}
        for kind in (_BATCH, _ONE):
            lists = {own: given[kind.index(name)] for own, name in self._named if name in kind}
            if lists and kind is _BATCH:
                return self._function(**lists, **fields, **options)
            if lists:
                return self._one_by_one(lists | fields, options)
        return self._function(*given[: len(self.data)], **fields, **options)

    @property
    def _named(self) -> list[tuple[str, str]]:
        """The parameters for data, and what each is given by its name."""
        return [(name, _ALSO.get(name, name)) for name in self.data]

    def _one_by_one(self, lists: Mapping[str, Sequence[Any]], options: Mapping[str, Any]) -> Any:
        """The result for each completion; None where a field is."""
        each = (dict(zip(lists, one, strict=True)) for one in zip(*lists.values(), strict=True))
        lacks = set(self.fields_of_rows)
        return [
            None if any(one[name] is None for name in lacks) else self._function(**one, **options)
            for one in each
        ]


def _field(row: Mapping[str, Any], name: str) -> Any:
    """A field of a row, one of the raw row first; of a known answer the text."""
    extra = row.get("extra") or {}
    if name in extra:
        return extra[name]
    is_turns = name == "answer" and isinstance(row.get(name), list)
    return row.get("reference" if is_turns else name)


class CheckedReward(Checked):
    """A user's reward, whose answer is a number or None for each completion.

    For a number it may give a mapping, ``{"score": 0.5, "spread": 0.1}``, with facts of the
    completion for the watch (`FACTS`).
    """

    required: ClassVar[Sequence[str]] = ("__call__",)
    function: ClassVar[type[FunctionComponent]] = _RewardFunction

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        """With prompts, completions and rows, whatever they are called."""
        return len(parameters) == len(_BATCH) and not set(parameters) & set(_ONE)

    @classmethod
    def _complete(cls, made: type[Any]) -> None:
        """Refuse a function of one thing whose name is not known: prompt or completion."""
        data: Sequence[str] = getattr(made, "data", ())
        if len(data) == 1 and _ALSO.get(data[0], data[0]) not in (*_BATCH, *_ONE):
            raise UsageError(
                f"{made._label}: name its parameter completion to be given one completion, or "
                f"completions to be given all; {data[0]!r} may be either, or the prompt"
            )

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Scores of completions, in order.

        Raises:
            UsageError: there are more or fewer than completions, or one is no number.
        """
        return [one.score for one in self.with_facts(prompts, completions, rows)]

    def with_facts(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[Scored]:
        """Scores of completions, in order, with the facts that the reward gives.

        Raises:
            UsageError: there are more or fewer than completions, or one is no number.
        """
        own: Any = super().__call__  # type: ignore[misc]
        given = deepcopy(([*prompts], [*completions], [*rows]))  # it may change what it is given
        try:
            answer = self._call(own, *given)
        except UsageError as error:
            if not isinstance(error.__cause__, KeyError) or not rows:
                raise
            there = f"a row has {', '.join(rows[0])}"
            extra = rows[0].get("extra")
            there += f"; its 'extra' has {', '.join(extra)}" if extra else ""
            raise UsageError(f"{error}; {there}") from error.__cause__
        listed = answer.tolist() if hasattr(answer, "tolist") else answer
        if not isinstance(listed, list | tuple) or len(listed) != len(completions):
            count = f"{len(listed):,}" if isinstance(listed, Sized) else type(listed).__name__
            raise self._refused(
                f"expected a number for each of the {len(completions):,} completions, got {count}"
            )
        return [self._scored(one) for one in listed]

    def _scored(self, answer: Any) -> Scored:
        if not isinstance(answer, Mapping):
            return Scored(self._number(answer))
        if not {"score"} <= {*answer} <= {"score", *FACTS}:
            raise self._refused(
                f"expected a number, or score with {' and '.join(FACTS)} or one of them, got "
                f"{', '.join(map(repr, answer)) or 'an empty mapping'}"
            )
        score, distance, spread = (self._number(answer.get(name)) for name in ("score", *FACTS))
        return Scored(score, distance=distance, spread=spread)

    def _number(self, value: Any) -> float | None:
        plain = value.item() if hasattr(value, "item") else value
        if plain is None or plain != plain:
            return None
        if not isinstance(plain, bool | int | float) or math.isinf(plain):
            raise self._refused(f"expected a finite number, or None, got {plain!r}")
        return float(plain)
