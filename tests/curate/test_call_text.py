"""Tool calls are part of the text that is compared and scored."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.progress import run_context
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import calls_of, contents, last_turn, part_of, text_of, turn
from siftune.curate.rows.convert import finish, table_of
from siftune.curate.scorers.length import Length
from siftune.curate.scorers.minhash import MinHash
from siftune.curate.selectors.exact_dedup import ExactDedup
from siftune.curate.selectors.minhash_dedup import MinHashDedup
from siftune.curate.selectors.semantic_dedup import SemanticDedup

Row = dict[str, Any]
ASKED = "Change my booking for the two of us tonight at seven as we said on the phone"


def called(name: str, id: str = "c1", **arguments: Any) -> str:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return json.dumps([{"id": id, "type": "function", "function": function}])


def chat(calls: str | None, asked: str = ASKED, content: str | None = None) -> Row:
    answer = turn("assistant", content, tool_calls=calls)
    return {"messages": [turn("user", asked), answer], "extra": {}}


def table(*rows: Row, kind: Any = "conversation") -> pl.DataFrame:
    for at, row in enumerate(rows, 1):
        finish(row, kind, "rows", at, f"{at}")
    return pl.DataFrame(pl.from_arrow(table_of(kind, rows)))


def test_opposite_calls_after_the_same_request_are_no_near_duplicates() -> None:
    rows = table(
        chat(called("book", seats=2)),
        chat(called("cancel", all=True)),
        chat(called("weather", city="Oslo"), "What is the weather in Oslo, should I take a coat"),
    )
    assert MinHashDedup()(rows)["keep"].to_list() == [True, True, True]


@pytest.mark.parametrize("candidates", ["exact", "minhash"])
@pytest.mark.parametrize("unit", ["word", "char"])
def test_one_other_argument_after_a_long_request_keeps_both(candidates: Any, unit: Any) -> None:
    long = " ".join(f"w{at}" for at in range(300))
    rows = table(
        chat(called("book", seats=2), long),
        chat(called("book", seats=4), long),
        chat(called("book", "another_id", seats=2), long + " please"),
        chat(None, long, "Done."),
    )
    selector = MinHashDedup(unit=unit, candidates=candidates)
    assert selector(rows)["keep"].to_list() in (
        [True, True, False, True],
        [False, True, True, True],
    )
    signed = rows.hstack(MinHash(unit=unit)(rows))
    assert selector(signed).equals(selector(rows))
    assert selector._made_elsewhere(signed) is not None


def test_exact_deduplication_of_texts_sees_calls_and_not_their_ids() -> None:
    rows = table(chat(called("f", "a", x=1)), chat(called("f", "b", x=1)), chat(called("g", x=1)))
    assert ExactDedup(of="both")(rows)["keep"].sum() == 2
    assert ExactDedup(of="response", normalise="text")(rows)["keep"].sum() == 2


def test_the_text_of_a_turn_has_its_calls_behind_its_content() -> None:
    messages = pl.Series(
        [
            [turn("user", "Add."), turn("assistant", "Yes.", tool_calls=called("add", b=2, a=1))],
            [turn("user", "Add."), turn("assistant", "", tool_calls='[{"name": "f"}]')],
            [turn("user", "Add."), turn("assistant", "3")],
        ],
        dtype=TURNS,
    )
    texts = ['Yes.\nadd {"a": 1, "b": 2}', "f", "3"]
    assert last_turn(messages)[1].to_list() == texts
    assert part_of(messages, "response").to_list() == texts
    assert contents(messages).to_list() == [f"Add.\n\n{text}" for text in texts]


def test_rows_of_every_kind_have_their_calls() -> None:
    call = called("add", a=1)
    sides = {
        "chosen": [turn("assistant", None, tool_calls=call)],
        "rejected": [turn("assistant", "?")],
    }
    pair = table({"prompt": [turn("user", "q")], **sides, "extra": {}}, kind="preference")
    assert text_of(pair, "both").to_list() == ['q\n\nadd {"a": 1}\n\n?']
    ranked = table({"prompt": [turn("user", "q")], "completions": [*sides.values()]}, kind="ranked")
    assert text_of(ranked, "response").to_list() == ['add {"a": 1}\n\n?']
    for rows in (pair, ranked):
        found = calls_of(rows, "response")
        assert found is not None
        assert found.to_list() == ['add {"a": 1}']
    assert calls_of(table(chat(None, content="a")), "both") is None


def test_drops_that_rest_on_truncated_texts_are_counted() -> None:
    vectors = [[1, 0], [1, 0], [0, 1], [0, 1], [0.6, -0.8]]
    rows = pl.DataFrame(
        {
            "id": [f"r:{at}" for at in range(5)],
            "digest": [str(at) for at in range(5)],
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2)),
            "embedding_cut": pl.Series([0.5, 0, 0, 0, 0.5], dtype=pl.Float32),
        }
    )
    with run_context() as context:
        kept = SemanticDedup(guard="none")(rows)["keep"]
    assert (kept.sum(), context.metrics) == (3, {"dropped_on_truncated_text": 1})
    with run_context() as context:
        assert SemanticDedup(guard="none")(rows.drop("embedding_cut"))["keep"].equals(kept)
    assert not context.metrics


def test_a_score_of_the_answer_sees_the_call() -> None:
    rows = table(chat(called("add", a=1)))
    assert Length(of="response")(rows).row(0)[0] > 0
