"""Formats and export layouts of users: a function of a record, or a class as ours are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from siftune.curate.core.adapted import Checked, FunctionComponent
from siftune.curate.core.errors import BadRow, UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import KINDS
from siftune.curate.core.types import Row

__all__ = ["READ_BY", "CheckedExport", "CheckedFormat"]

READ_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "conversation": ("messages", "prompt_completion"),
    "text": ("text",),
    "preference": ("preference",),
    "unpaired": ("unpaired",),
    "ranked": ("ranked",),
}
"""The formats that read what a user's function returns, for each kind of rows."""


_OF_COMPLETIONS: Final = ("conversation", "unpaired")
"""Kinds whose records have a ``completion``, which may be called response or answer."""


class _FormatDefaults:
    over: Any = ()
    many: Any = False


class _FormatFunction(_FormatDefaults, FunctionComponent):
    """A format from a function: it returns a record of a format of ours, several, or None.

    ``kind`` is an attribute of the function, conversation by default: the record has ``messages``,
    or ``prompt`` and ``completion`` (or ``response``, ``answer``); for the other kinds it is one of
    `READ_BY`.
    """

    declared: ClassVar[Sequence[str]] = ("kind", "over", "many")
    kind: Any = "conversation"

    def read(self, row: Row) -> list[Row]:
        """The rows of a raw record."""
        made = self._function(row, **self._options)
        listed = made if isinstance(made, list) else [made]
        return [one for record in listed for one in self._rows(record)]

    def _rows(self, record: Any) -> list[Row]:
        if record is None:
            raise BadRow("not_taken", "the format returns None for it")
        if not isinstance(record, dict):
            raise BadRow("not_taken", f"the format returns {type(record).__name__}, not a dict")
        if "completion" not in record and self.kind in _OF_COMPLETIONS:
            named = next((name for name in ("response", "answer") if name in record), None)
            record = {"completion" if key == named else key: one for key, one in record.items()}
        names = READ_BY[self.kind]
        last = names[-1] if "messages" not in record else names[0]
        return list(build("curate.formats", last, {}).read(record))

    def matches(self, row: Row) -> bool:
        """Whether the function reads a raw record."""
        try:
            return bool(self.read(row))
        except BadRow:
            return False


class CheckedFormat(Checked):
    """A format: a record that it fails on is set aside with the error, as any that it refuses."""

    required: ClassVar[Sequence[str]] = ("kind", "matches", "read")
    function: ClassVar[type[FunctionComponent]] = _FormatFunction
    defaults: ClassVar[type[Any]] = _FormatDefaults

    def __init_subclass__(cls) -> None:
        """Refuse a kind of rows that there is none of."""
        if getattr(cls, "kind", KINDS[0]) not in KINDS:
            wrong = f"kind: expected one of {', '.join(KINDS)}, got {cls.kind!r}"  # type: ignore[attr-defined]
            raise UsageError(f"{cls._label}: {wrong}")

    def matches(self, row: Row) -> bool:
        """Whether it reads a raw record."""
        try:
            return bool(self._call(super().matches, row))  # type: ignore[misc]
        except UsageError:
            return False

    def read(self, row: Row) -> list[Row]:
        """Our rows of a raw record.

        Raises:
            BadRow: the format refuses the record, or fails on it.
        """
        try:
            rows: list[Row] = list(self._call(super().read, row))  # type: ignore[misc]
        except UsageError as error:
            raise BadRow("format_failed", str(error)) from error
        return [{"extra": {}, **one} for one in rows]

    def write(self, row: Row) -> Row:
        """The raw record, where the class writes any."""
        own = getattr(super(), "write", None)
        if own is None:
            raise BadRow("no_place", f"{self._label} writes no records")
        record: Row = self._call(own, row)
        return record


class _ExportDefaults:
    containers: Any = ("jsonl", "parquet", "datasets")
    shapes: Any = (
        *("messages", "prompt_completion", "prompt_only"),
        *("preference", "unpaired", "text"),
    )


class _ExportFunction(_ExportDefaults, FunctionComponent):
    """An export layout from a function of a record, and of its ``shape`` if it takes that."""

    declared: ClassVar[Sequence[str]] = ("title", "shapes", "containers")

    @classmethod
    def data_of(cls, names: Sequence[str]) -> tuple[str, ...]:
        """``shape`` and ``record``; without such names the first, which is given the record."""
        known = tuple(name for name in names if name in ("shape", "record"))
        return known if "record" in known else tuple(name for name in names[:1])

    def write(self, shape: str, record: Row) -> Any:
        """What the function makes of a record."""
        if "record" not in self.data:
            return self._function(record, **self._options)
        given = {"shape": shape, "record": record}
        return self._function(**{name: given[name] for name in self.data}, **self._options)


class CheckedExport(Checked):
    """An export layout, each of whose records is an object."""

    required: ClassVar[Sequence[str]] = ("write",)
    function: ClassVar[type[FunctionComponent]] = _ExportFunction
    defaults: ClassVar[type[Any]] = _ExportDefaults

    @property
    def title(self) -> str:
        """The name of the layout."""
        return str(getattr(super(), "title", type(self).__name__))

    def write(self, shape: str, record: Row) -> Row:
        """One record of the data file.

        Raises:
            UsageError: it is no object.
        """
        made = self._call(super().write, shape, record)  # type: ignore[misc]
        if not isinstance(made, dict):
            raise self._refused(f"expected a dict for each record, got {type(made).__name__}")
        return made

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """Files beside the data; none where the class names none."""
        own = getattr(super(), "files", None)
        return {} if own is None else dict(self._call(own, shape, name, data))

    def usage(self, shape: str, name: str, data: str) -> str:
        """How to train on the export, if the class defines it."""
        own = getattr(super(), "usage", None)
        return "" if own is None else str(self._call(own, shape, name, data))
