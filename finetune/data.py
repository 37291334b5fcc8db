"""Rows for training: reading them, setting aside what cannot be trained on, handing them over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import polars as pl

from curate.core.errors import DataError, UsageError
from curate.core.files import digest_of
from curate.core.schema import CONTENT, KINDS, Kind, kind_of
from finetune.bad_rows import BAD_ROWS, Dropped, OnBad, bad_rows, drop_bad, dropped_of
from finetune.models import shown

__all__ = [
    "BAD_ROWS",
    "Dropped",
    "OnBad",
    "bad_rows",
    "chat",
    "data_facts",
    "data_hash",
    "drop_bad",
    "dropped_of",
    "held_out",
    "load",
    "prompt_keys",
    "to_conversations",
    "to_pairs",
    "to_prompts",
    "to_unpaired",
]

_FACTS: Final = ("margin", "score_chosen", "score_rejected", "win_probability")
_HASHED: Final = (*_FACTS, "scores")


def load(source: Path | str, kinds: Sequence[Kind]) -> pl.DataFrame:
    """The rows table of a run folder, a rows table in parquet, or any file ``ingest`` can read.

    Raises:
        UsageError: the rows are of a kind that is not among ``kinds``.
        DataError: there is nothing to read, or no rows are left.
    """
    table = _read(Path(source))
    if table.is_empty():
        raise DataError(f"{source}: no rows to train on")
    kind = kind_of(table)
    if kind not in kinds:
        raise UsageError(f"{source}: expected {' or '.join(kinds)} rows, these are {kind} rows")
    lacking = [name for name in ("id", *CONTENT[kind]) if name not in table.columns]
    if lacking:
        raise DataError(f"{source}: {kind} rows without the column {lacking[0]!r}")
    twice = table.filter(pl.col("id").is_duplicated())
    if not twice.is_empty():
        raise DataError(f"{source}: the id {twice['id'][0]!r} is there more than once")
    return table


def _read(source: Path) -> pl.DataFrame:
    file = source / "kept.parquet" if source.is_dir() else source
    if source.is_dir() and not file.is_file():
        raise DataError(f"{source}: not a run folder, it has no kept.parquet")
    if file.suffix == ".parquet" and file.is_file():
        try:
            table = pl.read_parquet(file)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{file}: not a readable parquet file ({reason})") from None
        if "kind" in table.columns and set(table["kind"].unique()) <= set(KINDS):
            return table
    from curate.core.readers.ingest import read_rows

    try:
        rows, bad = read_rows(file)
    except DataError as error:
        if "--format" not in str(error):
            raise
        raise DataError(
            f"{error}; these are options of `siftune curate ingest {shown(file)} --out FOLDER`, "
            "whose folder is taken here"
        ) from None
    if bad:
        first = ", ".join(f"{key} {bad[0][key]}" for key in ("line", "row") if bad[0].get(key))
        raise DataError(
            f"{file}: {len(bad)} records cannot be read, the first ({first}) for "
            f"{bad[0]['reason']}; run `siftune curate ingest` on it and train on that"
        )
    return rows


def data_hash(table: pl.DataFrame) -> str:
    """128-bit digest of the rows a model sees, in their order: ids, content, scores."""
    kind = kind_of(table)
    names = ["id", *CONTENT[kind], *(name for name in _HASHED if name in table.columns)]
    return digest_of([table[name].to_list() for name in names])


def data_facts(source: Path | str, table: pl.DataFrame) -> dict[str, Any]:
    """``path``, ``hash``, ``rows`` of the rows a model was trained on, for ``siftune.json``."""
    return {"path": shown(source), "hash": data_hash(table), "rows": table.height}


def chat(turns: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Turns as transformers and TRL want them: only the fields that are set, tool calls as values.

    >>> chat([{"role": "user", "content": "Hi", "name": None, "tool_calls": None}])
    [{'role': 'user', 'content': 'Hi'}]
    """
    return [_turn(turn) for turn in turns or ()]


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in turn.items() if value is not None}
    if "tool_calls" in said:
        said["tool_calls"] = orjson.loads(said["tool_calls"])
    return {"role": turn["role"], "content": "", **said}


