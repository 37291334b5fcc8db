"""Rows for training: reading, hashing, conversion to chats, the split by prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from siftune.curate.chat.template_turns import chat, tools_of, turn_keys
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.schema import CONTENT, KINDS, Kind, kind_of
from siftune.curate.files.atomic import digest_of
from siftune.curate.files.json_text import dump
from siftune.curate.files.source_spec import where_set
from siftune.finetune.data.bad_rows import BAD_ROWS, Dropped, OnBad, bad_rows, drop_bad, dropped_of
from siftune.finetune.data.row_extras import (
    extras_of,
    lists_in,
    raw_fields,
    refuse_weights,
    template_extras,
    warn_odd_tools,
)
from siftune.finetune.models.loading import shown

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
    "length_of",
    "load",
    "prompt_keys",
    "to_conversations",
    "to_pairs",
    "to_prompts",
    "to_ranked",
    "to_unpaired",
    "values_of",
]

_FACTS: Final = ("margin", "score_chosen", "score_rejected", "win_probability")
_HASHED: Final = (*_FACTS, "scores", "answer")
_MOST_SOURCES: Final = 20  # that a card counts one by one


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
    warn_odd_tools(table, source)
    twice = table.filter(pl.col("id").is_duplicated())
    if not twice.is_empty():
        raise DataError(f"{source}: the id {twice['id'][0]!r} is there more than once")
    return table


def _read(source: Path) -> pl.DataFrame:
    file = _kept(source) if source.is_dir() else source
    if file.suffix == ".parquet" and file.is_file():
        try:
            table = pl.read_parquet(file, glob=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{file}: not a readable parquet file ({reason})") from None
        if "kind" in table.columns and set(table["kind"].unique()) <= set(KINDS):
            return table
    from siftune.curate.io.ingest import read_rows

    try:
        rows, bad = read_rows(file)
    except DataError as error:
        raise DataError(f"{error}{where_set(str(error), shown(file))}") from None
    if bad:
        first = ", ".join(f"{key} {bad[0][key]}" for key in ("line", "row") if bad[0].get(key))
        raise DataError(
            f"{file}: {len(bad)} records cannot be read, the first ({first}) for "
            f"{bad[0]['reason']}; run `siftune curate ingest` on it and train on that"
        )
    return rows


def _kept(run: Path) -> Path:
    """The kept rows in a folder; those of a run must be what it wrote."""
    if (run / "manifest.json").is_file():
        from siftune.curate.runs.run_manifest import verified

        return verified(run, "kept.parquet")
    if not (run / "kept.parquet").is_file():
        raise DataError(f"{run}: not a run folder, it has no kept.parquet")
    return run / "kept.parquet"


def data_hash(table: pl.DataFrame) -> str:
    """128-bit digest of the rows a model sees, in their order: ids, content, scores.

    And checkable answers, tools, reasoning and weights of turns, where a row has any.
    """
    kind = kind_of(table)
    names = ["id", *CONTENT[kind], *(name for name in _HASHED if name in table.columns)]
    seen = [table[name].to_list() for name in names]
    others = [(at, found) for at, found in enumerate(template_extras(table)) if found]
    return digest_of([*seen, others] if others else seen)


def data_facts(source: Path | str, table: pl.DataFrame) -> dict[str, Any]:
    """``path``, ``hash``, ``rows`` of the rows a model was trained on, for ``siftune.json``.

    Where they name their sources: ``sources``, the rows of each, of many sources the largest ones.
    """
    facts = {"path": shown(source), "hash": data_hash(table), "rows": table.height}
    return facts | ({"sources": _sources(table["source"])} if "source" in table.columns else {})


def _sources(names: pl.Series) -> dict[str, int]:
    counts = names.drop_nulls().value_counts(name="rows")
    ordered = counts.sort("rows", names.name, descending=[True, False]).iter_rows()
    found: dict[str, int] = dict(islice(ordered, _MOST_SOURCES))
    others = counts.height - len(found)
    rest = int(counts["rows"].sum()) - sum(found.values())
    return found | ({f"{others:,} other sources": rest} if others else {})


def _rows(table: pl.DataFrame, columns: Sequence[str], *facts: str) -> list[dict[str, Any]]:
    """``id``, turns, facts and ``tools`` of each row.

    Raises:
        DataError: the weight of a turn is neither 0 nor 1.
    """
    rows = table.select("id", *columns, *facts).iter_rows(named=True)
    made = []
    for row, extra in zip(rows, extras_of(table), strict=True):
        turns = {name: chat(row[name], turn_keys(extra, name, row[name])) for name in columns}
        made.append({**row, **turns, "tools": tools_of(extra)})
    refuse_weights(made)
    return made


def to_conversations(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "messages", "tools"}`` of each row; of a pair, the prompt with the chosen answer.

    ``tools`` are the functions that the model may call, or None. A turn has the key ``weight``
    where the data says whether it is learned, and ``reasoning_content`` where it has reasoning.
    """
    if kind_of(table) != "preference":
        return _rows(table, ["messages"])
    return [
        {"id": row["id"], "messages": [*row["prompt"], *row["chosen"]], "tools": row["tools"]}
        for row in _rows(table, ["prompt", "chosen"])
    ]


