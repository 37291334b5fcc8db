from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from siftune.curate.chat.encoding import (
    _Conversation,
    encode_answers,
    encode_chats,
    encode_prompts,
    encode_texts,
    encode_unmasked,
)
from siftune.curate.chat.piece_ids import Piece, _ids_after, _ids_of
from siftune.curate.core.errors import DataError, UsageError
from siftune.finetune.models.loading import load_tokenizer
from siftune.finetune.tools.init import make_tokenizer

TOKENIZER = make_tokenizer(["the cat sat on the mat"] * 3, 300)


@pytest.fixture
def tokenizer(tiny_model_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_model_dir)


def said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


CHAT = said(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "And?"))
ANSWER = said(("assistant", "Bye."))


def test_ids_and_mask_are_those_of_the_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    whole = [*CHAT, *ANSWER]
    expected: Any = tokenizer.apply_chat_template(
        [whole], return_assistant_tokens_mask=True, return_dict=True
    )
    (encoded,) = encode_chats(tokenizer, [whole])
    assert encoded.ids == expected["input_ids"][0]
    assert encoded.mask == expected["assistant_masks"][0]


def test_only_what_the_assistant_wrote_is_marked(tokenizer: PreTrainedTokenizerBase) -> None:
    (encoded,) = encode_chats(tokenizer, [[*CHAT, *ANSWER]])
    marked = [token for token, bit in zip(encoded.ids, encoded.mask, strict=True) if bit]
    assert tokenizer.decode(marked) == "Hello<|im_end|>Bye.<|im_end|>"


def test_an_answer_follows_exactly_the_prompt_that_is_asked(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    for opening in ("Bye.", "\n\nBye.", "  Bye."):
        ((prompt, answer, _),) = encode_answers(tokenizer, [CHAT], [said(("assistant", opening))])
        assert prompt == encode_prompts(tokenizer, [CHAT])[0]
        assert tokenizer.decode(answer) == f"{opening}<|im_end|>"


def test_of_an_answer_of_several_turns_the_assistants_are_marked(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    answer = said(("assistant", "Bye."), ("user", "Now?"), ("assistant", "Now."), ("user", "Well"))
    (encoded,) = encode_answers(tokenizer, [CHAT], [answer])
    wrote = [token for token, bit in zip(encoded.ids, encoded.mask, strict=True) if bit]
    assert tokenizer.decode(wrote) == "Bye.<|im_end|>Now.<|im_end|>"
    assert tokenizer.decode(encoded.ids).startswith("Bye.<|im_end|>\n<|im_start|>user\nNow?")
    assert tokenizer.decode(encoded.ids).endswith("Now.<|im_end|>")  # nothing after it is read


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<|im_end|>", "<|im_start|>", "<|pad|>", "<think>", "\n", "user", " é"])
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        max_size=8,
    ).map("".join)
)
def test_text_cannot_forge_control_tokens(text: str) -> None:
    chat = said(("user", text), ("assistant", text.replace("<think>", "")))
    empty = said(("user", ""), ("assistant", ""))
    (encoded,), (bare,) = encode_chats(TOKENIZER, [chat]), encode_chats(TOKENIZER, [empty])
    special = set(TOKENIZER.all_special_ids)
    assert sum(i in special for i in encoded.ids) == sum(i in special for i in bare.ids)
    assert TOKENIZER.decode(encoded.ids) == TOKENIZER.apply_chat_template(chat, tokenize=False)


def test_only_the_assistant_thinks() -> None:
    think = TOKENIZER.convert_tokens_to_ids("<think>")
    (encoded,) = encode_chats(TOKENIZER, [said(("user", "<think>"), ("assistant", "<think>x"))])
    assert [
        bit for token, bit in zip(encoded.ids, encoded.mask, strict=True) if token == think
    ] == [1]


def test_plain_text_ends_with_the_end_of_sequence(tokenizer: PreTrainedTokenizerBase) -> None:
    (encoded,) = encode_texts(tokenizer, ["The <|im_end|> cat"])
    assert encoded.ids.count(tokenizer.eos_token_id) == 1
    assert encoded.ids[-1] == tokenizer.eos_token_id
    assert encoded.mask == [1] * len(encoded.ids)


def test_a_tokenizer_without_a_template_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = None
    with pytest.raises(UsageError, match="no chat template"):
        encode_prompts(tokenizer, [CHAT])


def test_an_answer_is_trained_after_the_prompt_that_is_asked_where_the_template_rewrites_it(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}"
        "{{ m['content'] + ('<|im_end|>' if m['role'] == 'assistant' else '?') }}{% endfor %}"
    )
    ((prompt, answer, mask),) = encode_answers(tokenizer, [CHAT[:2]], [ANSWER])
    assert prompt == encode_prompts(tokenizer, [CHAT[:2]])[0]
    assert tokenizer.decode(prompt) == "2Be kind.?Hi?"
    assert tokenizer.decode(answer) == "Bye.<|im_end|>"
    assert set(mask) == {1}


TOOLED = (
    "{% for tool in tools or [] %}[{{ tool['function']['name'] }}]{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|im_start|>"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "weather<|im_end|>"}}]


