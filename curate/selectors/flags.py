"""Drop the rows that raise a flag, such as those of the heuristics scorer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import closest, find, names
from siftune.curate.rows.columns import Reader, base_column, values
from siftune.curate.rows.decisions import decide, details

__all__ = ["Flags"]


@dataclass(frozen=True)
class Flags:
    """Drops a row if its list of flags contains one of ``any_of``; the detail names them.

    A row with an empty list is kept; a row without a list is ``not_scored``.

    Not for quality: a row without faults may still be useless.

    Options:
        column: Column with a list of flags for each row, such as the scorer `heuristics` adds.
        any_of: Flags for which a row is dropped, with commas between; none given, any flag drops
            it but those that its scorer calls harmless, such as open_slots and no_input.
    """

    column: str = "heuristics_flags"
    any_of: tuple[str, ...] | None = None

    renamed: ClassVar = (("by", "column"),)

    def __post_init__(self) -> None:
        if self.any_of and (declared := _of_scorer(self.column, "flags")):
            self._refuse_unknown(declared)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column of flags."""
        return (base_column(self.column),)

    @property
    def reads(self) -> tuple[tuple[str, Reader], ...]:
        """The column of flags."""
        return ((self.column, _flag_lists),)

    def __call__(self, table: pl.DataFrame) -> pl.DataFrame:
        """Compare every row's flags with ``any_of``."""
        flags = _flag_lists(table, self.column)
        frame = pl.DataFrame({"flags": flags})
        counted = self._counted(flags)
        if counted is not None:
            frame = frame.select(pl.col("flags").list.eval(pl.element().filter(counted)))
        raised = pl.col("flags").list.len() > 0
        reason = (
            pl.when(raised).then(pl.lit("flagged")).when(raised.not_()).then(pl.lit("passed"))
        ).fill_null("not_scored")
        answer = frame.with_columns(reason=reason, detail=details(frame))
        particulars = pl.when(pl.col("reason") == "flagged").then("detail")
        answer = answer.select("reason", detail=particulars)
        return decide(answer["reason"] == "passed", answer["reason"], answer["detail"])

    def _counted(self, flags: pl.Series) -> pl.Expr | None:
        """Whether a flag counts; None if every flag does."""
        if self.any_of is None:
            harmless = _of_scorer(self.column, "harmless")
            return ~pl.element().is_in(list(harmless)) if harmless else None
        raised = flags.explode().drop_nulls().unique().sort().to_list()
        if raised and not _of_scorer(self.column, "flags"):
            self._refuse_unknown(tuple(raised))
        return pl.element().is_in(list(self.any_of))

    def _refuse_unknown(self, known: tuple[str, ...]) -> None:
        for word in self.any_of or ():
            if word not in known:
                near = closest(word, known)
                every = f"flags of {self.column}: {', '.join(known)}"
                hint = f"{near} ({every})" if near.startswith("did") else every
                raise UsageError(f"flags: any_of: {word!r} is no flag; {hint}")


def _flag_lists(table: pl.DataFrame, name: str) -> pl.Series:
    flags = values(table, name)
    if flags.dtype != pl.List(pl.String):
        raise UsageError(
            f"{name!r}: expected a list of flags a row, the column is {flags.dtype}; "
            "for numbers use threshold"
        )
    return flags


def _of_scorer(column: str, attribute: str) -> tuple[str, ...]:
    """What the scorer that adds ``column`` declares of its flags: ``flags`` or ``harmless``."""
    plain = column.removeprefix("chosen_").removeprefix("rejected_")
    name = plain.rpartition("_")[0]
    if name not in names("curate.scorers"):
        return ()
    declared: tuple[str, ...] = getattr(find("curate.scorers", name), attribute, {}).get(plain, ())
    return declared
