"""Scorers and selectors made of functions: of a frame, or of the texts of one row."""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import Any, ClassVar, Final, Union, get_args, get_origin

import orjson
import polars as pl
from polars.exceptions import PolarsError

from siftune.curate.core.adapted import FunctionComponent, hints_of
from siftune.curate.core.errors import UsageError
from siftune.curate.rows.chat import contents, part_of, text_of

__all__ = [
    "TEXTS",
    "RowFunction",
    "ScorerFunction",
    "SelectorFunction",
    "field_column",
    "listed",
    "with_fields",
    "with_texts",
]

_SIDES: Final = ("chosen", "rejected")

TEXTS: Final = ("prompt", "response", "messages", *_SIDES)
"""Parameters by which a function asks for the texts, or the turns, of one row."""

_NO_TEXTS: Final = ("completion", "completions", "answer", "question", "instruction", "row")
"""First parameters that are likely meant for one row, and that no row has."""

_TYPES: Final = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}


class RowFunction(FunctionComponent):
    """A function of a frame; or row by row, of ``prompt``, ``response`` and ``messages``.

    Of a pair it may take ``chosen`` and ``rejected``, the texts of both.

    Its first parameter decides which of both it is. Where a row lacks a text that the function
    takes it is not called, and the answer is null.
    """

    declared: ClassVar[Sequence[str]] = ("needs", "adds", "wants", "whole", "describe", "flags")

    @classmethod
    def refuse_other_texts(cls, label: str) -> None:
        """Refuse a first parameter such as ``completion``, for which it would be given the frame.

        Raises:
            UsageError: it is called so.
        """
        if cls.data[0] in (*_NO_TEXTS, "text"):
            told = f"a row has no {cls.data[0]!r}"
            told = "a text of one row is its response" if cls.data[0] == "text" else told
            raise UsageError(
                f"{label}: {told}: name the parameter prompt, response or messages to be given "
                "these of one row (of a pair chosen and rejected), or frame to be given all rows"
            )

    @classmethod
    def data_of(cls, names: Sequence[str]) -> tuple[str, ...]:
        """The texts that it takes, or else its first parameter, a frame."""
        return tuple(name for name in names if name in TEXTS) or super().data_of(names)

    @property
    def takes_frame(self) -> bool:
        """Whether it is given a frame, with the columns that the frame has."""
        return self.data[0] not in TEXTS

    def _answer(self, frame: pl.DataFrame) -> Any:
        function, options = self._function, self._options
        if self.takes_frame:
            given = with_fields(with_texts(frame))
            answer = function(given, **options)
            if isinstance(answer, pl.Expr):
                answer = given.select(answer)
                return answer.to_series() if answer.width == 1 else answer
            return answer
        if "response" in self.data and frame.schema.get("response") != pl.String:
            self._refuse_several(frame)
        self._refuse_lacking(frame)
        columns = [_column(frame, name).to_list() for name in self.data]
        return [
            None
            if None in values
            else function(**dict(zip(self.data, values, strict=True)), **options)
            for values in zip(*columns, strict=True)
        ]

    def _refuse_several(self, frame: pl.DataFrame) -> None:
        """Refuse ``response`` where rows have several, which a selector is given at once.

        Raises:
            UsageError: the rows are pairs or ranked lists.
        """
        columns = [name for name in ("chosen", "rejected", "completions") if name in frame.columns]
        if "messages" not in frame.columns and columns:
            raise UsageError(
                f"{getattr(self, '_label', type(self).__name__)}: these rows have several "
                f"responses, in {' and '.join(columns)}: score each first, rows.score(FUNCTION), "
                f"and select by these scores, or take {_instead(columns)}"
            )

    def _refuse_lacking(self, frame: pl.DataFrame) -> None:
        """Refuse turns that rows of this kind do not have.

        Raises:
            UsageError: pairs have no ``messages``, conversations no ``chosen``.
        """
        names = (name for name in self.data if name in ("messages", *_SIDES))
        if lacking := [name for name in names if name not in frame.columns]:
            there = [name for name in (*_SIDES, "completions") if name in frame.columns]
            raise UsageError(
                f"{getattr(self, '_label', type(self).__name__)}: these rows have no "
                f"{lacking[0]}: take {_instead(there)}"
            )


