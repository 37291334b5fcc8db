"""The default rule of near-duplicates: what is a copy, what is not, and which copy survives."""

from __future__ import annotations

import re
import time
from fractions import Fraction
from random import Random

import numpy as np
import polars as pl
import pytest

import siftune as sf
from siftune.curate.core.schema import TURNS
from siftune.curate.dedup.default_rule import RowSides
from siftune.curate.dedup.row_guard import allows
from siftune.curate.dedup.whole_answers import _prefixes, answer_parts, padded_prompts
from siftune.curate.rows.chat import turn
from siftune.curate.selectors.minhash_dedup import MinHashDedup
from tests.curate.test_dedup import chats, told


def asked(*pairs: tuple[str, str]) -> pl.DataFrame:
    """Conversations of a question and an answer each."""
    messages = [[turn("user", prompt), turn("assistant", answer)] for prompt, answer in pairs]
    return chats([""] * len(pairs)).with_columns(messages=pl.Series(messages, dtype=TURNS))


PROMPT = "Give three tips for staying healthy."
ANSWER = "Eat a balanced diet, exercise regularly, and get enough sleep every night."


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Give three tisp for staying healhty.", ANSWER.replace("balanced", "balancd")),
        ("Give three tips staying for healthy.", ANSWER),
        ("Give three tips for healthy.", ANSWER),
        ("Give thre tips for stayinghealthy.", ANSWER),
        (PROMPT.upper(), ANSWER.lower().replace(",", "")),
        (PROMPT, "Sure! Here is the answer: " + ANSWER),
        (PROMPT, ANSWER + " I hope this helps!"),
        (PROMPT, "Eat a balanced diet, exercise regularly, and get"),
        (PROMPT, "Eat a balanced diet"),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_a_damaged_copy_is_found_and_the_whole_one_survives(
    prompt: str, answer: str, first: int
) -> None:
    both = [(PROMPT, ANSWER), (prompt, answer)]
    rows = asked(both[first], both[1 - first])  # the smaller digest decides on neither
    found = told("minhash_dedup", rows)
    assert [reason for reason, _ in found.values()].count("near_duplicate") == 1
    words = [len(f"{one} {other}".split()) for one, other in both]
    if "answer:" in answer or "helps" in answer or words[1] < words[0]:
        assert found[f"f:{first + 1}"][0] == "survivor"


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        (PROMPT.replace("three", "four"), ANSWER),
        (PROMPT.replace("three", "3"), ANSWER.replace("night", "day")),
        (PROMPT.replace("healthy", "famous and rich"), ANSWER),
        ("Give three tips for not staying healthy.", ANSWER),
        ("Give three tips for getting healthy.", ANSWER),
        (PROMPT, ANSWER.replace("enough", "no")),
        (PROMPT, ANSWER.replace("diet", "breakfast")),
    ],
)
def test_a_row_that_says_something_else_is_no_copy(prompt: str, answer: str) -> None:
    found = told("minhash_dedup", asked((PROMPT, ANSWER), (prompt, answer)))
    assert {reason for reason, _ in found.values()} == {"unique"}
    if "3" in prompt or "famous" in prompt:
        return
    merged = told("minhash_dedup", asked((PROMPT, ANSWER), (prompt, answer)), ngram=1)
    assert "near_duplicate" in {reason for reason, _ in merged.values()}


LONG = " ".join(f"The river {word} flows past the old town." for word in "abcdefghijklmnop")


@pytest.mark.parametrize(
    ("one", "other", "copies"),
    [
        ("Who was Carla Bruni of France?", "Who was Carlo Bruni of France?", False),
        ("Who was Albert Einstein of Ulm?", "Who was Albert Einstien of Ulm?", True),
        ("Is Paris far from London by train?", "Is London far from Paris by train?", False),
        ("What is 12 + 30 of these apples?", "What is 12 - 30 of these apples?", False),
        ("What is 12 + 30 of these apples?", "What is 12 * 30 of these apples?", False),
        ("Name the eight largest of the rivers.", "Name the eighty largest of the rivers.", False),
        ("Show me that you do like it.", "Show me that you dont like it.", False),
        ("Write the length of it in km now.", "Write the length of it in kg now.", False),
        ("Show me all of the red ones.", "Show me all fo teh red ones.", True),
        ("请写一首关于北京的诗", "请写一首关于南京的诗", False),
        ("Show me that you don't like it.", "Show me that you dont like it.", True),
    ],
)
def test_the_guard_of_prompts(one: str, other: str, copies: bool) -> None:
    found = told("minhash_dedup", asked((one, ANSWER), (other, ANSWER)))
    assert ("near_duplicate" in {reason for reason, _ in found.values()}) == copies