def to_pairs(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "prompt", "chosen", "rejected", "tools"}`` and whatever facts the rows have.

    The facts are ``margin``, ``score_chosen``, ``score_rejected``, ``win_probability``; one that
    is null in every row is left out, as trainers take a column's presence for its use.
    """
    facts = [
        name for name in _FACTS if name in table.columns and table[name].null_count() < table.height
    ]
    return _rows(table, ["prompt", "chosen", "rejected"], *facts)


def to_unpaired(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "prompt", "completion", "label", "tools"}`` of each row."""
    return _rows(table, ["prompt", "completion"], "label")


def to_ranked(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "prompt", "completions", "tools"}`` of each row."""
    rows = _rows(table, ["prompt"])
    answers = zip(rows, table["completions"].to_list(), extras_of(table), strict=True)
    for row, listed, extra in answers:
        row["completions"] = [
            chat(turns, turn_keys(extra, place, turns))
            for place, turns in lists_in("completions", listed)
        ]
    refuse_weights(rows)
    return rows


def to_prompts(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``{"id", "prompt", "reference", "answer", "tools", "extra"}``: what to ask, what is known.

    Of a conversation, all before its last assistant turn is the prompt; a pair's known answer is
    the chosen one. ``answer`` are its turns and ``reference`` is its text, both None where no
    answer is known. An answer that calls without a text has no reference. Where the rows have the
    column ``answer`` (checkable questions), that is the reference. ``extra`` are the fields of the
    raw row that have no column. Turns of an answer keep their
    ``weight``: one of weight 0 has no loss.
    """
    kind = kind_of(table)
    name = "messages" if kind == "conversation" else "prompt"
    if name not in table.columns:
        raise UsageError(f"{kind} rows hold no prompts to answer")
    asked = [_prompt(*each) for each in _sides(table, name)]
    if kind == "conversation":
        asked = list(map(_split, asked))
    if kind == "conversation" and "answer" in table.columns:
        given = zip(asked, table["answer"], strict=True)
        asked = [row if text is None else row | {"reference": text} for row, text in given]
    if kind == "preference":
        known = (_prompt(*each)["prompt"] for each in _sides(table, "chosen"))
        asked = [row | _known(turns) for row, turns in zip(asked, known, strict=True)]
    return [row | {"prompt": list(map(_unweighed, row["prompt"]))} for row in asked]


def _sides(table: pl.DataFrame, name: str) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    rows = zip(table.select("id", name).rows(), raw_fields(table), strict=True)
    yield from ((key, name, turns, extra) for (key, turns), extra in rows)


def _prompt(key: str, name: str, turns: Any, extra: Mapping[str, Any]) -> dict[str, Any]:
    """All turns of a row, to be asked."""
    read = chat(turns, turn_keys(extra, name, turns))
    known = {"reference": None, "answer": None, "tools": tools_of(extra), "extra": extra}
    return {"id": key, "prompt": read, **known}


def _unweighed(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn that is only read, never learned: it has no weight."""
    return {key: turn[key] for key in turn if key != "weight"}


def _split(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its last answer for a reference, if it has one."""
    turns = row["prompt"]
    answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers:
        return row
    last = answers[-1]
    return row | {"prompt": turns[:last], **_known(turns[last : last + 1])}


def _known(answer: list[dict[str, Any]]) -> dict[str, Any]:
    """A known answer and its text; one that only calls has none."""
    last = answer[-1]
    silent = last.get("tool_calls") and not last["content"].strip()
    return {"answer": answer, "reference": None if silent else last["content"]}


def length_of(turns: Sequence[Mapping[str, Any]]) -> int:
    """Characters that turns, as `chat` gives them, hold: contents, and calls as JSON."""
    calls = (turn["tool_calls"] for turn in turns if turn.get("tool_calls"))
    return sum(len(turn["content"]) for turn in turns) + sum(len(dump(call)) for call in calls)


def prompt_keys(table: pl.DataFrame) -> pl.Series:
    """A digest of each row's prompt and tools: rows that ask the same have the same key."""
    column = "prompt" if "prompt" in table.columns else "messages"
    asked = pl.col(column)
    if column == "messages" and kind_of(table) != "text":  # a text has no prompt but itself
        asked = asked.list.filter(pl.element().struct.field("role") != "assistant")
    said = asked.list.eval(
        pl.concat_str(
            pl.element().struct.field("role"),
            pl.element().struct.field("content").fill_null(""),
            pl.element().struct.field("tool_calls"),
            separator="\x1f",
            ignore_nulls=True,
        )
    )
    texts = table.select(said.list.join("\x1e").fill_null("")).to_series()
    tools = (tools_of(extra) for extra in extras_of(table))
    keys = [text + (dump(own) if own else "") for text, own in zip(texts, tools, strict=True)]
    return pl.Series("prompt_key", [_digest(key) for key in keys], dtype=pl.String)


def values_of(table: pl.DataFrame, name: str) -> list[Any]:
    """The column ``name`` of each row, or the field of that name of the raw row, or None."""
    if name in table.columns:
        return table[name].to_list()
    return [extra.get(name) for extra in raw_fields(table)]


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def held_out(table: pl.DataFrame, fraction: float, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows to train on and rows to test on, split by prompt: no prompt is on both sides.

    Which prompts are held out depends on their text and on ``seed``, never on the order of the
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
