"""Looks at all rows, without a model: sources, turns, tasks, lengths, languages, flags, copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
import polars as pl

from siftune.curate.core import registry
from siftune.curate.core.option_values import is_required
from siftune.curate.core.registry import build
from siftune.curate.dedup.benchmark_items import read_items
from siftune.curate.profiling.scoring import (
    Asked,
    Count,
    NotLookedError,
    excerpts,
    prompt_texts,
    prompts_scored,
    scored,
    shown,
    summary,
)
from siftune.curate.rows.chat import text_of
from siftune.curate.rows.table import ROW, Table

__all__ = [
    "code",
    "conversations",
    "duplicates",
    "flags",
    "languages",
    "leaks",
    "lengths",
    "personal_data",
    "sources",
    "tasks",
]

Facts = dict[str, Any]

LEAK: Final = 0.45
"""Overlap from which on a row counts as a leak: see the scorer `contamination`."""
_MOST_SOURCES: Final = 50
_MOST_VALUES: Final = 100  # of a field whose values are listed
_COUNTED: Final = 1_000  # values of a field, beyond which no more are counted
_LONG: Final = 60  # characters of a value that is listed
_EXAMPLES: Final = 5
_OPENINGS: Final = 15
_TURNS: Final = ("system", "tools", "without", "several")
_WHOLE: Final = {"answer": "row", "text": "row"}  # what is searched in the whole of a row
_PRIVATE: Final = ("pii", "secrets")
_COPIES: Final[tuple[tuple[str, str, Facts], ...]] = (
    ("exact", "exact_dedup", {}),
    ("normalised", "exact_dedup", {"normalise": "words"}),
    ("near", "minhash_dedup", {}),
)
"""Kinds of copies, each looked for among the rows that the ones before it leave."""


def sources(table: Table, asked: Asked, count: Count) -> Facts:
    """Rows of each source, and the fields beside the content with their commonest values."""
    named: Counter[str] = Counter()
    fields: dict[str, Counter[str]] = {}
    filled: Counter[str] = Counter()
    for batch in table.batches(["source", "extra"]):
        named.update(batch["source"])
        for text in batch["extra"].drop_nulls():
            _add_fields(orjson.loads(text), fields, filled)
        count(sum(named.values()))
    return {
        "sources": [{"source": name, "rows": rows} for name, rows in named.most_common()][
            :_MOST_SOURCES
        ],
        "distinct": len(named),
        "fields": [_field(name, values, filled[name]) for name, values in sorted(fields.items())],
    }


def _add_fields(
    extra: Mapping[str, Any], fields: dict[str, Counter[str]], filled: Counter[str]
) -> None:
    for name, value in extra.items():
        if value is None or value == "":
            continue
        filled[name] += 1
        values = fields.setdefault(name, Counter())
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if text in values or len(values) <= _COUNTED:
            values[text] += 1


def _field(name: str, values: Counter[str], rows: int) -> Facts:
    """A field; values are listed where they are few and short, as those of categories are."""
    few = len(values) <= min(_MOST_VALUES, rows // 2) and max(map(len, values)) <= _LONG
    listed = values.most_common() if few else []
    plain = excerpts([text for text, _ in listed])
    return {
        "field": name,
        "rows": rows,
        "distinct": len(values),
        "more_than_counted": len(values) > _COUNTED,
        "values": [
            {"value": text, "rows": number} for text, (_, number) in zip(plain, listed, strict=True)
        ],
    }


def conversations(table: Table, asked: Asked, count: Count) -> Facts:
    """Turns, system prompts, tool calls, answers that are missing; labels of single answers."""
    found: Counter[str] = Counter()
    turns: list[pl.Series] = []
    name = {"conversation": "messages", "text": "messages"}.get(table.kind, "prompt")
    role = pl.element().struct.field("role")
    for batch in table.batches([name]):
        given = batch.select(
            turns=pl.col(name).list.len(),
            system=pl.col(name).list.eval(role == "system").list.any(),
            tools=pl.col(name)
            .list.eval(pl.element().struct.field("tool_calls").is_not_null() | (role == "tool"))
            .list.any(),
            answers=pl.col(name).list.eval((role == "assistant").cast(pl.UInt32)).list.sum(),
        ).with_columns(without=pl.col("answers") == 0, several=pl.col("answers") > 1)
        turns.append(given["turns"])
        found.update({key: int(given[key].sum()) for key in _TURNS})
        count(sum(map(len, turns)))
    number = pl.concat(turns) if turns else pl.Series([], dtype=pl.UInt32)
    facts: Facts = {
        "turns": summary(number),
        "turns_of": "prompt" if name == "prompt" else "conversation",
        "with_system_prompt": found["system"],
        "with_tools": found["tools"],
    }
    if table.kind == "conversation":
        facts |= {
            "without_answer": found["without"],
            "several_answers": found["several"],
        }
    return facts | _labels(table)


def _labels(table: Table) -> Facts:
    """What the rows have been given: labels of single answers, the lengths of ranked lists."""
    if table.kind == "unpaired":
        label = table.gather(["label"])["label"]
        return {"labelled_good": int(label.sum()), "labelled_bad": int((~label).sum())}
    if table.kind == "ranked":
        listed = table.gather(["completions"])["completions"].list.len()
        return {"answers_of_a_prompt": summary(listed)}
    return {}


_FIRST_WORD: Final = r"^[^\p{L}]*(\p{L}+)"
_ASKS: Final = (
    r"[?？؟]\s*$|(?i)^\W*(?:what|who|when|where|why|how|which|is|are|can|could|do|does)\b"
)
_NUMBER: Final = r"\d"


def tasks(table: Table, asked: Asked, count: Count) -> Facts:
    """Forms of the prompts: questions, prompts with numbers or code, and their first words.

    The first word of most instructions is the verb, by which Self-Instruct (arXiv:2212.10560)
    shows its tasks.
    """
    if table.kind == "text":
        raise NotLookedError("rows of text have no prompt")
    texts = prompt_texts(table).alias("text").to_frame().drop_nulls()
    count(texts.height)
    first = texts.select(pl.col("text").str.extract(_FIRST_WORD).str.to_lowercase())["text"]
    openings = Counter(first.drop_nulls().to_list())
    forms = texts.select(
        question=pl.col("text").str.contains(_ASKS).sum(),
        with_numbers=pl.col("text").str.contains(_NUMBER).sum(),
        with_code=pl.col("text").str.contains("```").sum(),
        several_lines=pl.col("text").str.contains("\n").sum(),
    )
    return {
        "prompts": texts.height,
        "distinct_prompts": texts["text"].n_unique(),
        "forms": forms.to_dicts()[0],
        "openings": [
            {"word": word, "rows": rows} for word, rows in openings.most_common(_OPENINGS)
        ],
        "other_openings": len(openings) - min(len(openings), _OPENINGS),
    }


def lengths(table: Table, asked: Asked, count: Count) -> Facts:
    """Characters, words, and tokens of a tokenizer, of prompts and of the answers of each side."""
    options = {} if asked.tokenizer is None else {"tokenizer": asked.tokenizer}
    found = scored(table, "length", options, count)
    facts: Facts = {}
    if table.kind != "text":
        facts["prompt"] = _measured(prompts_scored(table, "length", options, count))
    facts |= {side: _measured(one) for side, one in found.items()}
    return {side: one for side, one in facts.items() if one}


def _measured(lengths_of: pl.DataFrame) -> Facts:
    named = {name.removeprefix("length_"): summary(lengths_of[name]) for name in lengths_of.columns}
    sums = {name: lengths_of[f"length_{name}"].sum() for name in named}
    return {
        name: {**figures, "sum": int(sums[name])}
        for name, figures in named.items()
        if figures is not None
    }


def languages(table: Table, asked: Asked, count: Count) -> Facts:
    """Languages of the rows, prompt and answer together; of a pair those of the chosen answer."""
    found = scored(table, "language", {"of": "both"}, count, ["language_code"], sides="chosen")
    codes = pl.concat([one["language_code"] for one in found.values()])
    named = Counter(codes.drop_nulls().to_list())
    return {
        "texts": len(codes),
        "languages": [{"code": code, "texts": number} for code, number in named.most_common()],
        "without": codes.null_count(),
    }


def flags(table: Table, asked: Asked, count: Count) -> Facts:
    """Flags of all scorers that have some and need nothing but the text, but those of PII.

    ``texts`` are those that a scorer has judged, and ``code`` the answers with lines of code.
    """
    facts: Facts = {"flags": [], "harmless": {}, "code": {}, "texts": {}}
    for name in _flagging():
        component = registry.find("curate.scorers", name)
        (column,) = component.flags
        extra = ["heuristics_code"] if name == "heuristics" else []
        found = scored(table, name, {}, count, [column, *extra])
        facts["harmless"] |= {name: list(getattr(component, "harmless", {}).get(column, ()))}
        for side, one in found.items():
            texts = facts["texts"].setdefault(name, {})
            texts[side] = one.height - one[column].null_count()
            if extra:
                facts["code"][side] = int((one["heuristics_code"] > 0).sum())
        facts["flags"] += _kinds(name, column, found)
    return facts


def code(table: Table, asked: Asked, count: Count) -> Facts:
    """Answers with fenced Python or JSON: how many parse whole, and how many are cut off."""
    columns = ["code_parses", "code_parses_truncated", "code_parses_languages"]
    found = scored(table, "code_parses", {}, count, columns)
    facts: Facts = {}
    for side, one in found.items():
        some = one.drop_nulls("code_parses")
        if some.height:
            named = Counter(some[columns[2]].explode(empty_as_null=False).to_list())
            facts[side] = {
                "texts": some.height,
                "parse": int((some["code_parses"] == 1).sum()),
                "cut_off": int(some[columns[1]].sum()),
                "languages": dict(named.most_common()),
            }
    if not facts:
        raise NotLookedError("no answer has fenced Python or JSON")
    return facts


def personal_data(table: Table, asked: Asked, count: Count) -> Facts:
    """Texts with personal data and secrets, by kind; nothing of what they are."""
    facts: Facts = {"kinds": [], "texts": {}}
    for name in _PRIVATE:
        column = f"{name}_kinds"
        found = scored(table, name, {}, count, [column])
        found = {_WHOLE.get(side, side): one for side, one in found.items()}
        kinds = _kinds(name, column, found)
        facts["kinds"] += [one for one in kinds if (name, one["flag"]) != ("pii", "key")]
        for side, one in found.items():
            texts = facts["texts"].setdefault(side, {})
            texts[name] = int((one[column].list.len() > 0).sum())
    return facts


def _flagging() -> Iterator[str]:
    """Scorers of flags that are built without options and read conversations alone."""
    for name in registry.usable("curate.scorers"):
        component = registry.find("curate.scorers", name)
        if name in _PRIVATE or not hasattr(component, "flags"):
            continue
        free = not any(map(is_required, registry.options(component).values()))
        if free and component.needs == ("messages",):
            yield name


def _kinds(name: str, column: str, found: Mapping[str, pl.DataFrame]) -> list[Facts]:
    """The number of texts of each value of a column of lists, by side, the commonest first."""
    counts = {
        side: Counter(one[column].drop_nulls().explode(empty_as_null=False).to_list())
        for side, one in found.items()
    }
    total = sum(counts.values(), Counter())
    return [
        {"scorer": name, "flag": flag, **{side: one[flag] for side, one in counts.items()}}
        for flag, _ in total.most_common()
    ]


def duplicates(table: Table, asked: Asked, count: Count) -> Facts:
    """Rows that the deduplicators would drop: exact, normalised and near copies; largest groups."""
    rows = left = table.gather(["content", "source"]).drop(ROW)
    facts: Facts = {}
    instead: dict[str, str] = {}
    for kind, name, options in _COPIES:
        decided = build("curate.selectors", name, options)(left)
        gone = ~decided["keep"]
        facts[kind] = int(gone.sum())
        survivor = decided["detail"].filter(gone).str.json_path_match("$.survivor")
        instead |= dict(zip(left["id"].filter(gone), survivor, strict=True))
        left = left.filter(decided["keep"])
        count(rows.height * (len(facts)) // len(_COPIES))
    groups = Counter(_last(instead, one) for one in instead)
    facts["distinct"] = left.height
    facts["groups"] = _groups(rows, groups.most_common(_EXAMPLES))
    if table.kind != "text":
        same = build("curate.selectors", "exact_dedup", {"of": "prompt", "normalise": "words"})
        facts["repeated_prompts"] = int((~same(rows)["keep"]).sum())
    return facts


def _last(instead: Mapping[str, str], row: str) -> str:
    """The row that is left of a chain of copies."""
    while row in instead:
        row = instead[row]
    return row


def _groups(rows: pl.DataFrame, largest: list[tuple[str, int]]) -> list[Facts]:
    some = rows.filter(pl.col("id").is_in([row for row, _ in largest]))
    texts = dict(zip(some["id"], excerpts(text_of(some, "both").to_list()), strict=True))
    return [{"rows": n + 1, "id": row, "text": shown(texts[row])} for row, n in largest]


def leaks(table: Table, asked: Asked, count: Count) -> list[Facts]:
    """Rows that contain at least `LEAK` of an item of each benchmark file that is named."""
    if not asked.against:
        raise NotLookedError("no benchmark file is named (against)")
    return [_leaks_of(table, one, count) for one in asked.against]


def _leaks_of(table: Table, against: Any, count: Count) -> Facts:
    columns = ["contamination_overlap", "contamination_item"]
    found = scored(table, "contamination", {"against": against}, count, columns)
    rows = pl.concat(one.with_row_index("text") for one in found.values())
    leaked = rows.filter(pl.col(columns[0]) >= LEAK)
    per_row = table.kind != "ranked"
    ids = table.gather([]).select("id", "digest")
    examples = leaked.sort(columns[0], descending=True, maintain_order=True)
    examples = examples.unique("text", maintain_order=True) if per_row else examples
    first = examples.head(_EXAMPLES).rows(named=True)
    items, aside = read_items(against)
    return {
        "against": str(against),
        "items": items.height,
        "unread_items": aside,
        "rows" if per_row else "texts": examples.height,
        "items_found": leaked[columns[1]].n_unique(),
        "threshold": LEAK,
        "examples": [
            {
                **({"id": ids["id"][one["text"]]} if per_row else {}),
                "item": one[columns[1]],
                "overlap": round(one[columns[0]], 3),
            }
            for one in first
        ],
    }
