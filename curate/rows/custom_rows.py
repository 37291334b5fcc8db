"""Scorers and selectors of users: a function of a frame, or of the texts of one row."""

from __future__ import annotations

from collections.abc import Container, Sequence, Sized
from typing import Any, ClassVar, Final

import orjson
import polars as pl
from polars.exceptions import ColumnNotFoundError, PolarsError

from siftune.curate.core.adapted import Checked, FunctionComponent, hints_of
from siftune.curate.rows.chat import part_of, text_of
from siftune.curate.rows.decisions import decide

__all__ = ["CheckedScorer", "CheckedSelector"]

_TEXTS: Final = ("prompt", "response", "messages")
"""Parameters by which a function asks for the texts, or the turns, of one row."""

_SHOWN: Final = 80  # characters of a text that an error quotes
_TYPES: Final = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}


class RowFunction(FunctionComponent):
    """A function of a frame; or row by row, of ``prompt``, ``response`` and ``messages``.

    Its first parameter decides which of both it is. Where a row lacks a text that the function
    takes it is not called, and the answer is null.
    """

    declared: ClassVar[Sequence[str]] = ("needs", "adds", "wants", "describe", "flags")

    @classmethod
    def data_of(cls, names: Sequence[str]) -> tuple[str, ...]:
        """The texts that it takes, or else its first parameter, a frame."""
        return tuple(name for name in names if name in _TEXTS) or super().data_of(names)

    def _answer(self, frame: pl.DataFrame) -> Any:
        function, options = self._function, self._options
        if self.data[0] not in _TEXTS:
            given = _with_fields(_with_texts(frame))
            answer = function(given, **options)
            if isinstance(answer, pl.Expr):
                answer = given.select(answer)
                return answer.to_series() if answer.width == 1 else answer
            return answer
        columns = [_column(frame, name).to_list() for name in self.data]
        return [
            None
            if None in values
            else function(**dict(zip(self.data, values, strict=True)), **options)
            for values in zip(*columns, strict=True)
        ]


def _with_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with ``prompt`` and ``response`` beside the turns of conversations."""
    if "messages" not in frame.columns:
        return frame
    missing = [name for name in ("prompt", "response") if name not in frame.columns]
    return frame.with_columns(_column(frame, name) for name in missing)


def _with_fields(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with each field of the raw rows that has no column beside, as ``extra.NAME``.

    >>> texts = ['{"score":1,"of":[2]}', '{"score":2.5}', None]
    >>> frame = _with_fields(pl.DataFrame({"extra": texts}))
    >>> frame["extra.score"].to_list(), frame["extra.of"].to_list()
    ([1.0, 2.5, None], [[2], None, None])
    """
    if frame.schema.get("extra") != pl.String:
        return frame
    rows = [orjson.loads(text) if text else {} for text in frame["extra"]]
    keys = dict.fromkeys(key for row in rows for key in row)
    return frame.with_columns(
        _field(f"extra.{key}", [row.get(key) for row in rows]) for key in keys
    )


def _field(name: str, values: list[Any]) -> pl.Series:
    """Values of a field; as texts where they are of several types."""
    try:
        return _listed(values).alias(name)
    except (TypeError, ValueError, OverflowError, PolarsError):
        texts = [v if isinstance(v, str | None) else orjson.dumps(v).decode() for v in values]
        return pl.Series(name, texts, dtype=pl.String)


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    """A text, or the turns, of each row; of a pair's answers both."""
    if name == "messages":
        return frame["messages"]
    part: Any = name
    if frame.schema.get(name) == pl.String:  # a plain frame, not a table of ours
        return frame[name]
    if "messages" in frame.columns:
        return part_of(frame["messages"], part).alias(name)
    return text_of(frame, part).alias(name)


