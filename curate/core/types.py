"""Protocols of components: scorer, selector, format, export layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import polars as pl

from siftune.curate.core.schema import Kind

__all__ = ["ExportLayout", "Format", "Row", "Scorer", "Selector"]

Row = dict[str, Any]
"""One raw record, or one row of ours, as plain Python values."""


class Scorer(Protocol):
    """Adds columns to a batch; no state, any order, any batch size.

    ``needs`` names the columns it reads. A scorer that needs ``messages`` gets one conversation a
    row: both sides of a pair and each answer of a ranked list are passed in turn
    (`conversation_views`). What cannot be scored is null. A scorer may also have ``describe()``:
    its resolved options, for keys and manifests; ``measured()``: what it measured, for the
    manifest; ``notice()``: a line for the user before the first row; ``flags``: all flags that its
    column of lists can have, and ``harmless``: those that the flags selector drops no row for
    unless they are named; ``gaps``: columns of which a pair also gets chosen minus rejected. One
    with ``whole = True`` compares rows with each other: a run gives it all rows at once, so its
    scores depend on the table, though never on the order. One with ``trains = True`` trains a model
    first, and is not timed on a few rows for a forecast.
    ``check_reference()`` replaces the usual check of ``against``, rows of another source.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that are read."""

    @property
    def adds(self) -> Mapping[str, pl.DataType | type[pl.DataType]]:
        """Columns that are added, and their types; each name starts with the scorer's."""

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Exactly the columns of ``adds``, in the order of ``batch``."""


class Selector(Protocol):
    """Decides on every row of a table.

    ``needs`` names columns; ``"content"`` stands for the content columns of the rows' kind. ``id``
    and ``digest`` are always there. A selector may also have ``wants``: columns it uses when the
    table has them; ``writes``: paths that it writes besides its decisions, without which a stage is
    not done; and ``reads``: pairs of a column's name and its `columns.Reader`, so that a column of
    a type that it cannot use is refused before anything runs. Where it has an option ``against``,
    ``reads_reference`` are such pairs for the columns of the reference. ``sets_aside`` names the
    part of the rows that it drops; a run writes it, too. ``most_kept(rows, sources)`` is the most
    that it keeps of so many rows of so many sources, for the forecast of a run.

    Further columns in its answer replace those of the rows, or are added (then named in ``adds``,
    with their types): rows may be corrected, with a reason and their new ``digest``.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that are read."""

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """``keep: bool, reason: str, detail: str | null`` (a JSON object), one row for each given.

        The decision on a row depends on the content of the rows, never on their order: ties go to
        the smaller ``digest``, then to the smaller ``id``.
        """


class Format(Protocol):
    """One raw layout: detection, and conversion to our columns and back.

    A format may also have ``layout`` (`records.layout`), and ``facts``: the columns of
    `schema.SOME` that it adds; and ``notes(rows)``: lines for the user about the first records of a
    file. One whose records have a place for ``tools`` may have ``tools =
    True``: exports keep them.
    """

    @property
    def kind(self) -> Kind:
        """The kind of rows it gives."""

    @property
    def over(self) -> tuple[str, ...]:
        """Formats that match its rows, too; it is preferred to them."""

    @property
    def many(self) -> bool:
        """Whether one record may give several rows (a tree); their ids are ``source:row.n``."""

    def matches(self, row: Row) -> bool:
        """Whether one raw record has this layout."""

    def read(self, row: Row) -> Iterable[Row]:
        """Our row (content and facts, no base columns but ``extra`` as a dict) of a raw record.

        Most formats give one row; a tree gives one for each thread.

        Raises:
            BadRow: the record has the layout's keys but cannot be read.
        """

    def write(self, row: Row) -> Row:
        """The raw record of one of our rows.

        Raises:
            BadRow: the layout has no place for something in the row.
        """


class ExportLayout(Protocol):
    """The layout of one trainer's data, for `siftune curate export`.

    A class attribute ``shapes`` names the records it takes (`export.training_records`),
    ``containers`` the kinds of files its reader opens (jsonl, parquet, datasets), the default
    first. ``title`` is the trainer's own name.
    """

    @property
    def title(self) -> str:
        """The trainer's name as its authors write it."""

    @property
    def shapes(self) -> tuple[str, ...]:
        """Shapes of records that the trainer takes."""

    @property
    def containers(self) -> tuple[str, ...]:
        """Containers that its reader opens."""

    def write(self, shape: str, record: Row) -> Row:
        """One row of the data file; each row of a shape has the same types.

        Raises:
            BadRow: the layout has no place for something in the record.
        """

    def files(self, shape: str, name: str, data: str) -> Mapping[str, str]:
        """Further files by name, such as a registry of datasets.

        ``name`` is the name of the dataset, ``data`` that of the file beside (``.`` for the folder
        of a saved dataset).
        """

    def usage(self, shape: str, name: str, data: str) -> str:
        """How to train on the export: a command, or lines of a configuration file."""
