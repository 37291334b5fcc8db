from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.contamination import Contamination

ITEMS = (
    "Continue.",
    "Name three primary colours.",
    "A train leaves Bonn at noon and arrives in Kiel at six. How long does it travel?",
    "Say which of the two rivers is longer, the Elbe or the Weser, and why.",
)


@pytest.fixture
def held_out(tmp_path: Path) -> str:
    path = tmp_path / "held_out.jsonl"
    rows = [{"prompt": item, "completion": "An answer."} for item in ITEMS]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


def chats(*prompts: str | None, answer: str = "Well.") -> pl.DataFrame:
    rows = [
        [turn("user", prompt), turn("assistant", answer)] if prompt is not None else []
        for prompt in prompts
    ]
    return pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})


def overlaps(scores: pl.DataFrame) -> list[float | None]:
    return scores["contamination_overlap"].to_list()


def items(scores: pl.DataFrame) -> list[str | None]:
    return [None if item is None else item.rpartition(":")[2] for item in scores[:, 1]]


def test_a_leak_is_found_whatever_its_case_and_punctuation(held_out: str) -> None:
    scores = Contamination(held_out)(chats("name THREE primary colours", ITEMS[2]))
    assert overlaps(scores) == [1, 1]
    assert items(scores) == ["2", "3"]


def test_a_short_question_inside_a_longer_one_is_found(held_out: str) -> None:
    scores = Contamination(held_out)(chats("First greet me. Name three primary colours! Then go."))
    assert overlaps(scores) == [1]


def test_overlap_is_the_share_of_the_items_ngrams(held_out: str) -> None:
    # Item 4 has 15 words: 8 eight-grams. With its last three words cut 5 of them are left.
    scores = Contamination(held_out)(
        chats("Say which of the two rivers is longer, the Elbe or the")
    )
    assert overlaps(scores) == [5 / 8]
    assert items(scores) == ["4"]


def test_one_word_counts_only_when_it_is_all_there_is(held_out: str) -> None:
    scores = Contamination(held_out)(chats("continue", "Continue the story of the fox."))
    assert overlaps(scores) == [1, 0]
    assert items(scores) == ["1", None]


def test_no_text_is_null_and_nothing_shared_is_zero(held_out: str) -> None:
    scores = Contamination(held_out)(chats("Write a poem about the sea, please.", None))
    assert overlaps(scores) == [0, None]
    assert items(scores) == [None, None]


def test_answers_can_be_compared_instead(held_out: str) -> None:
    batch = chats("Name three primary colours.", answer="Here is an answer.")
    assert overlaps(Contamination(held_out, of="response")(batch)) == [0]
    batch = chats("Anything.", answer="an answer")
    assert overlaps(Contamination(held_out, of="response")(batch)) == [1]


def test_shorter_ngrams_see_a_changed_word(held_out: str) -> None:
    prompt = "A train leaves Bonn at noon and arrives in Ulm at six. How long does it travel?"
    found = Contamination(held_out, ngram=3)(chats(prompt))
    assert overlaps(found) == [pytest.approx(12 / 15)]  # 17 words, 15 trigrams, 3 of them with Kiel


def test_held_out_rows_without_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text('{"prompt": "?!", "completion": "x"}\n')
    with pytest.raises(UsageError, match="holds no text to compare with"):
        Contamination(str(path))(chats("a"))


def test_questions_of_a_benchmark_have_no_answer_turn_and_are_found(tmp_path: Path) -> None:
    """GSM8K and its like are read as prompts: their whole conversation is the question."""
    path = tmp_path / "benchmark.jsonl"
    path.write_bytes(orjson.dumps({"question": ITEMS[2], "answer": "Six.\n#### 6"}) + b"\n")
    scorer = Contamination(str(path))
    assert overlaps(scorer(chats(ITEMS[2], "Name a town."))) == [1, 0]
    asked = pl.DataFrame({"messages": pl.Series([[turn("user", ITEMS[2])]], dtype=TURNS)})
    assert overlaps(scorer(asked)) == [1]


def test_ngram_zero_is_refused(held_out: str) -> None:
    with pytest.raises(UsageError, match="expected 1 or more, got 0"):
        Contamination(held_out, ngram=0)
