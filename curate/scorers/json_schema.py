"""JSON and tool calls against the schema that the row declares for them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import polars as pl

from siftune.curate.rows.columns import base_column, values
from siftune.curate.text.json_checks import check_json

__all__ = ["JSONSchema"]


@dataclass(frozen=True)
class JSONSchema:
    """Tool calls of all assistant turns, and JSON of the last answer, validated (`jsonschema`).

    * ``json_schema``: share of the pieces checked that are right; null where there is none
    * ``json_schema_checked``: number of pieces: calls (fields of a turn, or ``<tool_call>`` blocks
      in its text), JSON blocks of the last answer, or the whole answer where the row declares a
      schema for it and it has no block
    * ``json_schema_flags``: ``bad_call`` (no object with a name), ``unknown_function`` (none of the
      row's tools), ``bad_arguments`` (no JSON object, or not as the function's parameters demand),
      ``bad_json`` (does not parse, or has a key twice), ``bad_answer`` (not as the row's schema
      demands), and ``bad_schema`` where what the row declares is no schema: nothing is checked
      against that
    * ``json_schema_first_wrong``: the first fault, with the place in the piece

    Tools are a list in the form of OpenAI (``function.parameters``) or Anthropic
    (``input_schema``); a schema may lie in a ``response_format``. Without tools a call only has to
    be JSON with a name; without a schema a JSON block only has to parse. The draft is the one that
    ``$schema`` names, else 2020-12. Addresses in ``$ref`` are never fetched, and patterns run in
    linear time: schemas come with the data. A row without an assistant turn has null.

    Not for whether the call was the right one: it checks form, not sense.

    Options:
        tools: Column with the functions that may be called, such as extra.tools.
        schema: Column with the JSON schema of the answer, or the response_format that has it.
    """

    tools: str = "extra.tools"
    schema: str = "extra.response_format"

    flags: ClassVar = {
        "json_schema_flags": (
            *("bad_answer", "bad_arguments", "bad_call", "bad_json", "bad_schema"),
            "unknown_function",
        )
    }
    content: ClassVar = ("messages",)
    adds: ClassVar[dict[str, pl.DataType | type[pl.DataType]]] = {
        "json_schema": pl.Float32,
        "json_schema_checked": pl.UInt32,
        "json_schema_flags": pl.List(pl.String),
        "json_schema_first_wrong": pl.String,
    }

    @property
    def needs(self) -> tuple[str, ...]:
        """The turns, and what they have to agree with."""
        named = (base_column(self.tools), base_column(self.schema))
        return tuple(dict.fromkeys(("messages", *named)))

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Check each conversation."""
        declared = zip(
            values(batch, self.tools).cast(pl.String).to_list(),
            values(batch, self.schema).cast(pl.String).to_list(),
            strict=True,
        )
        rows = [
            check_json(turns or (), tools, schema)
            for turns, (tools, schema) in zip(batch["messages"].to_list(), declared, strict=True)
        ]
        return pl.DataFrame(rows, schema=self.adds, orient="row")

    def describe(self) -> dict[str, Any]:
        """The version of the validator, which is needed where a row declares a schema."""
        try:
            return {"jsonschema": version("jsonschema")}
        except PackageNotFoundError:
            return {"jsonschema": None}