def _instead(columns: Sequence[str]) -> str:
    """What a function takes in place of a text that its rows do not have, or have twice."""
    if "chosen" in columns:
        return "the parameters prompt, chosen and rejected, which are texts"
    if columns:
        return f"the parameter frame, which has the column {columns[0]}"
    return "the parameters prompt, response or messages"


def with_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with ``prompt`` and ``response`` beside the turns of conversations."""
    if "messages" not in frame.columns:
        return frame
    missing = [name for name in ("prompt", "response") if name not in frame.columns]
    return frame.with_columns(_column(frame, name) for name in missing)


def with_fields(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with each field of the raw rows that has no column beside, as ``extra.NAME``.

    >>> texts = ['{"score":1,"of":[2]}', '{"score":2.5}', None]
    >>> frame = with_fields(pl.DataFrame({"extra": texts}))
    >>> frame["extra.score"].to_list(), frame["extra.of"].to_list()
    ([1.0, 2.5, None], [[2], None, None])
    """
    if frame.schema.get("extra") != pl.String:
        return frame
    rows = [orjson.loads(text) if text else {} for text in frame["extra"]]
    keys = dict.fromkeys(key for row in rows for key in row)
    return frame.with_columns(
        field_column(f"extra.{key}", [row.get(key) for row in rows]) for key in keys
    )


def field_column(name: str, values: list[Any]) -> pl.Series:
    """Values of a field; as texts where they are of several types."""
    try:
        return listed(values).alias(name)
    except (TypeError, ValueError, OverflowError, PolarsError):
        texts = [v if isinstance(v, str | None) else orjson.dumps(v).decode() for v in values]
        return pl.Series(name, texts, dtype=pl.String)


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    """A text, or the turns, of each row."""
    if name == "messages":
        return frame["messages"]
    part: Any = name
    if frame.schema.get(name) == pl.String:  # a plain frame, not a table of ours
        return frame[name]
    if isinstance(frame.schema.get(name), pl.List) and "messages" not in frame.columns:
        return contents(frame[name]).alias(name)
    if "messages" in frame.columns:
        return part_of(frame["messages"], part).alias(name)
    return text_of(frame, part).alias(name)


def listed(answer: Any) -> pl.Series:
    """A list as a series: floats where there is one; polars takes the type of the first."""
    kinds = {type(one) for one in answer} if isinstance(answer, list) else set()
    mixed = {int, float} <= kinds <= {int, float, bool, type(None)}
    return pl.Series(answer, dtype=pl.Float64 if mixed else None, strict=False)


class ScorerFunction(RowFunction):
    """A scorer from a function: one column of its name, a number unless it is annotated else."""

    needs: Any = ("messages",)

    @classmethod
    def needs_of(cls) -> Any:
        """What it needs: the columns of a pair if it takes both sides, else conversations."""
        of_pairs = not vars(cls).get("needs") and not {*_SIDES}.isdisjoint(cls.data)
        return cls.data if of_pairs else cls.needs

    @property
    def whole(self) -> bool:
        """Whether it is given all rows at once: by default where it is given a frame."""
        return self.takes_frame

    @property
    def adds(self) -> dict[str, Any]:
        """A column of the function's name; ``float`` where no other type is annotated."""
        kinds: dict[Any, Any] = _TYPES
        answer = _plain(hints_of(self._annotated).get("return"))
        if get_origin(answer) is list and (inner := kinds.get(get_args(answer)[0])):
            return {type(self).__name__: pl.List(inner)}
        return {type(self).__name__: kinds.get(answer, pl.Float64)}

    def __call__(self, batch: pl.DataFrame) -> Any:
        """The result of the function."""
        return self._answer(batch)


def _plain(hint: Any) -> Any:
    """The type in ``X | None``."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    inner = [one for one in get_args(hint) if one is not type(None)]
    return inner[0] if len(inner) == 1 else hint


class SelectorFunction(RowFunction):
    """A selector from a function: which rows are kept."""

    needs: Any = ("*",)

    def __call__(self, table: pl.DataFrame) -> Any:
        """The result of the function."""
        return self._answer(table)
