"""A format's usual records, declared, so that many of them can be taken without reading each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from siftune.curate.records.side_fields import BESIDE

__all__ = ["Form", "Layout", "Said", "Side"]

Form: TypeAlias = Literal["list", "text", "either", "dialogue"]


@dataclass(frozen=True)
class Said:
    """One turn: its role, the key of its text, and of a text that may follow after a blank line.

    The text ``beside`` may be missing, null or empty, and is then as if it were not there; else it
    stays in ``extra`` as well.
    """

    role: str
    key: str
    beside: str | None = None


@dataclass(frozen=True)
class Side:
    """Turns: a list of them under ``key`` or, instead, under ``other``; or a text, which is one.

    ``role`` is that of a text. A ``dialogue`` is a text of turns with their marks, the last an
    assistant's. An empty list is not taken.
    """

    key: str
    role: str = "assistant"
    form: Form = "either"
    other: str | None = None


@dataclass(frozen=True)
class Layout:
    """What `Format.read` makes of a record whose fields are just this; of others nothing is said.

    ``columns`` are the content columns, each of `Said` or each of `Side` in a row. The turns of a
    list are objects of ``turn`` (role and text) and nothing else, with roles of ``roles`` (raw to
    ours). ``numbers`` are facts, finite numbers or null; ``truths`` are content, true or false,
    or 1 or 0. ``unused`` fields, and those of `core.readers.beside` in every layout, are dropped
    where they are null or empty; where they are not, the layout does not apply, nor to records with
    ``refused`` fields. All other fields are left to ``extra``; where ``doubted``, a pattern of its
    keys, is found in it, the layout does not apply, but for a list of turns that begins with a
    question and ends with an answer.

    Rows whose ``differ`` columns are equal are not taken. Where these are lists, the column
    ``shared`` may be missing: it is the turns that both begin with, at least one turn each left
    out, unless it is given and neither begins with a system's or a user's turn. The number
    ``judged``, from 1 to 2, says which of the two is better; it gives facts, and the place that the
    better one had to ``extra``.
    """

    columns: Mapping[str, tuple[Said, ...] | tuple[Side, ...]]
    turn: tuple[str, str] = ("role", "content")
    roles: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    differ: tuple[str, str] | None = None
    shared: str | None = None
    judged: str | None = None
    refused: tuple[str, ...] = ()
    doubted: str = ""

    def keys(self) -> set[str]:
        """The keys of all fields but those that are left to ``extra``."""
        texts = {key for each in self.said() for key in (each.key, each.beside)}
        sides = {key for each in self.sides() for key in (each.key, each.other)}
        named = {*self.numbers, *self.truths, *self.empty(), *self.refused, self.judged}
        return {key for key in texts | sides | named if key}

    def empty(self) -> tuple[str, ...]:
        """The keys of fields that are null or empty where the layout applies."""
        return (*self.unused, *(key for key in BESIDE if key not in self.unused))

    def said(self) -> Iterator[Said]:
        """The texts of all columns."""
        return (each for turns in self.columns.values() for each in turns if isinstance(each, Said))

    def sides(self) -> Iterator[Side]:
        """The sides of all columns."""
        return (each for turns in self.columns.values() for each in turns if isinstance(each, Side))
