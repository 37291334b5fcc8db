"""Rewards that check texts: values by hand, what has no score, and texts made to be slow."""

from __future__ import annotations

import json
import sys
from math import cos, pi
from time import process_time
from typing import Any

import pytest
from click.testing import CliRunner

from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.finetune.rewards.constraints import Constraints
from siftune.finetune.rewards.exact_match import ExactMatch
from siftune.finetune.rewards.format import Format
from siftune.finetune.rewards.json_schema import JSONSchema
from siftune.finetune.rewards.length_penalty import LengthPenalty
from siftune.finetune.rewards.math_answer import MathAnswer
from siftune.finetune.rewards.reasoning_gym import ReasoningGym, _harmless
from siftune.finetune.rewards.regular_expression import RegularExpression
from siftune.finetune.rewards.repetition import Repetition


def scores(reward: Any, texts: list[str], row: dict[str, Any] | None = None) -> list[float | None]:
    rows = [{"reference": None, "tools": None, "extra": {}, **(row or {})}] * len(texts)
    found: list[float | None] = reward(["?"] * len(texts), texts, rows)
    return found


@pytest.mark.parametrize(
    ("known", "right", "wrong"),
    [
        (
            "0.5",
            ["1/2", r"\boxed{\frac12}", r"so \boxed{\dfrac{1}{2}}", "50%", r"50\%", ".5"],
            ["5"],
        ),
        (r"\frac{1}{2}", ["0.5", "It is 0.50."], ["1", "2"]),
        ("50%", ["0.5", "50", "1/2", "50 %"], ["0.05", "5000", "0.5%", "5000%"]),
        ("1,200", ["1200", "$1,200.00", "1200 apples", "6 * 200 = 1200"], ["1,2", "200"]),
        (
            "a\n#### 72",
            ["72", "#### 72", "The answer is 72. I used 48 and 24."],
            ["7", "272", "-72"],
        ),
        (
            "-3",
            ["x = -3", r"\boxed{-3}", "The answer is -3.", "Answer: −3", "the answer is $-3$"],
            ["3", "The answer is 3."],
        ),
        ("3", ["The answer is: **3**"], ["The answer is -3.", "Answer: -3", "the answer is $-3$"]),
        (
            "18",
            ["The answer is 9 * 2 = 18.", "The answer is 18, as 9 * 2 = 18. 3 are left."],
            ["The answer is 18 or 19 or 20", "The answer is 18-20", "16-18", "18-20"],
        ),
        ("5", ["5", "The answer is 5 m."], ["The answer is .5", "5 million", "5 dozen"]),
        ("5,000,000", ["5 million", "The answer is 5 million people."], ["5", "5 thousandths"]),
        ("10/3", ["10/3", r"\frac{20}{6}", r"so $\frac{20}{6}$"], ["3.33", "10"]),
        ("7", ["<think>8</think> 7", r"\boxed{8} no, \boxed{7}"], ["<think>7", "none", "", "70"]),
        ("2x", ["2x", "$2x$"], ["2", "x"]),
        (r"$\frac{x}{2}$", [r"thus $\frac{x}{2}$"], ["x"]),
    ],
)
def test_numbers_agree_by_value(known: str, right: list[str], wrong: list[str]) -> None:
    reward = MathAnswer(compare="plain")
    assert scores(reward, right, {"reference": known}) == [1.0] * len(right)
    assert scores(reward, wrong, {"reference": known}) == [0.0] * len(wrong)


@pytest.mark.parametrize("known", [None, "", "Paris", "It was in the year 1900 or so"])
def test_a_reference_that_is_no_value_gives_no_score(known: str | None) -> None:
    assert scores(MathAnswer(), ["1", ""], {"reference": known}) == [None, None]


@pytest.mark.slow  # sympy takes seconds to import
def test_formulas_agree_by_value_in_any_thread_and_towers_do_not_hang() -> None:
    from concurrent.futures import ThreadPoolExecutor

    pytest.importorskip("math_verify")
    pairs = [(r"2\sqrt{2}", r"\boxed{\sqrt{8}}", 1.0), ("(x+1)^2", "$x^2+2x+1$", 1.0)]
    pairs += [("(x+1)^2", "$x^2+2x$", 0.0), ("x^2", r"\boxed{9^{9^{9^{9}}}}", 0.0)]
    pairs += [("x", r"\boxed{(9^{9999})^{9999}}", 0.0), (r"2\sqrt{2}", r"\boxed{\sqrt{8}}", 1.0)]
    with ThreadPoolExecutor(1) as pool:
        for known, said, score in pairs:
            found = pool.submit(scores, MathAnswer(), [said], {"reference": known}).result()
            assert found == [score], (known, said)