def to_conversations(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "messages"}`` of each row; of a pair, the prompt with the chosen answer."""
    if kind_of(table) == "preference":
        table = table.with_columns(messages=pl.col("prompt").list.concat("chosen"))
    rows = table.select("id", "messages").iter_rows()
    return [{"id": key, "messages": chat(turns)} for key, turns in rows]


def to_pairs(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "prompt", "chosen", "rejected"}`` and whatever facts the rows have.

    The facts are ``margin``, ``score_chosen``, ``score_rejected``, ``win_probability``; one that
    is null in every row is left out, as trainers take a column's presence for its use.
    """
    facts = [
        name for name in _FACTS if name in table.columns and table[name].null_count() < table.height
    ]
    turns = ("prompt", "chosen", "rejected")
    rows = table.select("id", *turns, *facts).iter_rows(named=True)
    return [{**row, **{name: chat(row[name]) for name in turns}} for row in rows]


def to_unpaired(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "prompt", "completion", "label"}`` of each row."""
    turns = ("prompt", "completion")
    rows = table.select("id", *turns, "label").iter_rows(named=True)
    return [{**row, **{name: chat(row[name]) for name in turns}} for row in rows]


def to_prompts(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "prompt", "reference"}``: what to ask, and the known answer or None.

    Of a conversation, all before its last assistant turn is the prompt; a pair's chosen answer is
    its reference.
    """
    kind = kind_of(table)
    if kind == "conversation":
        return [_asked(key, chat(turns)) for key, turns in table.select("id", "messages").rows()]
    if kind == "preference":
        pairs = table.select("id", "prompt", "chosen").rows()
        return [
            {"id": key, "prompt": chat(prompt), "reference": chat(chosen)[-1]["content"]}
            for key, prompt, chosen in pairs
        ]
    if "prompt" not in table.columns:
        raise UsageError(f"{kind} rows hold no prompts to answer")
    return [
        {"id": key, "prompt": chat(prompt), "reference": None}
        for key, prompt in table.select("id", "prompt").rows()
    ]


def _asked(key: str, turns: list[dict[str, Any]]) -> dict[str, Any]:
    answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers:
        return {"id": key, "prompt": turns, "reference": None}
    return {"id": key, "prompt": turns[: answers[-1]], "reference": turns[answers[-1]]["content"]}


def prompt_keys(table: pl.DataFrame) -> pl.Series:
    """A digest of each row's prompt: rows that ask the same have the same key."""
    column = "prompt" if "prompt" in table.columns else "messages"
    asked = pl.col(column)
    if column == "messages":
        asked = asked.list.filter(pl.element().struct.field("role") != "assistant")
    said = asked.list.eval(
        pl.concat_str(
            pl.element().struct.field("role"),
            pl.element().struct.field("content").fill_null(""),
            separator="\x1f",
        )
    )
    texts = table.select(said.list.join("\x1e").fill_null("")).to_series()
    return pl.Series("prompt_key", [_digest(text) for text in texts], dtype=pl.String)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def held_out(table: pl.DataFrame, fraction: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows to train on and rows to test on, split by prompt: no prompt is on both sides.

    Which prompts are held out depends on what they say and on ``seed``, never on the order of the
    rows. At least one prompt is held out where ``fraction`` is above 0.
    """
    keys = prompt_keys(table)
    distinct = sorted(keys.unique())
    count = min(len(distinct) - 1, max(int(fraction > 0), round(fraction * len(distinct))))
    if count <= 0:
        return table, table.clear()
    order = np.random.default_rng(seed).permutation(len(distinct))
    test = keys.is_in([distinct[at] for at in order[:count]])
    return table.filter(~test), table.filter(test)
