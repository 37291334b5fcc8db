"""Heuristics: which answers raise which flag, and what the shares are shares of."""

from __future__ import annotations

import time

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.heuristics import Heuristics
from siftune.curate.text import refusals
from siftune.curate.text.text_statistics import longest_run

PROMPT = "Tell me what happened at the meeting yesterday."


def scored(answer: str | None, prompt: str = PROMPT) -> dict[str, object]:
    messages = [[turn("user", prompt), turn("assistant", answer)]]
    scores = Heuristics()(pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS)}))
    return {
        name.removeprefix("heuristics_"): value for name, value in scores.row(0, named=True).items()
    }


@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("empty", ""),
        ("empty", " \n\t"),
        ("placeholder", "<nooutput>"),
        ("placeholder", "<No Output> "),
        ("placeholder", "Noinput"),
        ("placeholder", "No output required."),
        ("placeholder", "N/A"),
        ("placeholder", "TODO"),
        ("placeholder", "<noinput>\nOutput:\nI will remember it."),
        ("open_slots", "It was moved to {{ new_date }}."),
        ("open_slots", "It was held on <insert date>."),
        ("refusal", "I'm sorry, but I can't help with that."),
        ("refusal", "I’m not able to provide medical advice."),
        ("refusal", "As an AI language model, I do not have feelings."),
        ("refusal", "This task cannot be performed by a GPT model."),
        ("truncated", "It began at noon. Then the chair said that we should all"),
        ("truncated", "It was decided to buy apples, pears,"),
        ("truncated", "Here it is:\n```python\nprint(1)\n"),
        ("truncated", "def area(r):\n    return round("),
        ("echo", f"{PROMPT} It was a long one."),
        ("repetitive", "we talked and talked " * 12),
        ("repetitive", "Nooooooooooooo!"),
        ("repetitive", "The same line once more.\n" * 4),
        ("script_mismatch", "Вчера обсуждали бюджет на год."),
        ("broken_characters", "It was in a cafÃ©."),
        ("broken_characters", "It cost 5 \ufffd."),
    ],
)
def test_a_bad_answer_raises_its_flag_alone(flag: str, answer: str) -> None:
    assert scored(answer)["flags"] == [flag]
    assert scored(answer)[flag] is True


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "We talked about the budget. Everyone agreed.",
        "1. Apples\n2. Pears and plums\n3. Bread",
        '"Hope is a waking dream." - Aristotle of Stagira',
        "New shop, new deals! Come and see us soon in town! #shop #deals",
        "def area(r):\n    return 3.14 * r ** 2",
        "```python\nprint('hello')\n```",
        "I walk alone at night.\nThe moon is out of sight,\nAnd every star is shining bright",
        "I cannot wait to see you there!",
        "I don't have any money.",
        "I can't believe how long it took.",
        "There was no input from the others.",
        "Name: ____________________\nDate: ------------------",
        "1,000,000,000,000 is 10000000000000",
        "None of them came.",
        "Dear Anna,\nThank you!\n[Your Name]",
        "{{1, 2}, {3}} is a set of sets.",
    ],
)
def test_a_sound_answer_raises_none(answer: str) -> None:
    assert scored(answer)["flags"] == []


@pytest.mark.parametrize(
    ("flag", "of_prompt"),
    [
        ("no_input", "Name a river.\n\nNo input"),
        ("no_input", "Name a river.\n\n<noinput>"),
        ("no_input", "Name a river.\nInput: N/A"),
        ("no_input", "Name a river.\n\nNo input is required."),
        ("url_input", "Sum it up.\n\nhttps://www.example.org/news/27"),
        ("url_input", "Sum it up.\n\nArticle: (https://example.org/a.html)"),
        ("url_input", "What does it show?\n\n![alt text](https://example.org/a.png)"),
        ("url_input", "Summarise this article in two sentences: https://example.org/a"),
        (None, "Name a river.\n\nNone of those in Spain."),
        (None, "Which of these is a site?\n\nhttps://example.org, 12 High Street"),
        (None, "Write a link to https://example.org"),
        (None, "Read the text at https://example.org\n\nIt was noon when they met."),
    ],
)
def test_an_input_that_is_missing_or_an_address_is_seen(flag: str | None, of_prompt: str) -> None:
    assert scored("The Ebro.", prompt=of_prompt)["flags"] == ([flag] if flag else [])


