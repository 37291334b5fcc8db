"""Checkable instructions of IFEval: one text that follows each, and one that does not."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from siftune.curate.text.checkable_instructions import (
    INSTRUCTIONS,
    follows,
    loose_variants,
    sentence_count,
)

LESS, LEAST = "less than", "at least"
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": LEAST},
        "A BIG one",
        "A big one",
    ),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, " say IT. Yes", "Yes. Say it."),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:two_responses", {}, "******\none\n******\ntwo\n******", "a\n******\n******\nb"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a] [b\n]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "x\np. s. y", "x\nps y"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "x P.P.S y", "x P.S. y"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "My answer is none."),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', '```json\n{"a": 1\n```'),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na\nSection two",
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        "* a\n - b",
        "* a\n** b\n* c\n- d",
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "*a* and **b**",
        "*a* and * *\n*b\n*",
    ),
    ("detectable_format:title", {}, "x <<A title>>", "x << >> <<a\n>>"),
    ("keywords:existence", {"keywords": ["c++", "Ok"]}, "I know C++, ok", "I know C, ok"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat", "dog"]}, "concatenate", "No Cat."),
    (
        "keywords:frequency",
        {"keyword": "no ", "frequency": 2, "relation": LEAST},
        "No, nothing",
        "No, yes",
    ),
    (
        "keywords:letter_frequency",
        {"letter": "A", "let_frequency": 3, "let_relation": LESS},
        "Ab a",
        "Aba a",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First.\n\n'then, we",
        "First.\n\nThen we\n\nthen",
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        "***\na\n***\nb",
        "a\n*** ***b",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": LESS},
        "Mr. Li paid 3.50. He left.",
        "A b. C d! E f?",
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": LEAST}, "a-b c", "a b"),
    ("punctuation:no_comma", {}, "one; two", "one, two"),
    ("startend:end_checker", {"end_phrase": "Any more? "}, 'Yes. "any MORE?"', "Any more? Yes."),
    ("startend:quotation", {}, ' "a "b" c" ', '"a'),
]
LANGUAGES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "language:response_language",
        {"language": "de"},
        "Das ist ein ganz kurzer Satz über das Wetter in den Bergen.",
        "This is quite a short sentence about the weather in the mountains.",
    ),
    (
        "change_case:english_capital",
        {},
        "THIS IS QUITE A SHORT SENTENCE ABOUT THE WEATHER.",
        "THIS IS QUITE a SHORT SENTENCE ABOUT THE WEATHER.",
    ),
    (
        "change_case:english_lowercase",
        {},
        "this is quite a short sentence about the weather.",
        "das ist ein ganz kurzer satz über das wetter.",
    ),
]


@pytest.mark.parametrize(("name", "given", "right", "wrong"), CASES)
def test_a_text_that_follows_and_one_that_does_not(
    name: str, given: dict[str, Any], right: str, wrong: str
) -> None:
    empty = {"language": None, "num_words": None}  # files have the arguments of all
    assert follows(name, {**empty, **given}, right) is True
    assert follows(name, {**empty, **given}, wrong) is False
    assert follows(name, given, " \n") is False


@pytest.mark.slow  # the model of languages takes a second to load
@pytest.mark.parametrize(("name", "given", "right", "wrong"), LANGUAGES)
def test_languages(name: str, given: dict[str, Any], right: str, wrong: str) -> None:
    pytest.importorskip("py3langid")
    assert follows(name, given, right) is True
    assert follows(name, given, wrong) is False


def test_every_instruction_has_a_case_and_what_is_wrong_has_no_verdict() -> None:
    assert {case[0] for case in (*CASES, *LANGUAGES)} == {*INSTRUCTIONS}
    assert len(INSTRUCTIONS) == 25
    for name, given, *_ in CASES:
        for key in given:
            lacking = {one: value for one, value in given.items() if one != key}
            assert follows(name, lacking, "some text") is None, (name, key)
            assert follows(name, lacking, "") is None, (name, key)
    assert follows("punctuation:no_coma", {}, "a") is None
    assert follows("keywords:existence", {"keywords": "cat"}, "cat") is None
    odd = {"num_words": 3, "relation": "at most"}
    assert follows("length_constraints:number_words", odd, "a") is None


def test_relations_at_their_bounds() -> None:
    for relation, verdicts in ((LESS, [True, False, False]), (LEAST, [False, True, True])):
        given = {"num_words": 2, "relation": relation}
        said = ["a", "a b", "a b c"]
        assert [follows("length_constraints:number_words", given, x) for x in said] == verdicts


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("no mark", 1),
        ("One. Two", 2),
        ("Really?! Yes... no.", 3),
        ('He said "Go." Then left.', 2),
        ("Dr. A. B. Smith of the U.S. Army came at five. Then he left.", 2),
        ("I said no. Then I left.", 2),
        ("一。二！三", 3),
        ("...", 0),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert sentence_count(text) == count


def test_the_eight_texts_of_the_loose_accuracy() -> None:
    found = list(loose_variants("Sure:\n*a*\nBye"))
    assert found == [
        *("Sure:\n*a*\nBye", "Sure:\na\nBye", "*a*\nBye", "a\nBye"),
        *("Sure:\n*a*", "Sure:\na", "*a*", "a"),
    ]


def test_long_texts_take_linear_time() -> None:
    texts = [unit * (100_000 // len(unit)) for unit in ("[", "*", "<<", "\n", ".", ".x", "(", '"')]
    start = process_time()
    for name, given, *_ in CASES:
        for text in texts:
            assert follows(name, given, text) is not None
    assert process_time() - start < 15  # quadratic ones take minutes each