@pytest.mark.parametrize(
    ("old", "new", "copies"),
    [
        ("river c flows", "river c runs", True),
        ("river c flows", "river Congo flows", True),  # only one has a name of its own
        ("river c flows", "river 7 flows", False),
        ("river c flows", "river c never flows", False),
    ],
)
def test_long_answers_agree_in_names_numbers_and_negations(
    old: str, new: str, copies: bool
) -> None:
    found = told("minhash_dedup", asked((PROMPT, LONG), (PROMPT, LONG.replace(old, new))))
    assert ("near_duplicate" in {reason for reason, _ in found.values()}) == copies


def test_an_answer_with_another_name_is_no_copy() -> None:
    one, other = (LONG.replace("river c", f"river {name}") for name in ("Congo", "Amazon"))
    found = told("minhash_dedup", asked((PROMPT, one), (PROMPT, other)))
    assert {reason for reason, _ in found.values()} == {"unique"}


def test_what_ends_answers_to_other_prompts_is_padding() -> None:
    more = " More on this is on our site."
    rows = asked(
        ("Who was Ada Lovelace?", "A mathematician."),
        ("Who was Ada Lovelace?", "A mathematician." + more),
        ("What is the capital of Peru?", "Lima."),
        ("What is the capital of Peru?", "Lima." + more),
        ("Is it so?", "It is true."),
        ("Is it so?", "Not at all, it is true."),
    )
    found = told("minhash_dedup", rows)
    assert found["f:2"] == (
        "near_duplicate",
        {"match": "part", "similarity": 2 / 9, "survivor": "f:1"},
    )
    assert found["f:4"][1]["survivor"] == "f:3"
    assert found["f:5"] == found["f:6"] == ("unique", None)


@pytest.mark.parametrize(
    ("one", "other", "copies"),
    [
        ("Eat a balanced diet, exercise and sleep.", "Eat a balanced di", True),
        ("The food is healthy and it is good for all", "The food is healthy and it is go", True),
        ("The name of the country is Nigeria", "The name of the country is Niger", False),
        ("He said that he cannot come here", "He said that he can", False),
        ("It is a category of plants.", "It is a cat.", False),  # which ends: nothing was cut off
        ("It is in room 120 of the house.", "It is in room 12", False),
        ("It is northwards of the old house.", "It is no", False),
    ],
)
def test_an_answer_cut_off_within_a_word_is_a_part(one: str, other: str, copies: bool) -> None:
    found = told("minhash_dedup", asked((PROMPT, other), (PROMPT, one)))
    assert found["f:2"][0] == ("survivor" if copies else "unique")


def test_of_texts_without_a_prompt_the_one_without_padding_stays() -> None:
    text = "Mix flour, eggs and milk, rest the batter, then fry it in butter."
    rows = pl.DataFrame({"text": [f"{text} I hope this helps!", text]})
    found = sf.read(rows).dedup("minhash")
    assert found.kept["id"].to_list() == [sf.read(rows).kept["id"][1]]


def test_a_thousand_equal_prompts_take_no_longer_than_one() -> None:
    prompts, answers = ["Hey, name a fruit. Thanks."] * 30_000, [str(at) for at in range(30_000)]
    groups = np.zeros(30_000, np.int64)
    started = time.process_time()
    assert len(padded_prompts(pl.Series(prompts), groups)) == 0
    assert len(answer_parts(pl.Series(prompts), pl.Series(answers)).part) == 0
    assert len([*_prefixes([0] * 30_000, ["a b c"] * 30_000, True)]) == 0
    assert time.process_time() - started < 5


def test_words_around_an_answer_and_a_prompt_are_padding() -> None:
    rows = asked(
        ("What is the capital of Peru?", "Lima."),
        ("What is the capital of Peru?", "Great question! Here it is. Lima. I hope this helps!"),
        (PROMPT, ANSWER),
        ("Hey, " + PROMPT + " Thanks.", ANSWER),
        ("Name all of the oceans.", ANSWER.upper()),
        ("As I said before, name all of the oceans.", ANSWER.upper()),
        ("Show me a red apple.", ANSWER.replace("diet", "pear") + " An orange."),
        ("As I said before, show me a red apple.", ANSWER.replace("diet", "pear") + " An orange."),
    )
    found = told("minhash_dedup", rows)
    assert [found[f"f:{at}"][0] for at in (1, 3, 5, 7)] == ["survivor"] * 4
    assert {found[f"f:{at}"][0] for at in (2, 4, 6, 8)} == {"near_duplicate"}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("old", "new"),
    [("balanced", "balancted"), ("regularly", "regulary"), ("and get", "get and")],
)
def test_the_row_with_words_that_the_table_has_survives(old: str, new: str, first: int) -> None:
    both = [(PROMPT, ANSWER), (PROMPT, ANSWER.replace(old, new))]
    others = [
        ("Describe the life of a monk.", "They get enough sleep and get up early, regularly."),
        ("What is a meal for a day?", "Take a balanced one, and get a balanced drink too."),
    ]
    found = told("minhash_dedup", asked(both[first], both[1 - first], *others))
    assert found[f"f:{first + 1}"][0] == "survivor"


