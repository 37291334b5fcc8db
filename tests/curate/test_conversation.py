"""Conversations by hand: counts, similarities of adjacent turns, and each fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.conversation import Conversation
from siftune.curate.vectors.embed import Embedder

OPTIONS = [{}, {"model": "EMBEDDER"}]

USER, ASSISTANT = "user", "assistant"


def scored(*turns: dict[str, str | None], **options: Any) -> dict[str, Any]:
    messages = pl.Series([list(turns)], dtype=TURNS)
    found = Conversation(**options)(pl.DataFrame({"messages": messages})).row(0, named=True)
    return {name.removeprefix("conversation_"): value for name, value in found.items()}


def test_counts_and_similarities_by_hand() -> None:
    found = scored(
        turn("system", "Be brief."),
        turn(USER, "a b c"),
        turn(ASSISTANT, "b c d"),  # shares 2 of 4 words
        turn(USER, "d e"),  # 1 of 4
        turn(ASSISTANT, "x"),  # none of 3
    )
    assert (found["turns"], found["exchanges"], found["words"]) == (4, 2, 9)
    assert found["similarity"] == pytest.approx((1 / 2 + 1 / 4 + 0) / 3)
    assert found["least_similar"] == 0
    assert (found["repeated"], found["flags"]) == (0, [])


SAID = "Tell me about the sea"
CALL = '[{"function": {"name": "f", "arguments": "{}"}}]'


@pytest.mark.parametrize(
    ("turns", "flags"),
    [
        ([turn(USER, "Hi"), turn(ASSISTANT, "Hello")], []),
        ([turn(USER, "Hi")], ["unanswered"]),
        ([turn(USER, "Hi"), turn(USER, "Hey"), turn(ASSISTANT, "Yes?")], ["not_alternating"]),
        ([turn(ASSISTANT, "Hello"), turn(USER, "Hi"), turn(ASSISTANT, "So?")], []),
        ([turn(USER, "Hi"), turn(ASSISTANT, "  ")], ["empty_turn", "unanswered"]),
        ([turn(USER, SAID), turn(ASSISTANT, SAID.upper() + "!")], ["copied_turn"]),
        ([turn(USER, "Thanks"), turn(ASSISTANT, "Thanks")], []),
        ([turn(USER, SAID), turn(ASSISTANT, "No"), turn(USER, SAID), turn(ASSISTANT, "Well")], []),
        (
            [
                turn(USER, "Weather?"),
                turn(ASSISTANT, None, tool_calls=CALL),
                turn("tool", "12 C"),
                turn(ASSISTANT, "It is 12 C"),
            ],
            [],
        ),
    ],
)
def test_each_fault_is_flagged(turns: list[dict[str, str | None]], flags: list[str]) -> None:
    expected = list(flags)
    if turns[0]["role"] == ASSISTANT:
        expected.append("starts_with_answer")
    if "not_alternating" in flags:
        expected.append("unanswered")  # the first of two turns in a row
    if len(turns) == 4 and turns[2]["content"] == SAID:
        expected.append("repeated_turn")
    found = scored(*turns)
    assert found["flags"] == sorted(expected)
    assert found["repeated"] == ("repeated_turn" in expected) / len(turns)


@pytest.mark.parametrize(("said", "share"), [("Go on", 0), ("And what came next?", 0.25)])
def test_a_turn_of_four_words_or_more_is_repeated(said: str, share: float) -> None:
    found = scored(turn(USER, said), turn(ASSISTANT, "A"), turn(USER, said), turn(ASSISTANT, "B"))
    assert found["repeated"] == share


def test_the_cosine_of_embeddings_takes_the_place_of_words(tiny_embedder: Path) -> None:
    texts = ["the cat sat on the mat", "a dog ran in the park", "the sea is deep and cold"]
    one, two, three = Embedder(str(tiny_embedder)).encode(texts)[0].astype(float)
    turns = [turn(role, text) for role, text in zip((USER, ASSISTANT, USER), texts, strict=True)]
    found = scored(*turns, model=str(tiny_embedder))
    assert found["similarity"] == pytest.approx((one @ two + two @ three) / 2)
    assert found["least_similar"] == pytest.approx(min(one @ two, two @ three))


def test_without_turns_there_is_no_score() -> None:
    assert set(scored().values()) == {None}
    assert set(scored(turn("system", "Be brief.")).values()) == {None}
    alone = scored(turn(USER, "Hi"))
    assert (alone["similarity"], alone["least_similar"]) == (None, None)