def test_math_verify_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(UsageError, match=r"pip install 'siftune\[math\]'"):
        MathAnswer().load()
    MathAnswer(compare="plain").load()
    assert scores(MathAnswer(), ["1/2"], {"reference": "0.5"}) == [1.0]  # numbers need none


def test_the_format_by_hand() -> None:
    texts = [
        "<think>a</think>\nb",
        "<think>a</think>",
        "<think>a</think><think>a</think>b",
        "</think>a<think>b",
        "x <think>a</think>b",
        "b",
        "<think>a</think>b" * 2,
    ]
    assert scores(Format(), texts) == [1, 0.75, 0, 0.25, 0.75, 0, 0]
    assert scores(Format(strict=True), texts) == [1, 0, 0, 0, 0, 0, 0]
    assert scores(Format(tags=3, order=2, outside=1, filled=4), texts[:5]) == [1, 0.6, 0, 0.3, 0.9]
    assert scores(Format(prefilled=True), ["a</think>b", texts[0]]) == [1, 0]
    both = Format(answer="answer", think="reason")
    inside = "<reason>a</reason>{}<answer>b</answer>{}"
    assert scores(both, [inside.format(*x) for x in ("\n ", "xy", ("", "y"))]) == [1, 0.75, 0.75]
    assert scores(both, ["<answer>b</answer><reason>a</reason>"]) == [0.25]


SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "l": {"uniqueItems": True},
        "p": {"pattern": "(a+)+$"},
    },
    "required": ["a"],
}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]


def test_json_and_calls_against_their_schema() -> None:
    pytest.importorskip("jsonschema")
    texts = ['{"a": 1}', '{"a": "1"}', "no", '{"a": 1, "a": 2}', '{"a": 1, "l": [1, 1.0]}']
    texts += ['So\n```json\n{"a": 1}\n```\n```json\n{}\n```', '{"a": 1, "l": [1, true]}']
    right = [1, 0, 0, 0, 0, 0.5, 1]
    assert scores(JSONSchema(schema=SCHEMA), texts) == right
    wanted = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    assert scores(JSONSchema(), texts, {"extra": {"response_format": wanted}}) == right
    assert scores(JSONSchema(field="s"), texts, {"extra": {"s": json.dumps(SCHEMA)}}) == right
    assert scores(JSONSchema(), texts[:1]) == [None]
    assert scores(JSONSchema(), texts[:1], {"extra": {"response_format": {"type": 5}}}) == [None]
    call = '<tool_call>{{"name": "{}", "arguments": {{"a": {}}}}}</tool_call>'
    calls = [call.format("f", 1), call.format("g", 1), call.format("f", "true"), "hello"]
    assert scores(JSONSchema(), calls, {"tools": TOOLS}) == [1, 0, 0, 0]
    assert scores(JSONSchema(calls=False), calls[3:], {"tools": TOOLS}) == [None]


def test_patterns_and_repetition_by_hand() -> None:
    texts = ["the year 2024", "2024", "", "2024 and on"]
    assert scores(RegularExpression(r"\d{4}"), texts) == [1, 1, 0, 1]
    assert scores(RegularExpression(r"\d{4}", where="start"), texts) == [0, 1, 0, 1]
    assert scores(RegularExpression(r"\d{4}|x", where="whole"), texts) == [0, 1, 0, 0]
    assert scores(RegularExpression(r"\d{4}", negate=True), texts) == [0, 0, 1, 0]
    said = ["a B a b a", "a a a a", "a b", ""]  # ab ba ab ba; aa aa aa; ab
    assert scores(Repetition(ngram=2, scale=3), said) == pytest.approx([-1.5, -2, 0, 0])


def test_lengths_by_hand() -> None:
    texts = ["a " * n for n in (0, 2, 4, 6, 8, 20)]
    near = LengthPenalty("target", 4)
    assert scores(near, texts) == [-1, -0.5, 0, -0.5, -1, -1]
    over = LengthPenalty("soft_overlong", 8, cache=4)
    assert scores(over, texts) == [0, 0, 0, -0.5, -1, -1]
    assert scores(LengthPenalty("soft_overlong", 10), ["a " * 8, "a " * 9]) == [0, -0.5]
    cosine = LengthPenalty("cosine", 8, correct="exact_match")
    right = 1 + (1 + cos(pi / 4)) / 2  # two of eight words: between 2 and 1
    wrong = -10 * (1 + cos(pi / 4)) / 2  # between -10 and 0
    assert scores(cosine, ["a b"], {"reference": "a b"}) == pytest.approx([right])
    assert scores(cosine, ["a b"], {"reference": "a"}) == pytest.approx([wrong])
    assert scores(cosine, ["a b"], {"reference": "a b", "finished": False}) == [-10]
    assert scores(cosine, ["a " * 8], {"reference": "a"}) == [-10]
    assert scores(cosine, ["a b"]) == [None]


