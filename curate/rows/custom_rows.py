"""Scorers and selectors of users, whose results are checked: a value for each row, in order."""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence, Sized
from typing import Any, ClassVar, Final

import orjson
import polars as pl
from polars.exceptions import ColumnNotFoundError, PolarsError

from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.curate.rows.decisions import decide
from siftune.curate.rows.row_functions import (
    TEXTS,
    RowFunction,
    ScorerFunction,
    SelectorFunction,
    field_column,
    listed,
    with_fields,
    with_texts,
)

__all__ = ["CheckedScorer", "CheckedSelector"]

_SHOWN: Final = 80  # characters of a text that an error quotes


class _CheckedRows(Checked):
    """What the checks of scorers and of selectors share."""

    reserved: ClassVar[Container[str]] = frozenset(
        {"score", "select", "sides", "turns", "out", "overwrite"}
    )
    needs: Any

    @classmethod
    def _complete(cls, made: type[Any]) -> None:
        """Let `needs` name fields of the raw rows, as ``extra.NAME``: one column has them all."""
        own, label = made.needs, made._label
        if issubclass(made, RowFunction):
            made.refuse_other_texts(label)
        if issubclass(made, ScorerFunction):
            own = made.needs_of()
        if isinstance(own, property):
            made.needs = property(lambda self: _columns_of(own.__get__(self)))
        else:
            made.needs = _columns_of(own)

    @classmethod
    def _is_as_ours(cls, own: type[Any], parameters: Sequence[str]) -> bool:
        """With a frame, not with texts."""
        return not set(parameters) & set(TEXTS)

    def _check_declared(self) -> None:
        needs = self.needs
        if isinstance(needs, str) or not all(isinstance(one, str) for one in needs):
            raise self._refused(
                f"its `needs` are {needs!r}; expected names of columns, such as ('messages',)"
            )

    def _asked(self, frame: pl.DataFrame, function: Any) -> Any:
        """What the component returns for a frame.

        Raises:
            UsageError: it fails, or reads a column that it is not given.
        """
        answer = self._call(self._explained, function, frame)
        return pl.DataFrame(answer) if isinstance(answer, dict) else answer

    def _explained(self, function: Any, frame: pl.DataFrame) -> Any:
        try:
            answer = function(frame)
            return answer.collect() if isinstance(answer, pl.LazyFrame) else answer
        except ColumnNotFoundError as error:
            what = str(error).split("\n")[0].partition(";")[0]
            there = with_fields(frame).columns
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
            found = answer if isinstance(answer, pl.Series) else listed(answer)
        except (TypeError, ValueError, PolarsError):
            found = pl.Series()
        if answer is not None and not isinstance(answer, str | bytes) and len(found) == height:
            return found
        told = f"{len(found):,}" if isinstance(answer, Sized) else type(answer).__name__
        of_frame = isinstance(self, RowFunction) and self.takes_frame
        hint = (
            ": it was given the frame; name the parameter prompt, response or messages for one row"
            if of_frame and not isinstance(answer, list | pl.Series)
            else ""
        )
        raise self._refused(f"expected {what} for each of the {height:,} rows, got {told}{hint}")

    def _whole(
        self, answer: pl.DataFrame, columns: Sequence[str], given: pl.DataFrame
    ) -> pl.DataFrame:
        """The frame that it returns, in the order of the rows that it was given.

        Raises:
            UsageError: it lacks a column or rows, or its rows are in another order and have no ids.
        """
        lacking = [name for name in columns if name not in answer.columns]
        if lacking or answer.height != given.height:
            raise self._refused(
                f"expected a frame of {given.height:,} rows with {', '.join(columns)}, got "
                f"{answer.height:,} rows with {', '.join(answer.columns)}"
            )
        if "id" in answer.columns and "id" in given.columns:
            return self._by_id(answer, given["id"])
        own = with_texts(given)
        for name in answer.columns:
            if name in own.columns and _is_reordered(answer[name], own[name]):
                raise self._refused(
                    f"the frame that it returns has its rows in another order ({name!r} shows "
                    "it): keep the order of the frame that it is given"
                )
        return answer

    def _by_id(self, answer: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
        if answer["id"].equals(ids):
            return answer
        if ids.is_duplicated().any() or not _is_reordered(answer["id"], ids):
            raise self._refused(
                "the frame that it returns has other ids than the rows that it was given: keep "
                "the column id as it is"
            )
        return ids.to_frame("id").join(answer, on="id", how="left", maintain_order="left")


def _is_reordered(answer: pl.Series, given: pl.Series) -> bool:
    """Whether a column has the values that were given in another order."""
    if answer.dtype != given.dtype or answer.equals(given):
        return False
    return sorted(map(repr, answer.to_list())) == sorted(map(repr, given.to_list()))


def _columns_of(needs: Any) -> Any:
    if not isinstance(needs, list | tuple):
        return needs
    is_field = (isinstance(one, str) and one.startswith("extra.") for one in needs)
    return tuple("extra" if field else one for one, field in zip(needs, is_field, strict=True))


def _numbers(answer: Any) -> Any:
    """The numbers of a tensor, or of tensors of one, which polars does not read from a graph."""
    if isinstance(answer, list):
        return [_numbers(one) if hasattr(one, "detach") else one for one in answer]
    if not hasattr(answer, "detach"):
        return answer
    return answer.detach().cpu().numpy() if answer.ndim else answer.item()


class CheckedScorer(_CheckedRows):
    """A scorer whose answer has one value of the declared types for each row, or null."""

    required: ClassVar[Sequence[str]] = ("needs", "adds", "__call__")
    function: ClassVar[type[FunctionComponent]] = ScorerFunction
    adds: Any

    def _check_declared(self) -> None:
        super()._check_declared()
        adds = self.adds
        try:
            types = pl.DataFrame(schema=dict(adds)).schema
        except (TypeError, ValueError, PolarsError):
            raise self._refused(
                f"its `adds` are {adds!r}; expected a type for each column, such as "
                '{"name": float}'
            ) from None
        open_ended = [name for name, one in types.items() if one == pl.List(pl.Null)]
        if open_ended:
            name = open_ended[0]
            raise self._refused(
                f"its `adds` have a list of nothing for {name!r}: name the type of its values, "
                f"such as {{{name!r}: list[float]}}"
            )

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
        answer = self._whole(answer, list(adds), batch)
        return pl.DataFrame({name: self._typed(answer[name], kind) for name, kind in adds.items()})

    def _joined(self, answers: list[Any], names: list[str]) -> pl.DataFrame:
        """The dicts that a function of one row returns, as a frame; null for a row without one."""
        for one in answers:
            if one is not None and not (isinstance(one, dict) and one.keys() >= set(names)):
                got = f"keys {', '.join(map(repr, one))}" if isinstance(one, dict) else repr(one)
                shown = ", ".join(f"{key!r}: float" for key in one) if isinstance(one, dict) else ""
                raise self._refused(
                    f"expected a dict with {', '.join(map(repr, names))} a row, got {got}; its "
                    f"attribute `adds` names the columns, such as {{{shown or '...'}}}"
                )
        rows = [one or {} for one in answers]
        return pl.DataFrame([field_column(name, [row.get(name) for row in rows]) for name in names])

    def _typed(self, column: pl.Series, kind: Any) -> pl.Series:
        wanted = pl.Series([], dtype=kind).dtype
        number = column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)
        if wanted.is_numeric() and not number:
            raise self._refused(
                f"expected numbers in {column.name!r}, got {column.dtype}; annotate what it "
                "returns (`-> str`, `-> list[float]`), or set its attribute `adds`"
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
            return self._decided(answer, table)
        keep = self._mask(self._series(answer, table.height, "true or false"))
        if table.height and keep.null_count() == table.height:
            warnings.warn(
                f"{self._label}: it returns null (None) for all {table.height:,} rows, which are "
                "dropped as not_scored: does it end with a return?",
                stacklevel=2,
            )
        return decide(keep.fill_null(False), self._reasons(keep))

    def _mask(self, keep: pl.Series) -> pl.Series:
        if keep.dtype not in (pl.Boolean, pl.Null):
            raise self._refused(f"expected true or false for each row, got {keep.dtype}")
        return keep.cast(pl.Boolean)

    def _decided(self, answer: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
        answer = self._whole(answer, ["keep"], table)
        keep = self._mask(answer["keep"])
        given = {name: answer[name] for name in ("reason", "detail") if name in answer.columns}
        for name, column in given.items():
            if column.dtype not in (pl.String, pl.Null):
                raise self._refused(f"expected texts in {name!r}, got {column.dtype}")
        if keep.null_count():
            raise self._refused(f"{keep.null_count():,} rows have no `keep`")
        if "detail" in given:
            self._check_details(given["detail"])
        own = self._reasons(keep)
        reason = given.get("reason", own).cast(pl.String).replace("", None).fill_null(own)
        detail = given.get("detail", pl.Series([None] * table.height, dtype=pl.String))
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