class _CheckedRows(Checked):
    """What the checks of scorers and of selectors share."""

    reserved: ClassVar[Container[str]] = frozenset(
        {"score", "select", "sides", "turns", "out", "overwrite"}
    )
    needs: Any

    @classmethod
    def _complete(cls, made: type[Any]) -> None:
        """Let `needs` name fields of the raw rows, as ``extra.NAME``: one column has them all."""
        own = made.needs
        if isinstance(own, property):
            made.needs = property(lambda self: _columns_of(own.__get__(self)))
        else:
            made.needs = _columns_of(own)

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        """With a frame, not with texts."""
        return not set(parameters) & set(_TEXTS)

    def _check_declared(self) -> None:
        needs = self.needs
        if isinstance(needs, str) or not all(isinstance(one, str) for one in needs):
            raise self._refused(
                f"its `needs` are {needs!r}; expected names of columns, such as ('messages',)"
            )

    def _asked(self, frame: pl.DataFrame, function: Any) -> Any:
        """What the component answers to a frame.

        Raises:
            UsageError: it fails, or reads a column that it is not given.
        """
        answer = self._call(self._explained, function, frame)
        return pl.DataFrame(answer) if isinstance(answer, dict) else answer

    def _explained(self, function: Any, frame: pl.DataFrame) -> Any:
        try:
            return function(frame)
        except ColumnNotFoundError as error:
            what = str(error).split("\n")[0].partition(";")[0]
            there = _with_fields(frame).columns
            texts = ", prompt, response" if "messages" in frame.columns else ""
            raise self._refused(
                f"{what}; it is given {', '.join(there)}{texts}; list the columns that it reads "
                "in its attribute `needs`, a field of the raw rows as 'extra.NAME'"
            ) from error

    def _series(self, answer: Any, height: int, what: str) -> pl.Series:
        """The answer as one value for each row.

        Raises:
            UsageError: it is none, or there are more or fewer of them than rows.
        """
        answer = _numbers(answer)
        try:
            found = answer if isinstance(answer, pl.Series) else _listed(answer)
        except (TypeError, ValueError, PolarsError):
            found = pl.Series()
        if answer is not None and not isinstance(answer, str | bytes) and len(found) == height:
            return found
        told = f"{len(found):,}" if isinstance(answer, Sized) else type(answer).__name__
        of_frame = isinstance(self, RowFunction) and self.data[0] not in _TEXTS
        hint = (
            ": it was given the frame; name the parameter prompt, response or messages for one row"
            if of_frame and not isinstance(answer, list | pl.Series)
            else ""
        )
        raise self._refused(f"expected {what} for each of the {height:,} rows, got {told}{hint}")

    def _whole(self, answer: pl.DataFrame, columns: Sequence[str], height: int) -> None:
        lacking = [name for name in columns if name not in answer.columns]
        if lacking or answer.height != height:
            raise self._refused(
                f"expected a frame of {height:,} rows with {', '.join(columns)}, got "
                f"{answer.height:,} rows with {', '.join(answer.columns)}"
            )


def _columns_of(needs: Any) -> Any:
    if not isinstance(needs, list | tuple):
        return needs
    is_field = (isinstance(one, str) and one.startswith("extra.") for one in needs)
    return tuple("extra" if field else one for one, field in zip(needs, is_field, strict=True))


def _listed(answer: Any) -> pl.Series:
    """A list as a series: floats where there is one; polars takes the type of the first."""
    kinds = {type(one) for one in answer} if isinstance(answer, list) else set()
    mixed = {int, float} <= kinds <= {int, float, bool, type(None)}
    return pl.Series(answer, dtype=pl.Float64 if mixed else None, strict=False)


def _numbers(answer: Any) -> Any:
    """The numbers of a tensor, or of tensors of one, which polars does not read from a graph."""
    if isinstance(answer, list):
        return [_numbers(one) if hasattr(one, "detach") else one for one in answer]
    if not hasattr(answer, "detach"):
        return answer
    return answer.detach().cpu().numpy() if answer.ndim else answer.item()


class ScorerFunction(RowFunction):
    """A scorer from a function: one column of its name, a number unless it is annotated else."""

    needs: Any = ("messages",)

    @property
    def adds(self) -> dict[str, Any]:
        """A column of the function's name; ``float`` where no other type is annotated."""
        kinds: dict[Any, Any] = _TYPES
        answer = _plain(hints_of(self._annotated).get("return"))
        return {type(self).__name__: kinds.get(answer, pl.Float64)}

    def __call__(self, batch: pl.DataFrame) -> Any:
        """What the function answers."""
        return self._answer(batch)


def _plain(hint: Any) -> Any:
    """The type in ``X | None``."""
    inner = [one for one in getattr(hint, "__args__", ()) if one is not type(None)]
    return inner[0] if len(inner) == 1 else hint