ASKED = {
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{"num_words": None}, {"num_words": 3, "relation": "less than"}],
}


def test_constraints_of_a_row_strict_and_loose() -> None:
    texts = ["a b", "a, b", "a b c, d", "", "Sure, here:\n**a** b"]
    share, every = Constraints(), Constraints(count="all")
    assert scores(share, texts, {"extra": ASKED}) == [1, 0.5, 0, 0, 0]
    assert scores(every, texts, {"extra": ASKED}) == [1, 0, 0, 0, 0]
    assert scores(Constraints(mode="loose", count="all"), texts, {"extra": ASKED}) == [
        1,
        0,
        0,
        0,
        1,
    ]
    as_text = {key: json.dumps(value) for key, value in ASKED.items()}
    assert scores(share, texts, as_text) == [1, 0.5, 0, 0, 0]
    assert scores(share, texts[:1]) == [None]
    assert scores(share, texts[:1], {"extra": {**ASKED, "kwargs": [{}]}}) == [None]
    assert scores(share, texts[:1], {"extra": {"instruction_id_list": ["no:such"]}}) == [None]
    assert scores(Constraints(instructions={"punctuation:no_comma": None}), texts[:2]) == [1, 0]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("format", {"think": "<think>"}, "expected the name of a tag"),
        ("format", {"tags": 0, "order": 0, "outside": 0, "filled": 0}, "one weight above 0"),
        ("format", {"answer": "think"}, "another tag"),
        ("regular_expression", {"pattern": r"(a)\1"}, "linear time"),
        ("regular_expression", {"pattern": "a)(b"}, "linear time"),
        ("length_penalty", {"shape": "target", "length": 4, "cache": 2}, "not of target"),
        ("length_penalty", {"shape": "soft_overlong", "length": 4, "cache": 4}, "less than length"),
        ("length_penalty", {"shape": "cosine", "length": 4, "correct": "no"}, "neither a model"),
        ("constraints", {"instructions": {"keywords:exist": {}}}, "keywords:existence"),
        ("constraints", {"instructions": {"keywords:existence": {}}}, "argument is missing"),
        ("json_schema", {"schema": {"type": 5}}, "schema:"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    name: str, options: dict[str, Any], words: str
) -> None:
    if name == "json_schema":
        pytest.importorskip("jsonschema")
    with pytest.raises(UsageError, match=words):
        registry.build("finetune.rewards", name, options)


