"""What is true of every format: it round-trips, and no record can break it."""

from __future__ import annotations

import copy
import pickle
from statistics import mean
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from siftune.curate.core.errors import BadRow
from siftune.curate.core.registry import names
from siftune.curate.core.schema import CONTENT, KINDS, SOME, schema_of
from siftune.curate.io.detect import FORMATS, named
from siftune.curate.rows.chat import turn
from siftune.curate.rows.convert import finish, rows_of, table_of

Row = dict[str, Any]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBER = st.integers(-9, 9).map(float)
ANSWER = TEXT.map(lambda text: [turn("assistant", text)])
QUESTION = TEXT.map(lambda text: [turn("user", text)])
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)
EXTRA = st.dictionaries(st.sampled_from(["id", "topic"]), st.integers(0, 9) | TEXT, max_size=2)
CALLS = '[{"type":"function","function":{"name":"add","arguments":"{}"}}]'


PLACED = st.tuples(EXTRA, st.sampled_from([1, 2])).map(
    lambda made: made[0] | {"chosen_response": made[1]}
)


def alternating(pairs: list[tuple[str, str]]) -> list[Row]:
    return [
        turn(role, text)
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


CHAT = PAIRS.map(alternating)
TOOLED = st.tuples(CHAT, TEXT, CHAT).map(
    lambda parts: [
        turn("system", "Be brief."),
        *parts[0],
        turn("assistant", None, tool_calls=CALLS),
        turn("tool", parts[1]),
        *parts[2],
    ]
)
WITH_SYSTEM = st.tuples(TEXT.filter(bool), CHAT).map(
    lambda parts: [turn("system", parts[0]), *parts[1]]
)
ASKED = st.tuples(CHAT | WITH_SYSTEM, TEXT).map(lambda parts: [*parts[0], turn("user", parts[1])])

ASKED = st.tuples(CHAT, TEXT).map(lambda parts: [*parts[0], turn("user", parts[1])])


def conversations(messages: st.SearchStrategy[list[Row]]) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries({"messages": messages, "extra": EXTRA})


def checked(messages: st.SearchStrategy[list[Row]], source: str) -> st.SearchStrategy[Row]:
    answer = st.integers(-99, 99).map(str)
    shape = {"messages": messages, "answer": answer, "answer_from": st.just(source)}
    return st.fixed_dictionaries({**shape, "extra": EXTRA})


def pairs(prompt: Any, side: Any, **facts: Any) -> st.SearchStrategy[Row]:
    shape = {"prompt": prompt, "chosen": side, "rejected": side, "extra": EXTRA, **facts}
    return st.fixed_dictionaries(shape).filter(lambda row: row["chosen"] != row["rejected"])


def ranked(least: int, prompt: Any) -> st.SearchStrategy[Row]:
    return st.integers(least, 4).flatmap(
        lambda count: st.fixed_dictionaries(
            {
                "prompt": prompt,
                "completions": st.lists(ANSWER, min_size=count, max_size=count),
                "scores": st.lists(NUMBER, min_size=count, max_size=count),
                "extra": EXTRA,
            }
        )
    )


def rated(row: Row) -> Row:
    values = [[abs(score), 1.0] for score in row["scores"]]
    listed = [
        [{"name": name, "value": value} for name, value in zip("ab", pair, strict=True)]
        for pair in values
    ]
    return row | {"scores": [mean(pair) for pair in values], "attributes": listed}


def five(row: Row) -> Row:
    names_ = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    listed = [{"name": name, "value": row["scores"][0]} for name in names_]
    one = {"completions": row["completions"][:1], "scores": row["scores"][:1]}
    return row | one | {"attributes": [listed]}


FACTS = {
    name: st.none() | NUMBER
    for name in ("score_chosen", "score_rejected", "margin", "win_probability")
}
ROWS: dict[str, st.SearchStrategy[Row]] = {
    "alpaca": conversations(CHAT | WITH_SYSTEM),
    "sharegpt": conversations(CHAT | TOOLED),
    "messages": conversations(CHAT | TOOLED | WITH_SYSTEM),
    "prompt_completion": conversations(CHAT | TOOLED | WITH_SYSTEM),
    "prompt_only": conversations(QUESTION | ASKED),
    "query_response": conversations(CHAT | WITH_SYSTEM.map(lambda turns: turns[1:])),
    "self_instruct": conversations(PAIRS.map(lambda pairs: alternating(pairs[:1]))),
    "text": conversations(ANSWER),
    "preference": pairs(CHAT | QUESTION, ANSWER, **FACTS),
    "hh_rlhf": pairs(QUESTION, ANSWER),
    "pairwise": pairs(
        QUESTION, ANSWER, win_probability=st.sampled_from([0.75, 1.0]), extra=EXTRA
    ).map(
        lambda row: (
            row
            | {
                "margin": 2 * row["win_probability"] - 1,
                "extra": row["extra"] | {"chosen_response": 1},
            }
        )
    ),
    "unpaired": st.fixed_dictionaries(
        {"prompt": CHAT | QUESTION, "completion": ANSWER, "label": st.booleans(), "extra": EXTRA}
    ),
    "ranked": ranked(1, CHAT | QUESTION),
    "nectar": ranked(1, CHAT | QUESTION),
    "ultrafeedback": ranked(1, QUESTION).map(rated),
    "helpsteer2": ranked(1, QUESTION).map(five),
    "shp": pairs(QUESTION, ANSWER, score_chosen=NUMBER, score_rejected=NUMBER, extra=PLACED),
    "safe_rlhf": pairs(QUESTION, ANSWER, extra=PLACED),
    "safe_rlhf_safety": pairs(QUESTION, ANSWER, extra=PLACED),
    "webgpt": pairs(
        QUESTION, ANSWER, score_chosen=st.just(0.5), score_rejected=st.just(-0.5), extra=PLACED
    ),
    "rejected_response": pairs(CHAT | QUESTION, ANSWER),
    "alpaca_pairs": pairs(QUESTION.filter(lambda turns: turns[0]["content"].strip()), ANSWER),
    "arena": conversations(QUESTION),
    "arena_battles": pairs(QUESTION | ASKED, ANSWER, extra=PLACED),
    "verl": checked(QUESTION | ASKED, "reward_model.ground_truth").map(
        lambda row: row | {"extra": row["extra"] | {"reward_model.fields": {"style": "rule"}}}
    ),
    "question_answer": checked(
        QUESTION.filter(lambda turns: turns[0]["content"].strip()) | ASKED, "answer"
    ),
    "oasst": conversations(CHAT),
    "oasst_ranked": ranked(2, QUESTION),
}


PLAIN: dict[str, st.SearchStrategy[Row]] = {
    "conversation": conversations(PAIRS.map(lambda pairs: alternating(pairs[:1]))),
    "text": conversations(ANSWER),
    "preference": pairs(QUESTION, ANSWER, **FACTS),
    "unpaired": ROWS["unpaired"],
    "ranked": ranked(2, QUESTION),
}
"""By kind: plain rows, for a format that has none in `ROWS`."""


def rows_of_format(name: str) -> st.SearchStrategy[Row]:
    return ROWS[name] if name in ROWS else PLAIN[named(name).kind]


@pytest.fixture(params=names(FORMATS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(name: str, row: Row) -> Row:
    """What the format makes of a row; texts that hold its own marks are rightly not taken."""
    try:
        return named(name).write(row)
    except BadRow:
        assume(name not in ("hh_rlhf", "nectar"))
        raise


def test_a_row_comes_back_from_its_record(name: str) -> None:
    @settings(max_examples=10, deadline=None)
    @given(rows_of_format(name))
    def round_trip(row: Row) -> None:
        record = written(name, row)
        assert named(name).matches(record)
        assert list(named(name).read(record)) == [row]

    round_trip()


def test_a_row_comes_back_from_a_table(name: str) -> None:
    @settings(max_examples=6, deadline=None)
    @given(rows_of_format(name))
    def through_a_table(row: Row) -> None:
        kind = named(name).kind
        made = dict(row)
        finish(made, kind, "rows", 1, "1")
        table = pl.DataFrame(pl.from_arrow(table_of(kind, [made])))
        some = {key: dtype for key, dtype in SOME.get(kind, {}).items() if key in row}
        assert dict(table.schema) == schema_of(kind) | some
        [back] = rows_of(table)
        assert {key: back[key] for key in row} == row

    through_a_table()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    *("instruction", "input", "output", "system", "history", "conversations", "messages", "text"),
    *("prompt", "completion", "label", "chosen", "rejected", "margin", "response", "answers"),
    *("response_1", "response_2", "preference", "completions", "helpfulness", "role", "content"),
    *("from", "value", "replies", "rank", "annotations", "tool_calls", "answer", "Rating"),
    *("scores", "win_probability", "query", "instances", "human", "assistant", "data"),
    *(
        "question",
        "query",
        "solution",
        "turns",
        "reward_model",
        "ground_truth",
        "labels",
        "kto_tag",
    ),
    *("human_ref_A", "human_ref_B", "response_0", "better_response_id", "safer_response_id"),
    *("answer_0", "answer_1", "score_0", "score_1", "rejected_response", "rejected_messages"),
]
NESTED = st.recursive(
    JSON,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=10,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), NESTED, max_size=8))
def test_no_record_breaks_any_of_them(record: Row) -> None:
    for name in names(FORMATS):  # to think up a record takes longer than all of them to read it
        form = named(name)
        assert form.matches(record) in (True, False), name
        try:
            rows = list(form.read(copy.deepcopy(record)))
        except BadRow:
            continue
        for row in rows:
            finish(row, form.kind, "rows", 1, "1")
        assert table_of(form.kind, rows).num_rows == len(rows) >= 1, name


def test_it_keeps_its_promises_as_a_component(name: str) -> None:
    form = named(name)
    assert form.kind in KINDS
    assert set(form.over) <= set(names(FORMATS)) - {name}
    assert pickle.loads(pickle.dumps(form)) == form
    assert CONTENT[form.kind]


def test_there_are_rows_of_no_format_that_is_gone() -> None:
    assert set(ROWS) <= set(names(FORMATS))
