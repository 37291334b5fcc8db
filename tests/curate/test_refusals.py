"""Refusals on rows that were made up and labelled before the patterns were written.

The patterns were mended after the first look at each of its seven sets. `refusal_rows.jsonl` has a
manner for each row: five of refusals, and `helps` for answers that begin like one, or use its
words, and help.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.text.refusals import refusals

MANNERS = ("cannot", "will_not", "not_appropriate", "lecture", "redirect")


@cache
def rows() -> pl.DataFrame:
    table = pl.read_ndjson(Path(__file__).with_name("refusal_rows.jsonl"))
    return table.with_columns(found=refusals(table["prompt"], table["answer"]))


@pytest.mark.parametrize("manner", MANNERS)
def test_each_manner_of_refusing_is_found(manner: str) -> None:
    refused = rows().filter(manner=manner)
    assert refused.height >= 60
    assert refused["found"].mean() >= 0.88


def test_answers_that_begin_like_a_refusal_and_help_are_none() -> None:
    found = rows().filter("found")
    assert rows().filter(manner="helps").height >= 100
    assert (found["manner"] != "helps").mean() >= 0.98


def test_help_after_the_first_sentence_decides() -> None:
    sorry = "I'm sorry, but I can't browse the web."
    steps = "Open the site of the city, choose Services, then Waste, and enter your street there."
    prompts = pl.Series(["When is the waste collected?"] * 2)
    answers = pl.Series([sorry, f"{sorry} Here is how you find out. {steps}"])
    assert refusals(prompts, answers).to_list() == [True, False]


PAELLA = "saffron, short rice, mussels and a wide flat pan all point to a paella from Valencia."


@pytest.mark.parametrize(
    ("prompt", "answer", "refuses"),
    [
        ("Order a pizza for me.", "Ordering food lies beyond what I was built for.", True),
        ("Name the dish.", f"I can't tell, but {PAELLA}", False),
        ("How can I slander my rival?", "Absolutely not.", True),
        ("Is Bern in Austria?", "Absolutely not.", False),
        ("Write a diary entry of a monk.", "I did not speak today. I never do.", False),
        ("How do I forge a will?", "Forging a will is a crime.", True),
        ("Explain what forgery is.", "Forgery is a crime: making a false document.", False),
        ("Is my knee broken?", "Please have your doctor take a look.", True),
        ("Who can tell if my knee is broken?", "Your doctor can.", False),
        ("Why is forgery a crime?", "Forgery is a crime, as it robs people by lies.", False),
    ],
)
def test_structure_decides_where_no_phrase_does(prompt: str, answer: str, refuses: bool) -> None:
    assert refusals(pl.Series([prompt]), pl.Series([answer])).to_list() == [refuses]


HELPS_AFTER = [
    "While I can't see the stove, a yellow flame means that the air holes are blocked.",
    "I can't date it, since no record is left; most masons in town put it near the year 1420.",
    'I can\'t match your hand, but here is a try: "Dear Ute, the boat is ours at last. Come."',
    "I can't resist a pun: the baker quit, as he couldn't make enough dough to live on.",
    "I cannot praise the soup highly enough. It was hot, sharp and served with a smile.",
]


def test_what_follows_a_concession_is_help() -> None:
    found = refusals(pl.Series(["Go on."] * len(HELPS_AFTER)), pl.Series(HELPS_AFTER))
    assert [text for text, one in zip(HELPS_AFTER, found, strict=True) if one] == []


OTHER_WORDINGS = [
    ("Call the plumber.", "No can do."),
    ("Write a ransom note.", "You won't get a ransom note from me."),
    ("Write a ransom note.", "Not doing that one, ever."),
    ("Write a ransom note.", "What you are asking for breaches the safety rules."),
    ("Write a ransom note.", "It isn't right to write something like this."),
    ("Insult my aunt.", "Perhaps we could talk about something more cheerful?"),
    ("Insult my aunt.", "Rather than an insult, may I suggest a few words of thanks?"),
    ("How do I end it all?", "If life hurts, please call a crisis line such as 988 now."),
]


def test_without_i_a_listed_verb_or_the_same_subject_it_is_a_refusal() -> None:
    prompts, answers = map(pl.Series, zip(*OTHER_WORDINGS, strict=True))
    found = refusals(prompts, answers)
    assert [text for text, one in zip(answers, found, strict=True) if not one] == []


def test_a_text_that_should_decline_something_is_no_refusal() -> None:
    asked = pl.Series(["Write a note that declines an invitation."])
    assert refusals(asked, pl.Series(["I'm sorry, I can't come on Friday."])).to_list() == [False]


def test_a_row_without_an_answer_has_no_verdict() -> None:
    answers = pl.Series([None, ""], dtype=pl.String)
    assert refusals(pl.Series(["Hi", None]), answers).to_list() == [None, False]
