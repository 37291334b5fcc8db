"""Rows in which spans of personal data are replaced by the names of their kinds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson
import polars as pl

from siftune.curate.core.schema import CONTENT, SOME, Kind, kind_of, schema_of
from siftune.curate.core.types import Row
from siftune.curate.private_data.personal_data import find_personal_data
from siftune.curate.rows.convert import content_digest

__all__ = ["Redacted", "redact", "without_spans"]

_JSON_TEXT: Final = "tool_calls"
_Spans: TypeAlias = Sequence[tuple[int, int, str]]


@dataclass
class Redacted:
    """Rows with ``[EMAIL]`` and the like, and of each row that changed what was replaced where.

    ``changes`` have ``id``, ``digest_before``, ``digest_after`` and ``spans``: field, start, end
    (characters of the text as it was) and kind. They hold nothing of what was replaced.
    """

    rows: pl.DataFrame
    changes: list[dict[str, Any]] = field(default_factory=list)
    left_out: tuple[str, ...] = ()  # score columns, which belong to the text as it was

    @property
    def counts(self) -> dict[str, int]:
        """The number of pieces of each kind."""
        kinds = Counter(span["kind"] for change in self.changes for span in change["spans"])
        return dict(sorted(kinds.items()))


def redact(table: pl.DataFrame, kinds: Sequence[str]) -> Redacted:
    """Replace the pieces of ``kinds`` in every turn, in tool calls, in ``extra`` and ``answer``.

    A row that changes gets a new digest; its id, source and row stay. JSON stays JSON: a number
    that is a piece becomes a text.
    """
    kind = kind_of(table)
    wanted = [name for name in (*schema_of(kind), *SOME.get(kind, ())) if name in table.columns]
    others = tuple(name for name in table.columns if name not in wanted)
    rows = list(table.select(wanted).iter_rows(named=True))
    texts = list(dict.fromkeys(text for row in rows for _, text, _ in _texts(row, kind)))
    found: dict[str, list[tuple[int, int, str]]] = {}
    spans = find_personal_data(pl.Series(texts, dtype=pl.String), kinds)
    for at, start, end, name in spans.iter_rows():
        found.setdefault(texts[at], []).append((start, end, name))
    done = Redacted(table, left_out=others)
    for row in rows:
        if change := _change(row, kind, found, kinds):
            done.changes.append(change)
    done.rows = pl.DataFrame(rows, schema=table.select(wanted).schema, orient="row")
    return done


def _texts(row: Row, kind: Kind) -> Iterator[tuple[str, str, Callable[[str], None]]]:
    """Where each text of a row is, the text, and what puts another in its place."""
    for column in CONTENT[kind]:
        yield from _turn_texts(column, row[column])
    for column in ("extra", "answer"):
        if row.get(column):
            yield column, row[column], _setter(row, column)


def _turn_texts(where: str, value: Any) -> Iterator[tuple[str, str, Callable[[str], None]]]:
    if isinstance(value, list):
        for at, one in enumerate(value):
            yield from _turn_texts(f"{where}.{at}", one)
    elif isinstance(value, dict):
        for name in ("content", _JSON_TEXT):
            if value[name]:
                yield f"{where}.{name}", value[name], _setter(value, name)


def _setter(holder: dict[str, Any], name: str) -> Callable[[str], None]:
    def put(text: str) -> None:
        holder[name] = text

    return put


def _change(
    row: Row, kind: Kind, found: Mapping[str, _Spans], kinds: Sequence[str]
) -> dict[str, Any] | None:
    """Rewrite the texts of a row that have spans; what was replaced, or None."""
    spans = []
    for where, text, put in list(_texts(row, kind)):
        if text not in found:
            continue
        json_text = where.endswith(_JSON_TEXT) or where == "extra"
        put(_in_json(text, kinds) if json_text else without_spans(text, found[text]))
        spans += [
            {"field": where, "start": start, "end": end, "kind": name}
            for start, end, name in found[text]
        ]
    if not spans:
        return None
    before, row["digest"] = row["digest"], content_digest(kind, row)
    return {
        "id": row["id"],
        "digest_before": before,
        "digest_after": row["digest"],
        "spans": spans,
    }


def without_spans(text: str, spans: _Spans) -> str:
    """The text with each piece of it (start, end, kind) replaced by its kind in brackets."""
    parts, at = [], 0
    for start, end, name in spans:
        parts += [text[at:start], f"[{name.upper()}]"]
        at = end
    return "".join([*parts, text[at:]])


def _in_json(text: str, kinds: Sequence[str]) -> str:
    """The JSON text with its values replaced; one that is JSON itself is read, too."""
    return orjson.dumps(_value(json.loads(text), kinds)).decode()


def _value(value: Any, kinds: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {key: _value(one, kinds) for key, one in value.items()}
    if isinstance(value, list):
        return [_value(one, kinds) for one in value]
    if isinstance(value, bool) or not isinstance(value, str | int):
        return value
    text = str(value)
    if isinstance(value, str) and text[:1] in ("{", "["):
        try:
            return _in_json(text, kinds)
        except ValueError:
            pass
    spans = find_personal_data(pl.Series([text]), kinds).drop("row").rows()
    return without_spans(text, spans) if spans else value
