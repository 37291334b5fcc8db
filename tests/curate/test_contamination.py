from __future__ import annotations

from pathlib import Path
from random import Random

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


def test_overlap_is_the_share_of_the_items_words(held_out: str) -> None:
    # Item 4 has 15 words, of which the last three were cut.
    scores = Contamination(held_out)(
        chats("Say which of the two rivers is longer, the Elbe or the")
    )
    assert overlaps(scores) == [pytest.approx(12 / 15)]
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


def test_a_changed_word_and_the_words_with_no_ngram_left_do_not_count(held_out: str) -> None:
    prompt = "A train leaves Bonn at noon and arrives in Ulm at six. How long does it travel?"
    assert overlaps(Contamination(held_out)(chats(prompt))) == [pytest.approx(16 / 17)]
    # of 8 words, only those before: there are 9 of them, and 7 after
    assert overlaps(Contamination(held_out, ngram=8)(chats(prompt))) == [pytest.approx(9 / 17)]


def test_a_leak_in_the_answer_is_found_and_a_short_answer_is_no_item(held_out: str) -> None:
    found = Contamination(held_out)(chats("Hello.", answer=f"You may like this one: {ITEMS[2]}"))
    assert (overlaps(found), items(found)) == ([1], ["3"])
    assert overlaps(Contamination(held_out)(chats("Hello.", answer="An answer."))) == [0]


def test_a_long_answer_of_an_item_is_found_in_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.jsonl"
    path.write_bytes(orjson.dumps({"prompt": ITEMS[1], "completion": ITEMS[2]}) + b"\n")
    found = Contamination(str(path))(chats("Hello.", answer=ITEMS[2]))
    assert (overlaps(found), items(found)) == ([1], ["1"])


@pytest.mark.parametrize(
    ("prompt", "share"),
    [
        ("Name three colours", 0),  # four words must be there
        ("Write a short poem of the sea.", 7 / 8),
        ("Write a short poem of the mountain.", 0),
        ("Write a poem of sea.", 0),
        ("Write a short poem", 4 / 8),  # the first half, the second, and one between
        ("of the blue sea", 4 / 8),
        ("short poem of the", 0),
        ("the blue sea", 0),
        ("Tell me now. Write a short poem of the sea.", 0),
    ],
)
def test_a_word_may_be_missing_in_a_short_item_that_is_the_whole_text(
    tmp_path: Path, prompt: str, share: float
) -> None:
    path = tmp_path / "items.jsonl"
    texts = ("Name three primary colours", "Write a short poem of the blue sea.")
    path.write_bytes(b"".join(orjson.dumps({"prompt": text}) + b"\n" for text in texts))
    assert overlaps(Contamination(str(path))(chats(prompt))) == [pytest.approx(share)]


def test_ngrams_of_many_items_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    frame = "How many of the apples on the table are left for {} when the day is over?"
    texts = [frame.format(f"guest{at} and friend{at}") for at in range(40)]
    path.write_bytes(b"".join(orjson.dumps({"prompt": text}) + b"\n" for text in texts))
    found = Contamination(str(path))(chats(frame.format("me"), texts[7]))
    assert overlaps(found) == [0, pytest.approx(11 / 19)]
    assert items(found) == [None, "8"]


def test_the_share_is_that_of_a_plain_search(tmp_path: Path) -> None:
    random = Random(3)
    words = [f"w{at}" for at in range(12)]
    texts = [" ".join(random.choices(words, k=random.choice([14, 20, 40]))) for _ in range(30)]
    rows = [" ".join(random.choices(words, k=random.choice([2, 10, 60]))) for _ in range(60)]
    rows += [" ".join(text.split()[3:11]) for text in texts[:10]]
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"prompt": text}) + b"\n" for text in texts))
    found = Contamination(str(path), ngram=3, of="prompt")(chats(*rows))
    expected = [max(plain_share(row, text, texts) for text in texts) for row in rows]
    assert overlaps(found) == pytest.approx(expected)
    assert len(set(expected)) > 10
    parts = [Contamination(str(path), ngram=3)(chats(row)) for row in rows[-5:]]
    assert [each for part in parts for each in overlaps(part)] == pytest.approx(expected[-5:])


def plain_share(row: str, item: str, items: list[str]) -> float:
    """Share of the words of ``item`` in a trigram of ``row`` that is in 32 items at most."""
    own, text = item.split(), row.split()
    trigrams = [tuple(own[at : at + 3]) for at in range(len(own) - 2)]
    of_row = {tuple(text[at : at + 3]) for at in range(len(text) - 2)}
    covered = set()
    for at, gram in enumerate(trigrams):
        if gram in of_row and sum(" ".join(gram) in f" {one} " for one in items) <= 32:
            covered |= {at, at + 1, at + 2}
    return len(covered) / len(own)


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
