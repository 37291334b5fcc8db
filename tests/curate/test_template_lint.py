from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.template_lint import TemplateLint


def signs(answer: str | None) -> list[str] | None:
    rows = [[turn("user", "Why?"), turn("assistant", answer)]]
    found = TemplateLint()(pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)}))
    listed: list[str] | None = found["template_lint_signs"].to_list()[0]
    return listed


@pytest.mark.parametrize(
    ("sign", "answer"),
    [
        ("control_token", "Because.<|im_end|>"),
        ("control_token", "Because.</s>"),
        ("control_token", "[INST] Why? [/INST] Because."),
        ("control_token", "Because. <｜end▁of▁sentence｜>"),
        ("field_name", "Output: Because it rains."),
        ("html_entity", "Cats &amp; dogs."),
        ("literal_escape", "First.\\nSecond."),
        ("prompt_header", "Because.\n### Instruction:\nGo on."),
        ("template_code", "Because {{ message['content'] }}"),
        ("turn_mark", "Because.\nHuman: And then?"),
    ],
)
def test_each_leftover_is_found(sign: str, answer: str) -> None:
    assert signs(answer) == [sign]


@pytest.mark.parametrize(
    "answer",
    [
        "Because it rains.",
        "Write `<|im_end|>` at the end.",
        "```\nUser: x\n{% if a %}\n```",
        "The output: rain. <b>Bold</b> and C:\\new are fine.",
        'import csv\nrows = "name,age\\nJohn,28"\nprint(rows)',
        "## Response times\nHuman rights: a list.",
        "",
    ],
)
def test_other_text_has_none(answer: str) -> None:
    assert signs(answer) == []


def test_without_an_answer_there_are_no_signs() -> None:
    assert signs(None) is None