def test_an_answer_that_is_but_a_slot_is_a_placeholder() -> None:
    assert scored("[insert poem here]")["flags"] == ["placeholder", "open_slots"]


def test_a_slot_of_the_prompt_is_part_of_the_task() -> None:
    assert scored("Sign as <your name>.", prompt="Explain <your name>.")["flags"] == []
    assert scored("It is <your name>.")["flags"] == ["open_slots"]


def test_another_script_is_right_when_it_is_asked_for() -> None:
    asked = "Translate: Where is the station?"
    assert scored("Где находится вокзал?", prompt=asked)["flags"] == []
    assert scored("Вчера было тепло.", prompt="Какая была погода?")["flags"] == []
    assert scored("It was a warm day.", prompt="Какая была погода?")["flags"] == ["script_mismatch"]


def test_what_models_cannot_do_is_no_refusal_when_asked() -> None:
    answer = "No, a GPT model cannot learn to do it."
    assert scored(answer)["flags"] == ["refusal"]
    assert scored(answer, prompt="Can a GPT model learn to do it?")["flags"] == []


def test_shares_are_of_what_they_say() -> None:
    found = scored("AB cd 12 ## www.a.b")  # 19 characters, 7 + 1 letters: ABcd wwwab
    assert found["digits"] == pytest.approx(2 / 19)
    assert found["symbols"] == pytest.approx(2 / 19)
    assert found["urls"] == pytest.approx(7 / 19)
    assert found["uppercase"] == pytest.approx(2 / 9)
    assert found["mean_word_length"] == pytest.approx((2 + 2 + 2 + 3 + 1 + 1) / 6)
    assert found["non_latin"] == 0


def test_code_is_what_is_fenced_and_what_looks_like_it() -> None:
    fenced = "Do so:\n```\nx\n```"
    assert scored(fenced)["code"] == pytest.approx(9 / 16)
    assert scored("def f(x):\n    return x;")["code"] == pytest.approx(22 / 23)
    assert scored("From here we return home. Import taxes rose.")["code"] == 0


def test_repetition_is_counted_in_lines_and_in_3_grams() -> None:
    assert scored("Go on\nStop\ngo on ")["duplicate_lines"] == pytest.approx(1 / 3)
    assert scored("a b c a b c")["repeated_ngrams"] == pytest.approx(1 / 4)
    assert scored("a b")["repeated_ngrams"] is None


def test_nothing_to_take_a_share_of_is_null_and_no_answer_is_null_throughout() -> None:
    empty = scored("")
    assert {empty[name] for name in ("symbols", "digits", "uppercase", "code", "urls")} == {None}
    assert (empty["longest_run"], empty["flags"]) == (0, ["empty"])
    assert scored("12 + 7")["uppercase"] is None
    assert set(scored(None).values()) == {None}


@given(st.lists(st.none() | st.text(st.sampled_from("aab \n0é🙂")), max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_longest_run_is_what_counting_gives(texts: list[str | None]) -> None:
    def count(text: str) -> int:
        best = run = 0
        for i, char in enumerate(text):
            run = run + 1 if i and text[i - 1] == char else 1
            best = max(best, 0 if char in " \n0" else run)
        return best

    expected = [None if text is None else count(text) for text in texts]
    assert longest_run(pl.Series(texts, dtype=pl.String)).to_list() == expected


HOSTILE = [
    *(
        "a",
        " ",
        "(",
        "[insert ",
        "<insert ",
        "```",
        "http://",
        "sorry ",
        "no input ",
        "\n",
        "aA1_ ",
    ),
    *("as an ai ", "x = [", "1. ", "- ", "Ã", "。", "def ", "!" * 3),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_length_of_the_text_and_no_faster(piece: str) -> None:
    def seconds(size: int) -> float:
        text = (piece * (size // len(piece) + 1))[:size]
        start = time.process_time()
        scored(text, prompt=text)
        return time.process_time() - start

    small = min(seconds(2_500) for _ in range(2))
    most = 0.025 + 8 * small * 3  # eight times the text; a square would be sixty-four
    assert seconds(20_000) < most or seconds(20_000) < most


def test_a_piece_that_refusals_need_is_no_single_letter_that_all_texts_have() -> None:
    assert min(map(len, refusals._HINTS)) >= 3