def test_tools_reach_the_template_of_each_conversation_as_plain_text(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenizer.chat_template = TOOLED
    listed = [None, TOOLS]
    bare, tooled = encode_chats(tokenizer, [[*CHAT, *ANSWER]] * 2, tools=listed)
    assert tokenizer.decode(tooled.ids) == "[weather<|im_end|>]" + tokenizer.decode(bare.ids)
    end = tokenizer.eos_token_id
    assert tooled.ids.count(end) == bare.ids.count(end) == 2
    prompts = encode_prompts(tokenizer, [CHAT] * 2, tools=listed)
    answers = encode_answers(tokenizer, [CHAT] * 2, [ANSWER] * 2, tools=listed)
    assert [answer[0] for answer in answers] == prompts
    assert prompts[0] != prompts[1]


def test_a_turn_of_weight_0_is_read_and_not_learned(tokenizer: PreTrainedTokenizerBase) -> None:
    whole = [*CHAT, *ANSWER]
    unlearned = [{**turn, "weight": int(turn["content"] == "Bye.")} for turn in whole]
    (every,), (last,) = encode_chats(tokenizer, [whole]), encode_chats(tokenizer, [unlearned])
    assert last.ids == every.ids
    marked = [token for token, bit in zip(last.ids, last.mask, strict=True) if bit]
    assert tokenizer.decode(marked) == "Bye.<|im_end|>"


ODD = {
    "another name in the header": (
        "{% for m in messages %}<|im_start|>{{ 'bot' if m['role'] == 'assistant' else m['role'] }}"
        "\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "the number of turns in the header": (
        "{% for m in messages %}[{{ loop.index }}/{{ messages | length }}] "
        "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "the last answer again after its end": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% else %}[last: {{ messages[-1]['content'] }}]{% endif %}"
    ),
    "older turns without an end": (
        "{% for m in messages[:-2] %}History: {{ m['content'] }}; {% endfor %}"
        "{% for m in messages[-2:] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "the time": (
        "{{ strftime_now('%H:%M:%S.%f') }}\n{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_of_an_odd_template_the_answer_and_its_end_are_learned(
    tokenizer: PreTrainedTokenizerBase, odd: str
) -> None:
    chat = said(("user", "Hi"), ("assistant", "Hello"), ("user", "Hello"), ("assistant", "Bye."))
    (encoded,) = encode_chats(tokenizer, [chat], ODD[odd])
    marked = [token for token, bit in zip(encoded.ids, encoded.mask, strict=True) if bit]
    end = "" if odd == "older turns without an end" else "<|im_end|>"
    assert tokenizer.decode(marked) == f"Hello{end}Bye.<|im_end|>"
    ((_, answer, mask),) = encode_answers(tokenizer, [chat[:3]], [chat[3:]], ODD[odd])
    assert tokenizer.decode(answer) == "Bye.<|im_end|>"
    assert all(mask)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% if not loop.last %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_end|>\n<|im_start|>assistant\n{% endif %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
    ],
)
def test_an_empty_answer_is_learned_as_its_end(
    tokenizer: PreTrainedTokenizerBase, template: str
) -> None:
    asked, empty = said(("user", "Hi")), said(("assistant", ""))
    alone, beside = (
        encode_answers(tokenizer, [asked] * len(answers), answers, template)[0]
        for answers in ([empty], [empty, said(("assistant", "Hello"))])
    )
    assert alone == beside
    learned = [token for token, bit in zip(alone.ids, alone.mask, strict=True) if bit]
    assert tokenizer.decode(learned).strip() == tokenizer.eos_token


@pytest.mark.parametrize(
    "body", ["{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ 1 // 0 }}"]
)
def test_a_template_that_fails_is_one_line_with_the_row(
    tokenizer: PreTrainedTokenizerBase, body: str
) -> None:
    with pytest.raises(DataError, match=r"row r:7: the chat template of .* cannot write"):
        encode_chats(tokenizer, [said(("user", "Hi"))], body, rows=["r:7"])


def test_an_empty_turn_that_the_template_leaves_out_is_refused(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    template = (
        "{% for m in messages %}{% if m.content %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(DataError, match="turn 2 cannot be located"):
        encode_chats(tokenizer, [said(("user", "Hi"), ("assistant", ""))], template)


def test_a_text_that_its_anchor_merges_with_is_read_after_the_control_token() -> None:
    """Two newlines are one token of this tokenizer, and a newline is the anchor."""

    def merging(texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(map(ord, text.replace("\n\n", "\f"))) for text in texts]}

    texts = [("\n", "\nab"), ("\n", "cd"), ("", "e")]
    found = _ids_after(merging, texts, "$")  # type: ignore[arg-type]
    assert found == [list(map(ord, text)) for _, text in texts]


def test_an_unfinished_answer_is_the_last_one(tokenizer: PreTrainedTokenizerBase) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    chat = [{"role": role, "content": f"say {at}"} for at, role in enumerate(roles)]
    (whole,), (cut,) = (encode_unmasked(tokenizer, [chat], finished=[one]) for one in (True, False))
    assert whole[: len(cut)] == cut
    assert len(cut) < len(whole)
    assert str(tokenizer.decode(cut)).endswith("say 4")


class Blanks:
    """A tokenizer that puts a blank before a word at the start, or after its control token."""

    eos_token = "$"

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        shown = [re.sub(r"(^|\$)(?=\w)", r"\1_", text) for text in texts]
        return {"input_ids": [list(map(ord, text)) for text in shown]}


def test_a_blank_is_put_after_a_control_token_and_not_inside_a_text() -> None:
    places: Any = ("text", "control", "nothing")
    pieces = [Piece(f"a{at}", False, after) for at, after in enumerate(places)]
    assert _ids_of(Blanks(), pieces) == [  # type: ignore[arg-type]
        *(list(map(ord, text)) for text in ("a0", "_a1", "_a2"))
    ]
    ends: Any = SimpleNamespace(stops=SimpleNamespace(control=["<e>", "<b>"]))
    found = [_Conversation._before(ends, "x<e>y", at) for at in (0, 1, 4, 5)]
    assert found == ["nothing", "text", "control", "text"]
