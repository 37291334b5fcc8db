"""JSON schema: JSON of the answer, and tool calls, against what the row or an option declares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from siftune.curate.text.answer_match import after_thinking
from siftune.curate.text.json_checks import check_json

__all__ = ["JSONSchema"]


@dataclass(frozen=True)
class JSONSchema:
    """Share of the pieces of JSON that are as their schema demands; 0 where one is missing.

    Pieces are the blocks of JSON in the answer, or else the whole answer, against ``schema`` or the
    row's field ``field`` (a JSON schema, or a ``response_format`` that has one); and blocks of
    ``<tool_call>``, against the parameters of the row's ``tools``. They are checked as by curate's
    scorer `json_schema`: no key twice, no address is fetched, patterns run in linear time.
    What is before the last ``</think>`` is not read.

    Without a schema and with tools an answer without a call scores 0, unless ``calls`` is false:
    then it has no score. A row that declares neither, or what is no schema, has no score. Needs
    `pip install 'siftune[schema]'`.

    Options:
        schema: JSON schema of the answers to all rows; none takes each row's own.
        field: Field of the rows with their schema.
        calls: Whether rows with tools and without a schema want a call.

    >>> JSONSchema()(["?"], ['{"a": 1}'], [{"extra": {}, "tools": None}])
    [None]
    """

    schema: Mapping[str, Any] | None = None
    field: str = "response_format"
    calls: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no schema."""
        if self.schema is not None:
            _, _, flags, wrong = check_json(_turns("{}"), None, json.dumps(self.schema))
            if "bad_schema" in (flags or ()):
                raise ValueError(f"schema: {wrong}")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """Between 0 and 1, or None, for each completion."""
        return [self._score(said, row) for said, row in zip(completions, rows, strict=True)]

    def _score(self, said: str, row: Mapping[str, Any]) -> float | None:
        tools, schema = row.get("tools"), self.schema
        if schema is None:
            schema = (row.get("extra") or {}).get(self.field, row.get(self.field))
        if not tools and schema is None:
            return None
        share, checked, flags, _ = check_json(_turns(said), _text(tools), _text(schema))
        if "bad_schema" in (flags or ()):
            return None
        if not checked:
            return 0.0 if tools and self.calls else None
        return None if share is None else float(share)


def _turns(said: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": after_thinking(said), "tool_calls": None}]


def _text(declared: Any) -> str | None:
    """Tools or a schema as JSON text; they may be one already."""
    if declared is None or isinstance(declared, str):
        return declared
    return json.dumps(declared)
