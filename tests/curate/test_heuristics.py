"""Heuristics: which answers raise which flag, and what the shares are shares of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

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


def scored_all(*answers: str | None, prompts: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Scores of answers to ``prompts``; all rows at once, since polars compiles 130 patterns."""
    asked = prompts or [PROMPT] * len(answers)
    messages = [
        [turn("user", prompt), turn("assistant", answer)]
        for prompt, answer in zip(asked, answers, strict=True)
    ]
    scores = Heuristics()(pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS)}))
    return [
        {name.removeprefix("heuristics_"): value for name, value in row.items()}
        for row in scores.iter_rows(named=True)
    ]


BAD = [
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
    ("open_slots", "The capital is {capital}."),
    ("open_slots", "1. [Item]\n2. [Item]"),
    ("open_slots", "TODO: write the summary"),
    ("open_slots", "<answer>"),
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
]
SOUND = [
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
    "It prints the {name} of an f-string.",
    "- [1] is the first note",
]
INPUTS = [
    ("no_input", "Name a river.\n\nNo input"),
    ("no_input", "Name a river.\n\n<noinput>"),
    ("no_input", "Name a river.\nInput: N/A"),
    ("no_input", "Name a river.\n\nNo input is required."),
    ("url_input", "Sum it up.\n\nhttps://www.example.org/news/27"),
    ("url_input", "Sum it up.\n\nArticle: (https://example.org/a.html)"),
    ("url_input", "What does it show?\n\n![alt text](https://example.org/a.png)"),
    ("url_input", "Summarise this article in two sentences: https://example.org/a"),
    *(("no_input", f"Name a river.\n\n{one}") for one in ("-", "...", '""', "TBD", "None needed.")),
    ("no_input", "Name a river.\n\nThere is no input"),
    ("no_input", "Name a river.\n\n<input>"),
    ("url_input", "Sum it up.\n\nftp://example.org/a.txt"),
    ("url_input", "Sum it up.\n\nnews.example.org/sport"),
    (None, "What does it stand for?\n\n+"),
    (None, "Sum it up.\n\nIt rained all day.\n\n---"),
    (None, "Describe the company.\n\nExample.com"),
    (None, "Name a river.\n\nNone of those in Spain."),
    (None, "Which of these is a site?\n\nhttps://example.org, 12 High Street"),
    (None, "Write a link to https://example.org"),
    (None, "Read the text at https://example.org\n\nIt was noon when they met."),
]


@cache
def flags_of_cases() -> list[list[str]]:
    """The flags of the rows of `BAD`, `SOUND` and `INPUTS`."""
    answers = [*(answer for _, answer in BAD), *SOUND, *["The Ebro."] * len(INPUTS)]
    prompts = [*[PROMPT] * (len(BAD) + len(SOUND)), *(prompt for _, prompt in INPUTS)]
    found = scored_all(*answers, prompts=prompts)
    assert all(
        [flag for flag in row["flags"] if row[flag] is True] == row["flags"] for row in found
    )
    return [row["flags"] for row in found]


@pytest.mark.parametrize(("at", "flag", "answer"), [(at, *case) for at, case in enumerate(BAD)])
def test_a_bad_answer_raises_its_flag_alone(at: int, flag: str, answer: str) -> None:
    assert flags_of_cases()[at] == [flag]


@pytest.mark.parametrize(("at", "answer"), [*enumerate(SOUND, len(BAD))])
def test_a_sound_answer_raises_none(at: int, answer: str) -> None:
    assert flags_of_cases()[at] == []


@pytest.mark.parametrize(
    ("at", "flag", "of_prompt"),
    [(at, *case) for at, case in enumerate(INPUTS, len(BAD) + len(SOUND))],
)
def test_an_input_that_is_missing_or_an_address_is_seen(
    at: int, flag: str | None, of_prompt: str
) -> None:
    assert flags_of_cases()[at] == ([flag] if flag else [])


def test_slots_and_scripts_are_judged_by_the_prompt() -> None:
    cases = [
        ("[insert poem here]", PROMPT, ["placeholder", "open_slots"]),
        ("Sign as <your name>.", "Explain <your name>.", []),
        ("It is <your name>.", PROMPT, ["open_slots"]),
        ("Где находится вокзал?", "Translate: Where is the station?", []),
        ("Вчера было тепло.", "Какая была погода?", []),
        ("It was a warm day.", "Какая была погода?", ["script_mismatch"]),
        ("No, a GPT model cannot learn to do it.", PROMPT, ["refusal"]),
        ("No, a GPT model cannot learn to do it.", "Can a GPT model learn to do it?", []),
    ]
    answers, prompts, flags = zip(*cases, strict=True)
    assert [row["flags"] for row in scored_all(*answers, prompts=prompts)] == [*flags]


def test_shares_are_of_what_they_say() -> None:
    texts = [
        "AB cd 12 ## www.a.b",  # 19 characters, 7 + 1 letters: ABcd wwwab
        "Do so:\n```\nx\n```",
        "def f(x):\n    return x;",
        "From here we return home. Import taxes rose.",
        "Go on\nStop\ngo on ",
        "a b c a b c",
        "a b",
    ]
    found, fenced, code, prose, lines, grams, words = scored_all(*texts)
    assert found["digits"] == pytest.approx(2 / 19)
    assert found["symbols"] == pytest.approx(2 / 19)
    assert found["urls"] == pytest.approx(7 / 19)
    assert found["uppercase"] == pytest.approx(2 / 9)
    assert found["mean_word_length"] == pytest.approx((2 + 2 + 2 + 3 + 1 + 1) / 6)
    assert found["non_latin"] == 0
    assert fenced["code"] == pytest.approx(9 / 16)
    assert code["code"] == pytest.approx(22 / 23)
    assert prose["code"] == 0
    assert lines["duplicate_lines"] == pytest.approx(1 / 3)
    assert grams["repeated_ngrams"] == pytest.approx(1 / 4)
    assert words["repeated_ngrams"] is None


def test_nothing_to_take_a_share_of_is_null_and_no_answer_is_null_throughout() -> None:
    empty, without_letters, missing = scored_all("", "12 + 7", None)
    assert {empty[name] for name in ("symbols", "digits", "uppercase", "code", "urls")} == {None}
    assert (empty["longest_run"], empty["flags"]) == (0, ["empty"])
    assert without_letters["uppercase"] is None
    assert set(missing.values()) == {None}


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


def test_time_grows_with_the_length_of_the_text_and_no_faster() -> None:
    def seconds(size: int, pieces: list[str]) -> float:
        texts = [(piece * (size // len(piece) + 1))[:size] for piece in pieces]
        start = time.process_time()
        scored_all(*texts, prompts=texts)
        return time.process_time() - start

    patterns, small = (min(seconds(size, HOSTILE) for _ in range(2)) for size in (1, 2_500))
    of_texts = max(small - patterns, small / 4)
    most = 2 * patterns + 8 * of_texts * 3  # eight times the text; a square would be sixty-four
    large = min(seconds(20_000, HOSTILE), seconds(20_000, HOSTILE))
    assert large < most, {piece: seconds(20_000, [piece]) for piece in HOSTILE}


def test_a_piece_that_refusals_need_is_no_single_letter_that_all_texts_have() -> None:
    assert min(map(len, refusals._HINTS)) >= 3
