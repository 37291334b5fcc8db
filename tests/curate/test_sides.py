"""What lies under scorers and selectors: views and text of rows, columns, budgets, decisions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows import conversation_views
from siftune.curate.rows.budget import Budget
from siftune.curate.rows.chat import contents, last_turn, part_of, split_turns, text_of, turn
from siftune.curate.rows.columns import base_column, values
from siftune.curate.rows.decisions import decide, detail, tie_order

USER, ANSWER = turn("user", "Q"), turn("assistant", "A")
AGAIN, SECOND = turn("user", "Q2"), turn("assistant", "A2")


class Transcript:
    """A scorer whose score is the whole conversation, so that a test sees what it was shown."""

    needs = ("messages",)
    adds: ClassVar = {"seen": pl.String}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        said = [
            None if chat is None else " ".join(f"{t['role'][0]}:{t['content']}" for t in chat)
            for chat in batch["messages"].to_list()
        ]
        return pl.DataFrame({"seen": said}, schema=self.adds)


class Rows(Transcript):
    """A scorer of the row itself, not of what it says."""

    needs = ("source",)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        return batch.select(seen=pl.col("source"))


class Broken(Transcript):
    def __init__(self, spoil: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self.spoil = spoil

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        return self.spoil(super().__call__(batch))


def chats(*conversations: Any) -> pl.Series:
    return pl.Series("messages", conversations, dtype=TURNS)


def rows(kind: str, **content: pl.Series) -> pl.DataFrame:
    height = len(next(iter(content.values())))
    ids = [f"f:{i}" for i in range(height)]
    return pl.DataFrame({"id": ids, "source": ["f"] * height, "kind": [kind] * height} | content)


def pairs() -> pl.DataFrame:
    return rows(
        "preference",
        prompt=chats([USER], [USER, ANSWER, AGAIN], []),
        chosen=chats([ANSWER], [SECOND], [ANSWER]),
        rejected=chats([SECOND], [turn("assistant", "")], [AGAIN, SECOND]),
    )


def ranked(*answers: list[Any] | None) -> pl.DataFrame:
    listed = pl.Series("completions", answers, dtype=pl.List(TURNS))
    return rows("ranked", prompt=chats(*[[USER]] * len(answers)), completions=listed)


def test_a_conversation_is_shown_as_it_is() -> None:
    table = rows("conversation", messages=chats([USER, ANSWER], None))
    assert conversation_views.score(Transcript(), table).rows() == [
        ("f:0", "u:Q a:A"),
        ("f:1", None),
    ]


def test_a_pair_is_shown_as_two_conversations() -> None:
    scores = conversation_views.score(Transcript(), pairs())
    assert scores.columns == ["id", "chosen_seen", "rejected_seen"]
    assert scores["chosen_seen"].to_list() == ["u:Q a:A", "u:Q a:A u:Q2 a:A2", "a:A"]
    assert scores["rejected_seen"].to_list() == ["u:Q a:A2", "u:Q a:A u:Q2 a:", "u:Q2 a:A2"]


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_one_side_can_be_asked_for(side: conversation_views.Sides) -> None:
    scores = conversation_views.score(Transcript(), pairs(), sides=side)
    both = conversation_views.score(Transcript(), pairs())
    assert scores.equals(both.select("id", f"{side}_seen"))
    assert [*conversation_views.score_schema(Transcript(), "preference", side)] == [f"{side}_seen"]


def test_an_unpaired_row_is_its_prompt_and_completion() -> None:
    table = rows("unpaired", prompt=chats([USER]), completion=chats([ANSWER]))
    assert conversation_views.score(Transcript(), table)["seen"].to_list() == ["u:Q a:A"]


def test_each_answer_of_a_ranked_list_follows_its_prompt() -> None:
    table = ranked([[ANSWER], [SECOND]], [[SECOND]])
    assert conversation_views.score(Transcript(), table)["seen"].to_list() == [
        ["u:Q a:A", "u:Q a:A2"],
        ["u:Q a:A2"],
    ]


def test_a_list_without_answers_has_a_list_without_scores() -> None:
    assert conversation_views.score(Transcript(), ranked([], [[ANSWER]]))["seen"].to_list() == [
        [],
        ["u:Q a:A"],
    ]
    assert conversation_views.score(Transcript(), ranked([], []))["seen"].to_list() == [[], []]
    assert conversation_views.score(Transcript(), ranked())["seen"].dtype == pl.List(pl.String)


def test_every_turn_is_shown_with_what_came_before_it() -> None:
    whole = [USER, ANSWER, AGAIN, SECOND, turn("user", "Bye")]
    table = rows("conversation", messages=chats(whole, [USER], [], None))
    seen = conversation_views.score(Transcript(), table, turns="every")["seen"].to_list()
    assert seen == [["u:Q a:A", "u:Q a:A u:Q2 a:A2"], [], [], []]


def test_every_turn_of_a_pair_counts_the_turns_of_its_prompt() -> None:
    scores = conversation_views.score(Transcript(), pairs(), turns="every")
    assert scores["chosen_seen"].to_list() == [
        ["u:Q a:A"],
        ["u:Q a:A", "u:Q a:A u:Q2 a:A2"],
        ["a:A"],
    ]


def test_every_turn_of_a_ranked_list_is_refused() -> None:
    with pytest.raises(UsageError, match="ranked list"):
        conversation_views.score(Transcript(), ranked([[ANSWER]]), turns="every")


def test_a_scorer_of_rows_is_asked_once_a_row() -> None:
    assert conversation_views.score(Rows(), pairs()).columns == ["id", "seen"]
    assert [*conversation_views.score_schema(Rows(), "preference")] == ["seen"]


@pytest.mark.parametrize(
    "spoil",
    [lambda s: s.head(1), lambda s: s.rename({"seen": "other"}), lambda s: s.with_columns(x=1)],
)
def test_a_scorer_that_breaks_its_word_is_stopped(spoil: Any) -> None:
    with pytest.raises(TypeError, match=r"Broken was given 3 rows and declares \['seen'\]"):
        conversation_views.score(Broken(spoil), pairs())


def test_the_prompt_is_all_before_the_last_answer() -> None:
    tool = turn("tool", "12 C")
    chat = chats([turn("system", "S"), USER, ANSWER, AGAIN, tool, SECOND, turn("user", "Bye")])
    prompt, response = last_turn(chat)
    assert prompt.to_list() == ["S\n\nQ\n\nA\n\nQ2\n\n12 C"]
    assert response.to_list() == ["A2"]
    assert split_turns(chat)[0].list.len().to_list() == [5]


def test_what_is_not_there_is_null_and_what_is_empty_is_empty() -> None:
    silent = turn("assistant", None)
    chat = chats([ANSWER], [USER], [], None, [USER, silent], [turn("user", ""), ANSWER])
    prompt, response = last_turn(chat)
    assert prompt.to_list() == [None, None, None, None, "Q", ""]
    assert response.to_list() == ["A", None, None, None, None, "A"]
    assert contents(chat).to_list() == ["A", "Q", None, None, "Q", "\n\nA"]


def test_parts_are_named() -> None:
    chat = chats([USER, ANSWER])
    assert [part_of(chat, part).item() for part in ("prompt", "response", "both")] == [
        "Q",
        "A",
        "Q\n\nA",
    ]


def test_no_rows_have_no_text() -> None:
    assert [len(part) for part in last_turn(chats())] == [0, 0]
    assert len(contents(chats())) == 0


roles = st.sampled_from(["system", "user", "assistant", "tool"])
turns = st.builds(turn, roles, st.none() | st.text("ab", max_size=2))


@given(st.lists(st.none() | st.lists(turns, max_size=5), max_size=5))
def test_splitting_finds_the_last_assistant_turn(conversations: list[Any]) -> None:
    before, answer = split_turns(chats(*conversations))
    for chat, found_before, found in zip(conversations, before.to_list(), answer, strict=True):
        at = [i for i, said in enumerate(chat or []) if said["role"] == "assistant"]
        assert found == (chat[at[-1]]["content"] if at else None)
        assert found_before == (chat[: at[-1]] if at else None)


def test_the_text_of_a_pair_holds_both_answers() -> None:
    table = pairs()
    assert text_of(table, "prompt").to_list() == ["Q", "Q\n\nA\n\nQ2", None]
    assert text_of(table, "response").to_list() == ["A\n\nA2", "A2\n\n", "A\n\nQ2\n\nA2"]
    assert text_of(table, "both").to_list()[0] == "Q\n\nA\n\nA2"


def test_the_text_of_a_ranked_list_holds_all_answers() -> None:
    table = ranked([[ANSWER], [SECOND]], [], None, [[turn("assistant", None)], [ANSWER]])
    assert text_of(table, "response").to_list() == ["A\n\nA2", None, None, "A"]
    assert text_of(table, "both").to_list() == ["Q\n\nA\n\nA2", "Q", "Q", "Q\n\nA"]


def test_the_text_of_an_unpaired_row_is_prompt_and_completion() -> None:
    table = rows("unpaired", prompt=chats([USER], []), completion=chats([ANSWER], [ANSWER]))
    assert text_of(table, "both").to_list() == ["Q\n\nA", "A"]
    assert text_of(table, "response").name == "response"


TABLE = pl.DataFrame(
    {
        "extra": ['{"topic": "x", "n": 3}', '{"n": null}', None],
        "ifd": [[1.0, 3.0], [], None],
        "gaps": [[None], [None, 2.0], []],
        "plain": [1, 2, 3],
    }
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", [1, 2, 3]),
        ("extra.topic", ["x", None, None]),
        ("extra.n", ["3", None, None]),
        ("ifd.mean", [2.0, None, None]),
        ("ifd.max", [3.0, None, None]),
        ("ifd.first", [1.0, None, None]),
        ("ifd.last", [3.0, None, None]),
        ("ifd.len", [2, 0, None]),
    ],
)
def test_a_name_stands_for_a_column(name: str, expected: list[Any]) -> None:
    column = values(TABLE, name)
    assert column.to_list() == expected
    assert column.name == name
    assert base_column(name) == name.split(".")[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [("plane", "did you mean plain"), ("ifd.median", "one of mean"), ("plain.mean", "Int64")],
)
def test_a_wrong_name_is_answered_with_what_there_is(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        values(TABLE, name)


def test_nothing_to_add_up_is_not_zero() -> None:
    assert values(TABLE, "ifd.sum").to_list() == [4.0, None, None]
    assert values(TABLE, "gaps.sum").to_list() == [None, 2.0, None]


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (Budget(rows=3), 3),
        (Budget(rows=99), 10),
        (Budget(rows=0), 0),
        (Budget(fraction=0.25), 3),  # 2.5, half up
        (Budget(fraction=0.01), 1),  # at least one
        (Budget(fraction=0.0), 0),
        (Budget(fraction=1.0), 10),
    ],
)
def test_rows_and_fractions_are_counted(budget: Budget, kept: int) -> None:
    table = pl.DataFrame({"plain": range(10)})
    order = np.arange(10)[::-1]
    assert budget.take(table, order).tolist() == order[:kept].tolist()
    assert budget.needs == ()


def test_tokens_are_spent_in_order_until_the_next_row_does_not_fit() -> None:
    table = pl.DataFrame({"length_tokens": [5, 4, 3, 1]})
    budget = Budget(tokens=9)
    assert budget.needs == ("length_tokens",)
    assert budget.take(table, np.array([0, 1, 2, 3])).tolist() == [0, 1]
    assert budget.take(table, np.array([2, 0, 1, 3])).tolist() == [2, 0]
    assert Budget(tokens=0).take(table, np.array([0, 1])).tolist() == []


@pytest.mark.parametrize(
    "options", [{}, {"rows": 1, "tokens": 1}, {"rows": -1}, {"fraction": 1.5}, {"fraction": -0.1}]
)
def test_a_budget_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Budget(**options)


def test_decisions_take_one_reason_or_many() -> None:
    one = decide([True, False], "kept")
    assert one.rows() == [(True, "kept", None), (False, "kept", None)]
    many = decide(np.array([True, False]), ["kept", "dropped"], [None, {"b": 1, "a": "x"}])
    assert many.rows() == [(True, "kept", None), (False, "dropped", '{"a":"x","b":1}')]
    assert decide([], "kept").height == 0


def test_details_are_json_with_numpy_numbers() -> None:
    assert json.loads(detail(survivor="a:1", similarity=np.float64(0.5), rank=np.int64(3))) == {
        "survivor": "a:1",
        "similarity": 0.5,
        "rank": 3,
    }


def ordered(*keys: pl.Series, digests: str, **options: bool) -> list[int]:
    table = pl.DataFrame({"digest": list(digests), "id": [str(i) for i in range(len(digests))]})
    return [int(at) for at in tie_order(table, *keys, **options)]


def test_better_comes_first_and_what_was_not_scored_last() -> None:
    score = pl.Series("s", [0.1, None, 0.9, float("nan")])
    assert ordered(score, digests="abcd") == [2, 0, 1, 3]
    assert ordered(score, digests="abcd", descending=False) == [0, 2, 1, 3]


def test_ties_go_to_content_then_to_id() -> None:
    score = pl.Series("s", [1, 1, 1, 1])
    assert ordered(score, digests="baba") == [1, 3, 0, 2]
    assert ordered(digests="baba") == [1, 3, 0, 2]


@given(st.lists(st.sampled_from([None, 0.0, 1.0]), min_size=1, max_size=8), st.randoms())
def test_the_order_does_not_depend_on_the_rows_order(scores: list[float | None], rng: Any) -> None:
    table = pl.DataFrame(
        {
            "s": pl.Series(scores, dtype=pl.Float64),
            "digest": [str(i % 3) for i in range(len(scores))],
            "id": [str(i) for i in range(len(scores))],
        }
    )
    mixed = table.select(pl.all().gather(rng.sample(range(len(scores)), len(scores))))
    straight = table["id"].gather(tie_order(table, table["s"]))
    assert mixed["id"].gather(tie_order(mixed, mixed["s"])).equals(straight)