def test_a_score_decides_before_wholeness() -> None:
    rows = asked((PROMPT, ANSWER), (PROMPT, "Eat a balanced diet"))
    rows = rows.with_columns(quality=pl.Series([0.1, 0.9]))
    assert told("minhash_dedup", rows, by="quality")["f:2"][0] == "survivor"


def test_ngrams_alone_are_compared_where_asked_for() -> None:
    rows = asked((PROMPT, ANSWER), (PROMPT.replace("three", "four"), ANSWER))
    for options in ({"ngram": 2, "threshold": 0.6}, {"unit": "char"}):
        assert "near_duplicate" in {
            why for why, _ in told("minhash_dedup", rows, **options).values()
        }


def ngrams(text: str) -> set[tuple[str, ...] | str]:
    """The set that the rule compares: halves of the words of a short text, else 3-grams."""
    words = re.findall(r"\w+", text.casefold())
    if len(words) > 60:
        return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}
    short, long = [each for each in words if len(each) < 4], [w for w in words if len(w) > 3]
    halves = [(len(each) + 1) // 2 for each in long]
    starts = {f"{each[:half]}-" for each, half in zip(long, halves, strict=True)}
    return {*short, *starts, *(f"-{each[half:]}" for each, half in zip(long, halves, strict=True))}


def variants(random: Random, count: int) -> pl.DataFrame:
    """Rows of few words, many nearly the same, some parts of others, around 60 words."""
    words = ["red", "Anna", "Oslo", "not", "7", "12", "seven", "apple", "apples", "the", "runs"]
    bases = [
        [random.choice(words) for _ in range(random.choice([5, 8, 45, 55, 60]))] for _ in range(4)
    ]
    rows = []
    for _ in range(count):
        answer = list(random.choice(bases))
        for _ in range(random.randrange(3)):
            answer[random.randrange(len(answer))] = random.choice(words)
        answer = answer[: random.choice([len(answer), len(answer), 4 * len(answer) // 5])]
        rows.append((random.choice(["Say it.", "Say it now, 7 times."]), " ".join(answer) + "."))
    return asked(*rows)


@pytest.mark.parametrize("seed", [0, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 2))])
def test_the_cover_is_that_of_the_stated_relation(seed: int) -> None:
    rows = variants(Random(seed), 40).sample(fraction=1, shuffle=True, seed=seed)
    turns = [[each["content"] for each in row] for row in rows["messages"]]
    guard = RowSides.of([rows], "both").guard(np.arange(rows.height))
    answers, prompts = (pl.Series([row[at] for row in turns]) for at in (1, 0))
    parts = answer_parts(answers, prompts.hash())
    sets = [ngrams("\n".join(each)) for each in turns]
    near = {}
    for i in range(rows.height):
        for j in range(rows.height):
            alike = Fraction(len(sets[i] & sets[j]), len(sets[i] | sets[j]))
            if i != j and alike >= Fraction(7, 10) and allows(guard, i, j):
                assert allows(guard, j, i)
                near[i, j] = alike
    part = {(i, j): Fraction(*map(int, words)) for i, j, words in zip(*parts[:3], strict=True)}
    part |= {(j, i): share for (i, j), share in part.items()}
    found = MinHashDedup()(rows)
    numbers = {row: at for at, row in enumerate(rows["id"])}
    details = {
        at: detail
        for at, (keep, detail) in enumerate(zip(found["keep"], found["detail"], strict=True))
        if not keep
    }
    assert len(details) > 10
    kept = np.flatnonzero(found["keep"])
    assert not [(i, j) for i in kept for j in kept if (i, j) in near or (i, j) in part]
    for at, detail in details.items():
        survivor, alike, match = (
            pl.Series([detail])
            .str.json_decode(
                pl.Struct({"survivor": pl.String, "similarity": pl.Float64, "match": pl.String})
            )
            .struct.unnest()
            .row(0)
        )
        pair = (at, numbers[survivor])
        assert found["keep"][pair[1]]
        assert alike == pytest.approx(float((near if match == "near" else part)[pair]))


def test_the_order_of_rows_does_not_matter() -> None:
    rows = variants(Random(4), 40)
    expected = told("minhash_dedup", rows)
    assert "part" in str(expected)
    for seed in range(3):
        assert told("minhash_dedup", rows.sample(fraction=1, shuffle=True, seed=seed)) == expected
