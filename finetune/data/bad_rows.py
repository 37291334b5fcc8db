"""Rows that cannot be trained on: which, for what reason; refused or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

import polars as pl

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import kind_of
from siftune.curate.records.field_names import map_flag

__all__ = ["BAD_ROWS", "Dropped", "OnBad", "bad_rows", "drop_bad", "dropped_of"]

OnBad: TypeAlias = Literal["refuse", "drop"]
"""Rows that cannot be trained on: stop and name them, or leave them out."""

BAD_ROWS: Final = pl.Schema({"id": pl.String(), "reason": pl.String()})
_SHOWN: Final = 5
# Characters that no reader sees, though str.strip() and \s keep them.
_INVISIBLE: Final = "[\\s\\p{Cf}\\p{Cc}\u115f\u1160\u2800\u3164\uffa0]+"


@dataclass(frozen=True)
class Dropped:
    """Rows left out before training: how many for each reason, and which."""

    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=BAD_ROWS))

    def counts(self) -> dict[str, int]:
        """Rows by reason."""
        found = self.rows.group_by("reason").len().sort("reason")
        return dict(found.iter_rows())


def drop_bad(
    table: pl.DataFrame,
    bad: pl.DataFrame,
    on_bad: OnBad,
    source: Path | str = "rows",
    use: str = "trained on",
) -> pl.DataFrame:
    """``table`` without the rows that ``bad`` (``id, reason``) names.

    Raises:
        DataError: ``on_bad`` is ``refuse`` and there are any, or none would be left; the text
            counts them by reason and names the first.
    """
    if bad.is_empty():
        return table
    left = table.join(bad.select("id"), on="id", how="anti", maintain_order="left")
    if left.is_empty():
        raise DataError(
            f"{source}: no row is left to be {use}: {_counted(bad, use)}{_as_answers(table)}"
        )
    if on_bad == "refuse":
        drop = "leave them out with --on-bad drop (on_bad: drop in a recipe)"
        counted = _counted(bad, use)
        raise DataError(
            f"{source}: {counted}; mend or select them away, or {drop}{_as_answers(table)}"
        )
    return left


def _as_answers(table: pl.DataFrame) -> str:
    """Advice on how to learn answers that are a column of prompts (`formats.question_answer`)."""
    if not {"answer", "answer_from"} <= {*table.columns}:
        return ""
    fields = table["answer_from"].drop_nulls()
    if fields.is_empty():
        return ""
    key = fields[0].partition(":")[0]
    ingest = f"siftune curate ingest FILE --map QUESTION=prompt {map_flag(key, 'completion')}"
    return (
        "; the rows are prompts with a known answer in a column of its own: to learn the "
        f"answers, read the raw file so (QUESTION: its key of the question) and train on the run: "
        f"{ingest} --out RUN"
    )


def _counted(bad: pl.DataFrame, use: str) -> str:
    reasons = []
    for (reason,), rows in bad.group_by("reason", maintain_order=True):
        names = ", ".join(rows["id"].head(_SHOWN))
        more = ", ..." if rows.height > _SHOWN else ""
        reasons.append(f"{rows.height} {reason} ({names}{more})")
    return f"{bad['id'].n_unique()} rows cannot be {use}: {'; '.join(reasons)}"


def dropped_of(*parts: pl.DataFrame) -> Dropped:
    """All that was left out, from the tables of several checks."""
    return Dropped(pl.concat([part.select(BAD_ROWS.names()) for part in parts]))


def bad_rows(table: pl.DataFrame) -> pl.DataFrame:
    """Rows that cannot be trained on, and why: ``id, reason``, one reason a row, in table order.

    Text that no reader sees (blanks, control and zero-width characters) counts as empty.
    """
    kind = kind_of(table)
    cases = _CASES[kind]
    reason = pl.coalesce(pl.when(case).then(pl.lit(name)) for name, case in cases.items())
    return table.select("id", reason=reason).filter(pl.col("reason").is_not_null())


def _role(column: str) -> pl.Expr:
    return pl.col(column).list.eval(pl.element().struct.field("role"))


def _any(column: str, condition: pl.Expr) -> pl.Expr:
    """Whether ``condition`` (an expression on a turn) is true of a turn of ``column``."""
    return pl.col(column).list.eval(condition).list.any().fill_null(False)


def _empty(column: str) -> pl.Expr:
    """A column without turns: null, or a list of none."""
    return pl.col(column).list.len().fill_null(0) == 0


_TURN_ROLE = pl.element().struct.field("role")
_NO_TEXT = (
    pl.element().struct.field("content").fill_null("").str.replace_all(_INVISIBLE, "") == ""
) & pl.element().struct.field("tool_calls").is_null()
_IS_ANSWER = _TURN_ROLE == "assistant"
_NULL_CONTENT = pl.element().struct.field("content").is_null() & (
    pl.element().struct.field("tool_calls").is_null()
)


def _answer_cases(column: str, what: str) -> dict[str, pl.Expr]:
    return {
        f"no_{what}": _empty(column) | ~_any(column, _IS_ANSWER),
        f"null_{what}": _any(column, _IS_ANSWER & _NULL_CONTENT),
        f"empty_{what}": _any(column, _IS_ANSWER & _NO_TEXT),
        f"{what}_ends_unanswered": _role(column).list.last() != "assistant",
    }


def _prompt_cases(column: str) -> dict[str, pl.Expr]:
    return {
        "no_prompt": _empty(column),
        "empty_prompt": _any(column, (_TURN_ROLE == "user") & _NO_TEXT),
    }


_CASES: Final[Mapping[str, Mapping[str, pl.Expr]]] = {
    "conversation": {
        **_answer_cases("messages", "answer"),
        "no_prompt": pl.col("messages").list.len() < 2,
        "empty_prompt": _any("messages", (_TURN_ROLE == "user") & _NO_TEXT),
    },
    "text": _answer_cases("messages", "text"),
    "preference": {
        **_prompt_cases("prompt"),
        **_answer_cases("chosen", "chosen"),
        **_answer_cases("rejected", "rejected"),
        "chosen_is_rejected": pl.col("chosen") == pl.col("rejected"),
    },
    "unpaired": {
        **_prompt_cases("prompt"),
        **_answer_cases("completion", "completion"),
        "no_label": pl.col("label").is_null(),
    },
    "ranked": {
        **_prompt_cases("prompt"),
        "fewer_than_two_completions": pl.col("completions").list.len().fill_null(0) < 2,
    },
}
