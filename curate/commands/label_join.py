"""Judges' labels and gold labels of the same rows, joined by an id, and how they agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from siftune.curate.core.errors import BadRow, DataError, UsageError

if TYPE_CHECKING:
    from siftune.curate.core.types import Row
    from siftune.curate.judge_stats.report import AgreementReport, Kind

__all__ = ["Joined", "LabelRow", "joined", "label_rows", "report_on", "value_of"]

_KEYS: Final = ("id", "digest")
_PROMPTS: Final = ("prompt", "messages")
_SOURCE_ID: Final = "extra.id"


@dataclass(frozen=True)
class LabelRow:
    """A record, and where it was read: file and line, or row."""

    where: str
    values: Row


def label_rows(source: str) -> list[LabelRow]:
    """All records of a source.

    Raises:
        DataError: one cannot be read; the text names it.
    """
    from siftune.curate.files.byte_streams import shown
    from siftune.curate.io.source_parts import expand

    found = []
    for part in expand(source):
        for number, row in part.records():
            where = f"{shown(part.shown)}, {part.unit} {number}"
            if isinstance(row, BadRow):
                raise DataError(f"{where}: {row.detail}")
            found.append(LabelRow(where, row))
    if not found:
        raise DataError(f"{shown(source)} has no rows")
    return found


@dataclass(frozen=True)
class Joined:
    """Labels of judges and of gold, row by row; None is no label."""

    columns: Mapping[str, Sequence[Any]]
    gold: Sequence[Any]
    keys: Sequence[str]
    prompts: Sequence[str] | None
    rows: Sequence[LabelRow]
    label: str
    names: str


def report_on(
    judged: Sequence[LabelRow],
    gold_rows: Sequence[LabelRow],
    judges: Sequence[str],
    judged_name: str,
    gold_name: str,
    *,
    label: str | None = None,
    on: str | None = None,
    prompt: str | None = None,
    level: Kind | None = None,
    tie: str = "tie",
    win: str | None = None,
    worst: int = 5,
) -> AgreementReport:
    """Join the rows by ``on`` and compare their labels; see `judge_stats.report.compare`.

    Raises:
        UsageError: a column is not there, a key is there twice, or no row is in both.
    """
    from siftune.curate.judge_stats.intervals import NotEstimableError
    from siftune.curate.judge_stats.report import compare

    given = joined(judged, gold_rows, judges, judged_name, gold_name, label, on, prompt)
    how: Any = {"level": level, "tie": tie, "win": _win(win, given.gold), "worst": worst}
    try:
        return compare(given.columns, given.gold, given.keys, given.prompts, **how)
    except NotEstimableError as error:
        raise UsageError(f"{given.names}: {error}") from None


_BOOLEANS: Final = {"true": "1", "false": "0"}


def _win(win: Any, gold: Sequence[Any]) -> Any:
    """The label of a win; of labels that are booleans, which are numbers here, also by its word."""
    if set(gold) <= {None, 0.0, 1.0}:
        return _BOOLEANS.get(str(win).casefold(), win)
    return win


def joined(
    judged: Sequence[LabelRow],
    gold_rows: Sequence[LabelRow],
    judges: Sequence[str],
    judged_name: str,
    gold_name: str,
    label: str | None = None,
    on: str | None = None,
    prompt: str | None = None,
) -> Joined:
    """The judges' labels with those of gold, joined by ``on``.

    Raises:
        UsageError: as `report_on`.
    """
    if not judges or not all(judges):
        raise UsageError(
            f"--judge {','.join(judges)!r}: expected names of columns of {judged_name}"
        )
    for judge in judges:
        _refuse_unknown(judge, judged, judged_name, "--judge")
    label = label or (judges[0] if len(judges) == 1 else "")
    _refuse_unknown(label, gold_rows, gold_name, "--label")
    by_name = on is not None
    on = on or _shared_key(judged, gold_rows, judged_name, gold_name)
    for rows, name in ((judged, judged_name), (gold_rows, gold_name)):
        _refuse_unknown(on, rows, name, "--on")
    keys, gold_keys = _keys(judged, on), _keys(gold_rows, on)
    if not by_name and not {*keys} & {*gold_keys}:
        keys, gold_keys = _source_ids(judged, gold_rows) or (keys, gold_keys)
    labels = dict(zip(gold_keys, _labels(gold_rows, label), strict=True))
    if not any(key in labels for key in keys):
        raise UsageError(
            f"no row of {judged_name} is in {gold_name}: the values of {on!r} differ, such as "
            f"{keys[0]!r} and {next(iter(labels))!r}; give another column with --on"
        )
    columns = {judge: _labels(judged, judge) for judge in judges}
    for judge, given in columns.items():
        _refuse_other_names(f"{judge} of {judged_name}", given, f"{label} of {gold_name}", labels)
    prompts = _prompts(judged, prompt, judged_name)
    wanted = [labels.get(key) for key in keys]
    names = f"{judged_name} and {gold_name}"
    return Joined(columns, wanted, keys, prompts, judged, label, names)


def _refuse_other_names(
    judge: str, given: Sequence[Any], label: str, gold: Mapping[str, Any]
) -> None:
    """Refuse labels by other names than gold; of a single name each, a judge may be that wrong."""
    names = [
        sorted({str(one) for one in listed if one is not None}) for listed in (given, gold.values())
    ]
    texts = any(isinstance(one, str) for one in (*given, *gold.values()))
    if texts and min(map(len, names)) > 1 and not {*names[0]} & {*names[1]}:
        shown = [", ".join(listed[:8]) + (" …" if len(listed) > 8 else "") for listed in names]
        raise UsageError(
            f"no label is in both: {judge} has {shown[0]}, and {label} has {shown[1]}; give both "
            "the same names"
        )


def _columns(rows: Iterable[LabelRow]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row.values))


def _refuse_unknown(column: str, rows: Sequence[LabelRow], name: str, flag: str) -> None:
    from siftune.curate.rows.columns import nearest_columns

    there = _columns(rows)
    if column.partition(".")[0] not in there:
        what = f"no column {column!r}" if column else "which column has the gold labels?"
        advice = nearest_columns(column, there)
        raise UsageError(f"{name}: {what} ({flag}); {advice}")


def _shared_key(
    judged: Sequence[LabelRow], gold: Sequence[LabelRow], judged_name: str, gold_name: str
) -> str:
    first, second = _columns(judged), _columns(gold)
    for key in _KEYS:
        if key in first and key in second:
            return key
    raise UsageError(
        f"{judged_name} and {gold_name} have no column id or digest in common: name one that both "
        "have with --on"
    )


def value_of(row: LabelRow, column: str) -> Any:
    """A value of a row; ``extra.KEY`` is a field that the raw row of a run had."""
    if column in row.values:
        return row.values[column]
    head, _, rest = column.partition(".")
    within = row.values.get(head)
    fields = orjson.loads(within) if isinstance(within, str) and within.startswith("{") else within
    return fields.get(rest) if isinstance(fields, dict) else None


def _keys(rows: Sequence[LabelRow], column: str) -> list[str]:
    seen: dict[str, str] = {}
    for row in rows:
        value = value_of(row, column)
        if not isinstance(value, str | int):
            raise UsageError(f"{row.where}: expected an id in {column!r}, got {_short(value)}")
        if (before := seen.setdefault(str(value), row.where)) != row.where:
            raise UsageError(
                f"{row.where}: {column} {str(value)!r} is there twice, first in {before}; expected "
                "one row for each"
            )
    return list(seen)


def _source_ids(
    judged: Sequence[LabelRow], gold: Sequence[LabelRow]
) -> tuple[list[str], list[str]] | None:
    """Keys by the ids that the sources' own rows had, which runs keep in ``extra.id``.

    None where they do not join any rows.
    """
    for names in ((_SOURCE_ID, "id"), ("id", _SOURCE_ID), (_SOURCE_ID, _SOURCE_ID)):
        found = [
            [value_of(row, name) for row in rows]
            for name, rows in zip(names, (judged, gold), strict=True)
        ]
        whole = all(isinstance(one, str | int) for values in found for one in values)
        if whole and {*map(str, found[0])} & {*map(str, found[1])}:
            first, second = (_keys(r, n) for r, n in zip((judged, gold), names, strict=True))
            return first, second
    return None


def _labels(rows: Sequence[LabelRow], column: str) -> list[Any]:
    """Labels of a column, all numbers if they can be; empty texts, NaN and infinity are none."""
    found = [value_of(row, column) for row in rows]
    for row, label in zip(rows, found, strict=True):
        if not isinstance(label, str | int | float | None):
            raise UsageError(
                f"{row.where}: expected a text or a number in {column!r}, got {_short(label)}"
            )
    found = [None if label in ("", None) or label != label else label for label in found]
    try:
        numbers = [math.nan if label is None else float(label) for label in found]
        return [number if math.isfinite(number) else None for number in numbers]
    except (ValueError, OverflowError):
        return [None if label is None else str(label) for label in found]


def _prompts(rows: Sequence[LabelRow], column: str | None, name: str) -> list[str] | None:
    if column is None:
        column = next((one for one in _PROMPTS if one in rows[0].values), None)
        if column is None:
            return None
    _refuse_unknown(column, rows, name, "--prompt")
    return [_prompt(row, column) for row in rows]


def _prompt(row: LabelRow, column: str) -> str:
    """What makes the prompt; of a conversation all turns but the assistant's."""
    value = value_of(row, column)
    if isinstance(value, list):
        value = [
            one for one in value if not isinstance(one, dict) or one.get("role") != "assistant"
        ]
    return orjson.dumps(value, default=str).decode()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