class CheckedScorer(_CheckedRows):
    """A scorer whose answer has one value of the declared types for each row, or null."""

    required: ClassVar[Sequence[str]] = ("needs", "adds", "__call__")
    function: ClassVar[type[FunctionComponent]] = ScorerFunction
    adds: Any

    def _check_declared(self) -> None:
        super()._check_declared()
        adds = self.adds
        try:
            pl.DataFrame(schema=dict(adds))
        except (TypeError, ValueError, PolarsError):
            raise self._refused(
                f"its `adds` are {adds!r}; expected a type for each column, such as "
                '{"name": float}'
            ) from None

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The columns of ``adds``.

        Raises:
            UsageError: the answer is of another height, type or name.
        """
        answer, adds = self._asked(batch, super().__call__), dict(self.adds)  # type: ignore[misc]
        if isinstance(answer, list) and any(isinstance(one, dict) for one in answer):
            answer = self._joined(answer, list(adds))
        if not isinstance(answer, pl.DataFrame):
            if len(adds) > 1:
                raise self._refused(
                    f"expected a frame, or a dict a row, with {', '.join(adds)}, got "
                    f"{type(answer).__name__}"
                )
            answer = self._series(answer, batch.height, "a score").to_frame(next(iter(adds)))
        self._whole(answer, list(adds), batch.height)
        return pl.DataFrame({name: self._typed(answer[name], kind) for name, kind in adds.items()})

    def _joined(self, answers: list[Any], names: list[str]) -> pl.DataFrame:
        """The dicts that a function of one row answers, as a frame; null for a row without one."""
        for one in answers:
            if one is not None and not (isinstance(one, dict) and one.keys() >= set(names)):
                got = f"keys {', '.join(map(repr, one))}" if isinstance(one, dict) else repr(one)
                shown = ", ".join(f"{key!r}: float" for key in one) if isinstance(one, dict) else ""
                raise self._refused(
                    f"expected a dict with {', '.join(map(repr, names))} a row, got {got}; its "
                    f"attribute `adds` names the columns, such as {{{shown or '...'}}}"
                )
        rows = [one or {} for one in answers]
        return pl.DataFrame([_field(name, [row.get(name) for row in rows]) for name in names])

    def _typed(self, column: pl.Series, kind: Any) -> pl.Series:
        wanted = pl.Series([], dtype=kind).dtype
        number = column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)
        if wanted.is_numeric() and not number:
            raise self._refused(
                f"expected numbers in {column.name!r}, got {column.dtype}; annotate what it "
                "returns (`-> str`), or set its attribute `adds`"
            )
        if wanted.is_integer() and column.dtype.is_float():
            broken = column.filter((column != column.round()).fill_null(False))
            if len(broken):
                raise self._refused(
                    f"expected whole numbers in {column.name!r}, got {broken[0]}; annotate what it "
                    "returns (`-> float`), or set its attribute `adds`"
                )
        try:
            found = column.cast(wanted)
        except PolarsError as error:
            first = str(error).split("\n")[0]
            raise self._refused(f"{column.name!r}: expected {wanted}: {first}") from error
        return found.fill_nan(None) if wanted.is_float() else found


class SelectorFunction(RowFunction):
    """A selector from a function: which rows are kept."""

    needs: Any = ("*",)

    def __call__(self, table: pl.DataFrame) -> Any:
        """What the function answers."""
        return self._answer(table)


class CheckedSelector(_CheckedRows):
    """A selector whose answer decides on every row; a row without an answer is dropped."""

    required: ClassVar[Sequence[str]] = ("needs", "__call__")
    function: ClassVar[type[FunctionComponent]] = SelectorFunction

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """``keep``, ``reason`` and ``detail`` of each row.

        Raises:
            UsageError: the answer is of another height or type.
        """
        answer = self._asked(table, super().__call__)  # type: ignore[misc]
        if isinstance(answer, pl.DataFrame):
            return self._decided(answer, table.height)
        keep = self._mask(self._series(answer, table.height, "true or false"))
        return decide(keep.fill_null(False), self._reasons(keep))

    def _mask(self, keep: pl.Series) -> pl.Series:
        if keep.dtype not in (pl.Boolean, pl.Null):
            raise self._refused(f"expected true or false for each row, got {keep.dtype}")
        return keep.cast(pl.Boolean)

    def _decided(self, answer: pl.DataFrame, height: int) -> pl.DataFrame:
        self._whole(answer, ["keep"], height)
        keep = self._mask(answer["keep"])
        given = {name: answer[name] for name in ("reason", "detail") if name in answer.columns}
        for name, column in given.items():
            if column.dtype not in (pl.String, pl.Null):
                raise self._refused(f"expected texts in {name!r}, got {column.dtype}")
        if keep.null_count():
            raise self._refused(f"{keep.null_count():,} rows have no `keep`")
        if "detail" in given:
            self._check_details(given["detail"])
        reason = given.get("reason", self._reasons(keep))
        detail = given.get("detail", pl.Series([None] * height, dtype=pl.String))
        return decide(keep, reason, detail.cast(pl.String))

    def _check_details(self, details: pl.Series) -> None:
        """Refuse particulars that are no JSON object, which could not be explained later."""
        for text in details.drop_nulls().unique(maintain_order=True):
            try:
                found = orjson.loads(text)
            except ValueError:
                found = None
            if not isinstance(found, dict):
                raise self._refused(f"expected JSON objects in 'detail', got {text[:_SHOWN]!r}")

    def _reasons(self, keep: pl.Series) -> pl.Series:
        reason = (
            pl.when(pl.col("keep").is_null())
            .then(pl.lit("not_scored"))
            .when("keep")
            .then(pl.lit("passed"))
            .otherwise(pl.lit(f"not_{type(self).__name__}"))
        )
        return keep.to_frame("keep").select(reason=reason)["reason"]