def test_texts_that_are_made_to_be_slow_are_not() -> None:
    rewards: list[Any] = [
        MathAnswer(compare="plain"),
        Format(answer="answer"),
        RegularExpression("(a+)+$"),
        Repetition(),
        LengthPenalty("target", 5),
        ReasoningGym(),
    ]
    if "jsonschema" in sys.modules:
        rewards += [JSONSchema(), JSONSchema(schema=SCHEMA)]
    units = ["(", "[", '{"a":', "a", "<tool_call>", "<think>", "\\boxed{", "1,111", "$a"]
    texts = [unit * (200_000 // len(unit)) for unit in units]
    texts.append('{"a": 1, "l": [' + "[], {}, " * 25_000 + "1]}")
    texts.append('{"a": 1, "p": "' + "a" * 200_000 + '!"}')
    start = process_time()
    for reward in rewards:
        found = scores(reward, texts, {"reference": "x^2", "tools": TOOLS})
        assert len(found) == len(texts)
    assert scores(rewards[0], texts, {"reference": "3"})[0] == 0.0
    assert process_time() - start < 60  # quadratic ones take minutes each


def test_answers_that_a_scorer_would_run_are_formulas_alone() -> None:
    for text in (
        "x**(3/2)/3 + x**(-1)",
        "x**2/2 + C",
        "sqrt(2)*log(x)",
        "['A', 'B']",
        "3 * (4 + 5) - 6",
        "-1.5",
    ):
        assert _harmless(text), text
    for text in (
        *("__import__('os')", "open('x')", "().a", "'' .join", "(lambda: 1)", "f (1)"),
        *("9**9**9", "9**(9**9)", "2**99999", "[0]*9**9**9", "'a'*10**9", "9999!", "3!!"),
        *("9**(9*99999999)", "[0]*9999999999", "9*[0]", "(0,)*9", "9*(0, 1)", "9**(9/1)**(9)"),
        *("[x for x in y]", "sin(1)(2)", "x:=1", "'%d' % 1", "1 if 2 else 3", "'a'.format"),
    ):
        assert not _harmless(text), text


def test_tasks_of_reasoning_gym_are_scored_by_the_library() -> None:
    pytest.importorskip("reasoning_gym")
    from siftune.finetune.cli import finetune

    made = CliRunner().invoke(finetune, ["tasks", "chain_sum", "--count", "3", "-o", "max_terms=3"])
    rows = [json.loads(line) for line in made.output.splitlines()]
    assert len(rows) == 3
    for row in rows:
        known = {"reference": row["answer"], "extra": {"reasoning_gym": row["reasoning_gym"]}}
        said = [row["answer"], f"<think>0</think><answer>{row['answer']}</answer>.", "none"]
        assert scores(ReasoningGym(), said, known) == [1.0, 1.0, 0.0]
    other = {"reference": "no such answer", "extra": known["extra"]}
    assert scores(ReasoningGym(), ["1"], other) == [None]  # of another version
    file = {"reference": "7", "extra": {"metadata": {"source_dataset": "chain_sum"}}}
    assert scores(ReasoningGym(), ["7", "8"], file)[0] == 1.0
    with pytest.raises(UsageError, match="no task 'chain_some'; did you mean chain_sum"):
        scores(ReasoningGym(), ["1"], {"extra": {"reasoning_gym": {"task": "chain_some"}}})


def test_a_row_of_no_task_has_no_score() -> None:
    for extra in ({}, {"metadata": {}}, {"metadata": {"source_dataset": None}}):
        assert scores(ReasoningGym(), ["4"], {"reference": "4", "extra": extra}) == [None]


def test_thinking_is_no_part_of_an_answer() -> None:
    text, known = "<think>No, 5</think>4", {"reference": "4"}
    assert scores(ExactMatch(), [text], known) == [1.0]
    assert scores(RegularExpression(r"\d", where="whole"), [text]) == [1.0]
    no_comma = Constraints(instructions={"punctuation:no_comma": None})
    assert scores(no_comma, [text, "4, 5"]) == [1.0, 0.0]


def test_a_cut_answer_counts_where_it_has_a_mark() -> None:
    cut = {"reference": "4", "finished": False}
    texts = ["so 4", r"so \boxed{4} and", "6</think>4"]
    assert scores(MathAnswer(compare="plain"), texts, cut) == [0.0, 1.0, 1.0]


def test_a_deep_answer_is_wrong_and_a_schema_that_cannot_be_used_gives_no_score() -> None:
    pytest.importorskip("jsonschema")
    child = {"type": "object", "properties": {"child": {"$ref": "#"}}, "required": ["name"]}
    deep = '{"child":' * 300 + "1" + "}" * 300
    assert scores(JSONSchema(), [deep], {"extra": {"response_format": child}}) == [0.0]
    for schema in (
        *({"$ref": "#/$defs/none"}, {"$ref": "http://example.org/s.json"}),
        *({"properties": {"a": {"$ref": "#/properties/a"}}}, {"items": {"pattern": "(?=a)"}}),
    ):
        said = '["a"]' if "items" in schema else '{"a": 1}'
        assert scores(JSONSchema(), [said], {"extra": {"response_format": schema}}) == [None]
    with_thinking = ['<think>{"a": 1}</think>{"name": 1}']
    assert scores(JSONSchema(), with_thinking, {"extra": {"response_format": child}}) == [1.0]


def test_an_answer_on_which_a_scorer_fails_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class Task:
        def score_answer(self, answer: str, entry: Any) -> float:
            return abs(complex(answer))

    monkeypatch.setattr(
        "siftune.finetune.rewards.reasoning_gym._entry_of", lambda row: (Task(), {"answer": "1"})
    )
    assert scores(ReasoningGym(), ["1", "None", "nan", "-inf", "1e999"]) == [1.0, 0, 0, 0, 0]


def test_a_row_of_no_task_has_no_score_and_the_library_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert scores(ReasoningGym(), ["1"]) == [None]
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UsageError, match=r"pip install 'siftune\[gym\]'"):
        ReasoningGym().load()
