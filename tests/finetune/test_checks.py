from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig, PreTrainedTokenizerBase

from siftune.curate.chat.encoding import Encoded, encode_chats
from siftune.curate.core.errors import DataError, UsageError
from siftune.finetune.data.preflight import (
    Problem,
    check_labels,
    check_length,
    check_precision,
    check_reward_head,
    check_steps,
    check_template,
    check_texts,
    check_tokenizer,
    check_truncation,
    refuse,
    untrainable,
)
from siftune.finetune.models.loading import load_tokenizer

TURN = "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
LOOP = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}ASSISTANT"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)


@pytest.fixture
def tokenizer(tiny_model_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_model_dir)


def row(key: str, asked: str, said: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return {"id": key, "messages": turns}


def levels(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.level, problem.where) for problem in problems]


def test_a_sound_tokenizer_and_template_have_no_problem(tokenizer: PreTrainedTokenizerBase) -> None:
    assert check_tokenizer(tokenizer) == []
    assert check_template(tokenizer) == []


def test_a_tokenizer_that_pads_with_its_end_or_not_at_all_is_told(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    assert "both ends a text and pads it" in str(*check_tokenizer(tokenizer))
    tokenizer.pad_token = None
    assert "no padding token" in str(*check_tokenizer(tokenizer))
    tokenizer.eos_token = None
    assert levels(check_tokenizer(tokenizer)) == [("error", "tokenizer")]


@pytest.mark.parametrize(
    ("assistant", "message"),
    [
        ("{{ m['content'] + '<|im_end|>\\n' }}", None),
        ("{{ m['content'] }}", "'<|im_end|>' is added after the last answer"),
        ("{{ raise_exception('no') }}", "cannot be trained with"),
        ("so it goes", "turn 2 cannot be located"),
        ("{% generation %}{{ m['content'] + '<|im_end|>\\n' }}{% endgeneration %}", None),
        ("{% generation %}{% endgeneration %}", "marks no text of the assistant"),
        ("{% generation %}{{ m['content'] }}{% endgeneration %}<|im_end|>", "never learns to stop"),
        (
            "{% generation %}{{ m['content'] + '<|im_start|>' }}{% endgeneration %}",
            "generation stops at '<|im_end|>'",
        ),
        ("<|endoftext|><|endoftext|>" + TURN, None),
        (TURN, None),
    ],
)
def test_a_template_that_would_teach_wrongly_is_named(
    tokenizer: PreTrainedTokenizerBase, assistant: str, message: str | None
) -> None:
    tokenizer.chat_template = LOOP.replace("ASSISTANT", assistant)
    found = " ".join(map(str, check_template(tokenizer)))
    assert (message in found) if message else found == ""


def test_a_first_token_that_comes_twice_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "<|endoftext|><|endoftext|>" + LOOP.replace("ASSISTANT", TURN)
    assert "begins a text with '<|endoftext|>' twice" in str(*check_template(tokenizer))


def test_a_generation_prompt_that_no_answer_follows_is_named(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    ask = "{% if add_generation_prompt %}<|im_start|>hm{% endif %}"
    tokenizer.chat_template = LOOP.replace("ASSISTANT", "<|im_start|>" + TURN) + ask
    assert "the generation prompt ends with 'hm'" in str(*check_template(tokenizer))


def test_conversations_without_a_template_are_an_error(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = None
    assert levels(check_template(tokenizer)) == [("error", "tokenizer")]


def test_forged_control_tokens_and_empty_thinking_name_their_rows(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = [
        row("a:1", "Hi", "Hello"),
        row("a:2", "Hi<|im_end|>", "Hello"),
        row("a:3", "Hi", "<think>\n\n</think>Hello"),
        row("a:4", "<think></think>", "<think>so</think>Hello"),
    ]
    forged, hollow = check_texts(tokenizer, rows)
    assert "control tokens are spelled out in 1 rows (a:2)" in str(forged)
    assert "empty <think></think> is trained on in 1 rows (a:3)" in str(hollow)
    assert {forged.level, hollow.level} == {"warning"}


def test_rows_with_nothing_to_learn_are_named() -> None:
    rows = [Encoded([1, 2, 3], [0, 0, 1]), Encoded([1], [0]), Encoded([1, 2], [0, 1])]
    assert untrainable(["a", "b", "c"], rows, 2).rows() == [
        ("a", "prompt_over_max_length"),
        ("b", "no_trained_tokens"),
    ]
    assert untrainable(["a"], rows[:1], None).is_empty()


def test_rows_that_are_cut_off_are_counted() -> None:
    rows = [Encoded([1] * n, [1] * n) for n in (3, 5, 7)]
    assert "in 2 rows (b, c)" in str(*check_truncation(["a", "b", "c"], rows, 4))
    assert check_truncation(["a", "b", "c"], rows, 7) == []


@pytest.mark.parametrize(
    ("problems", "where"),
    [
        (check_length(600, LlamaConfig(max_position_embeddings=512)), "max_length"),
        (check_length(1, LlamaConfig()), "max_length"),
        (check_precision({"bf16": True}, cpu=True), "bf16"),
        (check_steps(0, 8, 1.0), "epochs"),
        (check_steps(7, 8, 1.0, drop_last=True), "epochs"),
        (check_reward_head(SimpleNamespace(num_labels=2)), "model"),
        (check_labels([True, True]), "label"),
        (check_labels([]), "label"),
    ],
)
def test_settings_that_cannot_train_are_errors(problems: list[Problem], where: str) -> None:
    assert levels(problems) == [("error", where)]


@pytest.mark.parametrize(
    "problems",
    [
        check_length(512, LlamaConfig(max_position_embeddings=512)),
        check_length(None, LlamaConfig(max_position_embeddings=512)),
        check_precision({"bf16": True}, cpu=False),
        check_precision({"bf16": False}, cpu=True),
        check_steps(7, 8, 1.0),
        check_reward_head(SimpleNamespace(num_labels=1)),
        check_labels([True, False]),
    ],
)
def test_settings_that_can_train_are_let_through(problems: list[Problem]) -> None:
    assert problems == []


def test_warnings_are_shown_and_the_first_error_stops(capsys: pytest.CaptureFixture[str]) -> None:
    warning = Problem("warning", "rows", "odd", "look")
    refuse([warning])
    assert capsys.readouterr().err == "warning: rows: odd; look\n"
    with pytest.raises(UsageError, match=r"^lr: wrong; mend it$"):
        refuse([Problem("error", "lr", "wrong", "mend it"), warning])
    assert capsys.readouterr().err == "warning: rows: odd; look\n"
    with pytest.raises(DataError):
        refuse([Problem("error", "t:1", "wrong", "mend it", rows=True)])
    with pytest.raises(DataError, match="all 2 labels are True"):  # the rows are at fault
        refuse(check_labels([True, True]))


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_read_and_checked_in_forty_seconds_of_one_core(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    import time

    rows = [
        row(f"a:{at}", "What is two plus two? " * 5, "It is four. " * 10) for at in range(100_000)
    ]
    start = time.process_time()
    check_texts(tokenizer, rows)
    encoded = encode_chats(tokenizer, [each["messages"] for each in rows])
    untrainable([each["id"] for each in rows], encoded, 512)
    assert time.process_time() - start < 40
