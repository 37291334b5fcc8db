"""Assistant masks of chat templates that mark nothing, against those that do."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from siftune.curate.chat.encoding import (
    encode_answers,
    encode_chats,
    encode_prompts,
    encode_unmasked,
)
from siftune.curate.core.errors import DataError, SiftuneError
from siftune.finetune.data.preflight import check_template
from tests.finetune.chat_templates import (
    CHATS,
    FAMILIES,
    PAIRS,
    TRL,
    byte_tokenizer,
    compared,
    runs,
    shown,
)

SEPARATOR: Final = ("marked", "\n")
"""The marked copies learn the newline after an end of turn: generation has stopped before it."""

_PROMPT = "the generation prompt holds it: the model does not write it"
DIFFERS: Final = {
    "deepseek_r1_distill": {
        ("marked", "<｜Assistant｜>"): _PROMPT,
        ("marked", "<｜tool▁outputs▁end｜>"): _PROMPT,
    },
    "deepseekv3": {
        ("marked", "<｜Assistant｜>"): _PROMPT,
        ("marked", "<｜tool▁outputs▁end｜>"): _PROMPT,
    },
    "diffusion_gemma": {
        ("located", "<|tool_response>"): "the template writes it after a call that nothing follows",
        ("located", "<|turn>model\n"): "after a tool's response it gives no generation prompt",
    },
    "gptoss": {("marked", "<|start|>assistant"): _PROMPT},
    "muse_glimmer": {("marked", "<|start|>assistant"): _PROMPT},
    **{
        f"nemotron_3_{size}": {("marked", "<think>"): _PROMPT, ("marked", "<think>\n"): _PROMPT}
        for size in ("5_lightning", "nano", "super", "ultra")
    },
    "qwen3_5_nothink": {
        ("marked", "<think>\n"): _PROMPT,
        ("marked", "<think>\n\n</think>\n\n"): _PROMPT,
    },
    **{
        name: {("marked", "<think>\n"): _PROMPT} for name in ("qwen3_5_think", "qwen3_6", "qwen3_8")
    },
}
"""Tokens that only one of the masks learns, beside the separator, and why."""

_THINKS = (
    "the copy writes empty thinking, or the thinking of earlier turns, that the original drops"
)
OTHER_TEXT: Final = {
    "deepseekv3": "the original writes arguments only as text, the copy an object as JSON",
    "glm4moe": "the original ends no turn, the copy with the next turn's first token",
    "qwen3": _THINKS,
    "qwen3_5_nothink": _THINKS,
    "qwen3_5_think": _THINKS,
    "qwen3_6": _THINKS,
}
"""Pairs whose copy writes another text: both masks are compared on the copy's."""

_TURNS = "roles must alternate"
_CALLS = "turn 2 cannot be located"
REFUSED: Final = {
    ("cohere", "tools"): _TURNS,
    ("cohere2", "tools"): _TURNS,
    ("gemma", "system"): "System role not supported",
    ("gemma", "tools"): _TURNS,
    ("gemma3", "tools"): _TURNS,
    ("llava_next", "tools"): "Only user and assistant roles are supported",
    **{
        (name, "tools"): _CALLS
        for name in ("idefics3", "lfm2", "llama3", "phi3", "phi3_5", "qwen2_5_vl", "smolvlm")
    },
}
"""What templates cannot write, by their own account or since they leave calls out."""


def test_trl_holds_the_pairs_that_are_compared() -> None:
    assert len(PAIRS) >= 31


@pytest.mark.parametrize("name", PAIRS)
def test_the_mask_of_an_unmarked_template_of_trl_is_that_of_its_marked_copy(name: str) -> None:
    differ = set()
    for case in CHATS:
        found = compared(name, case)
        reason = REFUSED.get((name, case))
        assert (found.refused is None) if reason is None else reason in (found.refused or "")
        assert not found.other_text or name in OTHER_TEXT
        differ |= found.differ
    assert differ - {SEPARATOR} == set(DIFFERS.get(name, {}))


@pytest.mark.parametrize("name", PAIRS)
def test_every_template_of_trl_trains(name: str) -> None:
    tokenizer = byte_tokenizer(name, (TRL / f"{name}.jinja").read_text(encoding="utf-8"))
    assert [str(each) for each in check_template(tokenizer) if each.level == "error"] == []
    for case, (chat, tools) in CHATS.items():
        if (name, case) in REFUSED:
            continue
        (encoded,) = encode_chats(tokenizer, [chat], tools=[tools])
        learned = [text for bit, text in runs(tokenizer, encoded.ids, encoded.mask) if bit]
        answers = [turn for turn in chat if turn["role"] == "assistant"]
        assert len(learned) == len(answers)
        for text, turn in zip(learned, answers, strict=True):
            assert turn["content"].strip() in text
            assert "tool_calls" not in turn or ("weather" in text and "Paris" in text)


LEARNED: Final = {
    "falcon": "User: \nHi\nFalcon:\n⟦Hello⟧\nUser: \nAnd?\nFalcon:\n⟦Bye<|endoftext|>⟧\n",
    "granite": (
        "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>⟦Hello<|end_of_text|>⟧\n"
        "<|start_of_role|>user<|end_of_role|>And?<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>⟦Bye<|end_of_text|>⟧\n"
    ),
    "internlm": (
        "<BOS><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello<|im_end|>⟧\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n⟦Bye<|im_end|>⟧\n"
    ),
    "mistral": "<BOS>[INST] Hi [/INST]⟦Hello</s>⟧ [INST] And? [/INST]⟦Bye</s>⟧ ",
    "mistral_tools": "<BOS>[INST] Hi[/INST]⟦ Hello</s>⟧[INST] And?[/INST]⟦ Bye</s>⟧",
    "olmo": (
        "<|endoftext|><|user|>\nHi\n<|assistant|>\n⟦Hello<|endoftext|>⟧\n"
        "<|user|>\nAnd?\n<|assistant|>\n⟦Bye<|endoftext|>⟧\n"
    ),
    "smollm2": (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello<|im_end|>⟧\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n⟦Bye<|im_end|>⟧\n"
    ),
    "yi": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Hello<|im_end|>⟧\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n⟦Bye<|im_end|>⟧\n"
    ),
}


def said(*contents: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[at % 2], "content": text} for at, text in enumerate(contents)]


@pytest.mark.parametrize("name", FAMILIES)
def test_other_families_learn_each_answer_with_its_end(name: str) -> None:
    tokenizer = byte_tokenizer(name, FAMILIES[name])
    (encoded,) = encode_chats(tokenizer, [said("Hi", "Hello", "And?", "Bye")])
    assert shown(tokenizer, encoded) == LEARNED[name]
    assert [str(each) for each in check_template(tokenizer) if each.level == "error"] == []


def test_a_call_is_learned_where_tools_move_to_the_last_user_turn() -> None:
    tokenizer = byte_tokenizer("mistral_tools", FAMILIES["mistral_tools"])
    chat, tools = CHATS["tools"]
    (encoded,) = encode_chats(tokenizer, [chat], tools=[tools])
    learned = [text for bit, text in runs(tokenizer, encoded.ids, encoded.mask) if bit]
    call = '{"name": "weather", "arguments": {"city": "Paris", "days": 2}, "id": "abcdefghi"}'
    assert learned == [f"[TOOL_CALLS] [{call}]</s>", " It is sunny.</s>", " Yes.</s>"]


WRITES: Final = {  # what a template writes before an answer, of it, and after it
    "cohere": ("", str.strip, "<|END_OF_TURN_TOKEN|>"),
    "deepseek_r1_distill": ("", str, "<｜end▁of▁sentence｜>"),
    "gptoss": ("<|channel|>final<|message|>", str, "<|end|>"),
    "llama3": ("", str.strip, "<|eot_id|>"),
    "phi3": ("", str, "<|end|>"),
    "qwen2_5": ("", str, "<|im_end|>"),
    "granite": ("", str, "<|end_of_text|>"),
    "internlm": ("", str, "<|im_end|>"),
    "mistral": ("", str, "</s>"),
    "mistral_tools": (" ", str.strip, "</s>"),
    "olmo": ("", str, "<|endoftext|>"),
    "smollm2": ("", str, "<|im_end|>"),
    "yi": ("", str, "<|im_end|>"),
}
LAST: Final = {"gptoss": "<|return|>", "phi3": "<|end|>\n<|endoftext|>"}
_TEXT = st.lists(
    st.sampled_from([" ", "\n", "Hi", "</s>", "<|im_end|>", "{{ x }}", "[INST]", "é", "</div>"])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85"), max_size=4),
    max_size=4,
).map("".join)


def template_of(name: str) -> str:
    file = TRL / f"{name}.jinja"
    return FAMILIES.get(name) or file.read_text(encoding="utf-8")


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    return byte_tokenizer(name, template_of(name))


@pytest.mark.parametrize("name", WRITES)
@settings(max_examples=8, deadline=None)
@given(contents=st.lists(st.tuples(_TEXT, _TEXT), min_size=1, max_size=3))
@example(contents=[("", ""), ("", "")])
@example(contents=[("Hi", "Hi"), ("Hi", " Hi Hi\n")])
@example(contents=[("\n", " "), ("</s>", "<|im_end|>\n")])
@example(contents=[("", "0\r"), ("", "")])
def test_each_answer_is_learned_as_it_is_written_and_nothing_else(
    name: str, contents: list[tuple[str, str]]
) -> None:
    tokenizer, (before, written, after) = tokenizer_of(name), WRITES[name]
    chat = said(*(text for pair in contents for text in pair))
    (encoded,) = encode_chats(tokenizer, [chat], template_of(name))
    found = list(runs(tokenizer, encoded.ids, encoded.mask))
    expected = [before + written(answer) + after for _, answer in contents]
    last = LAST.get(name, after)
    expected[-1] = expected[-1].removesuffix(after) + last
    assert [text for bit, text in found if bit] == expected
    assert "".join(text for _, text in found) == tokenizer.decode(encoded.ids)


@pytest.mark.parametrize("name", [name for name in WRITES if name != "deepseek_r1_distill"])
@settings(max_examples=4, deadline=None)
@given(contents=st.lists(_TEXT, min_size=4, max_size=4))
def test_an_answer_is_learned_after_the_ids_that_the_model_is_asked_with(
    name: str, contents: list[str]
) -> None:
    tokenizer, chat = tokenizer_of(name), said(*contents)
    (encoded,) = encode_chats(tokenizer, [chat], template_of(name))
    for turn in (1, 3):
        (asked,) = encode_prompts(tokenizer, [chat[:turn]], template_of(name))
        assert encoded.ids[: len(asked)] == asked
        assert encoded.mask[len(asked) - 1 : len(asked) + 1] == [0, 1]
        ((prompt, ids, mask),) = encode_answers(
            tokenizer, [chat[:turn]], [chat[turn : turn + 1]], template_of(name)
        )
        assert prompt == asked
        assert set(mask) == {1}
        if turn == 3:
            assert encoded.ids[len(asked) : len(asked) + len(ids)] == ids


BODY = "{% for m in messages %}{% if m.role == 'user' %}<s>USER{% else %}<s>BOT{% endif %}"
ASK = "{% if add_generation_prompt %}<s>BOT{% endif %}"
KINDS: Final = {
    "trimmed": "{{ m.content | trim }}</s>\n{% endfor %}" + ASK,
    "upper case": "{{ m.content | upper }}</s>\n{% endfor %}" + ASK,
    "first letter": "{{ m.content | capitalize }}</s>\n{% endfor %}" + ASK,
    "escaped": "{{ m.content | tojson(ensure_ascii=true) }}</s>\n{% endfor %}" + ASK,
    "cut short": "{{ m.content[:3] }}</s>\n{% endfor %}" + ASK,
    "replaced": "{{ m.content | replace(' ', '_') }}</s>\n{% endfor %}" + ASK,
    "by length": (
        "{% if m.content | length > 5 %}long: {% endif %}{{ m.content }}</s>{% endfor %}" + ASK
    ),
    "by start": (
        "{% if m.content.startswith('an') %}!{% endif %}{{ m.content }}</s>{% endfor %}" + ASK
    ),
    "by number": (
        "{% if m.role == 'user' %}({{ messages | length }}){% endif %}{{ m.content }}</s>"
        "{% endfor %}" + ASK
    ),
    "no end": "{{ m.content }}\n{% endfor %}" + ASK,
    "end between": "{{ m.content }}{% if not loop.last %}</s>{% endif %}{% endfor %}" + ASK,
    "split thinking": "{{ m.content.split('</think>')[-1] }}</s>{% endfor %}" + ASK,
    "asked always": "{{ m.content }}</s>{% endfor %}<s>BOT",
    "never asked": "{{ m.content }}</s>{% endfor %}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_template_does_to_contents_is_located(kind: str) -> None:
    tokenizer = byte_tokenizer("mistral", BODY + KINDS[kind])
    answers = [" an answer, é ", "an answer, é", "<think>\nwhy\n</think>\n\nan answer, é"]
    chat = said("an answer, é", answers[0], " an answer, é", answers[1], "x", answers[2])
    (encoded,) = encode_chats(tokenizer, [chat])
    (whole,) = encode_unmasked(tokenizer, [chat])
    learned = [text for bit, text in runs(tokenizer, encoded.ids, encoded.mask) if bit]
    assert len(learned) == 3
    text = tokenizer.decode(whole)
    assert "'type'" not in text  # contents are strings, not lists of parts printed as they are
    parts = text.split("<s>BOT")[1:4]
    for part, found in zip(parts, learned, strict=True):
        own = part.split("<s>")[0]
        cue = "<s>BOT" if kind == "never asked" else ""
        assert (
            found.removesuffix("</s>").strip() == (cue + own).strip().removesuffix("</s>").strip()
        )
    assert learned[-1].endswith("</s>")


EACH = "{% for m in messages %}"
ONLY_USERS = "{{ m.role }}{% if m.role == 'user' %}{{ m.content }}{% endif %}</s>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "turn"),
    [
        (EACH + ONLY_USERS, 2),
        (EACH + "{% if not loop.last %}{{ m.content }}</s>{% endif %}{% endfor %}", 4),
        ("{% for m in messages[-1:] %}{{ m.content }}</s>{% endfor %}", 2),
    ],
)
def test_a_turn_that_is_not_written_is_refused_by_row_and_turn(template: str, turn: int) -> None:
    tokenizer = byte_tokenizer("mistral", template)
    chat = said("Hi", "Hello", "And?", "Bye")
    with pytest.raises(DataError, match=f"^row b:7: turn {turn} cannot be located"):
        encode_chats(tokenizer, [chat[:0], chat], rows=["a:1", "b:7"])


def test_a_conversation_that_the_template_refuses_is_named_by_its_row() -> None:
    tokenizer = byte_tokenizer("mistral", FAMILIES["mistral"])
    twice = [{"role": "user", "content": "Hi"}] * 2
    for encode in (encode_chats, encode_prompts, encode_unmasked):
        with pytest.raises(
            SiftuneError, match=r"^row b:7: the chat template of mistral .*alternate"
        ):
            encode(tokenizer, [twice], rows=["b:7"])
    with pytest.raises(DataError, match=r"^conversation 1: .*alternate"):
        encode_chats(tokenizer, [twice])


def test_users_are_not_learned_where_a_template_writes_their_turns_late() -> None:
    late = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{{ '<s>' ~ messages[loop.index0 - 1].content ~ '<s>' ~ m.content ~ '</s>' }}"
        "{% endif %}{% endfor %}"
    )
    tokenizer = byte_tokenizer("mistral", late)
    (encoded,) = encode_chats(tokenizer, [said("Hi", "Hello", "And?", "Bye")])
    assert shown(tokenizer, encoded) == "<s>Hi<s>⟦Hello</s>⟧<s>And?<s>⟦Bye</s>⟧"


def test_a_generation_prompt_that_is_always_written_is_no_end_of_turn() -> None:
    each = "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m.content }}{% endfor %}<|assistant|>"
    tokenizer = byte_tokenizer("mistral", each, "<|user|><|assistant|>")
    (encoded,) = encode_chats(tokenizer, [said("Hi", "Hello")])
    assert shown(tokenizer, encoded) == "<|user|>Hi<|assistant|>⟦Hello</s>⟧<|assistant|>"


def test_the_ends_of_the_generation_settings_end_turns(tmp_path: Path) -> None:
    template = (TRL / "glm4moe.jinja").read_text(encoding="utf-8")
    tokenizer = byte_tokenizer("glm4moe", template + "{# a copy of its own #}")
    chat = said("Hi", "Hello", "And?", "Bye")
    (alone,) = encode_chats(tokenizer, [chat])
    assert shown(tokenizer, alone).endswith(
        "Hello⟧<|user|>\nAnd?<|assistant|>⟦\n<think></think>\nBye<|endoftext|>⟧"
    )
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>"])
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    tokenizer.name_or_path = str(tmp_path)
    (encoded,) = encode_chats(tokenizer, [chat])
    assert shown(tokenizer, encoded).endswith(
        "Hello<|user|>⟧\nAnd?<|assistant|>⟦\n<think></think>\nBye<|endoftext|>⟧"
    )


def test_an_answer_is_trained_after_the_thinking_that_the_prompt_opens() -> None:
    template = (TRL / "nemotron_3_nano.jinja").read_text(encoding="utf-8")
    tokenizer = byte_tokenizer("nemotron_3_nano", template)
    chat = said("Hi", "Hello")
    ((prompt, ids, mask),) = encode_answers(tokenizer, [chat[:1]], [chat[1:]], template)
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n<think>\n")
    assert tokenizer.decode(ids) == "</think>Hello<|im_end|>"
    assert set(mask) == {1}


@pytest.mark.parametrize("marked", [False, True])
def test_only_the_assistant_is_learned_in_an_answer_of_several_turns(marked: bool) -> None:
    name = "qwen3_training" if marked else "qwen3"
    template = (TRL / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = byte_tokenizer("qwen3", template)
    chat = said("Hi", "Hello", "And?", "Bye")
    ((prompt, ids, mask),) = encode_answers(tokenizer, [chat[:1]], [chat[1:]], template)
    assert prompt == encode_prompts(tokenizer, [chat[:1]])[0]
    learned = "".join(text for bit, text in runs(tokenizer, ids, mask) if bit)
    assert "And?" in tokenizer.decode(ids)
    assert "Hello<|im_end|>" in learned
    assert "Bye<|im_end|>" in learned
    assert "And?" not in learned


@pytest.mark.parametrize("name", ["qwen3", "gptoss", "diffusion_gemma", "smollm2"])
def test_a_turn_of_weight_0_is_not_learned_with_any_template(name: str) -> None:
    tokenizer = byte_tokenizer(name, template_of(name))
    chat = said("Hi", "Hello", "And?", "Bye")
    chat[1]["weight"] = 0
    (encoded,) = encode_chats(tokenizer, [chat])
    learned = [text for bit, text in runs(tokenizer, encoded.ids, encoded.mask) if bit]
    assert len(learned) == 1
    assert "Bye" in learned[0]
    assert "Hello" in tokenizer.decode(encoded.ids)


def test_of_several_named_templates_the_one_for_tools_is_used_with_tools() -> None:
    default, tooled = FAMILIES["mistral"], FAMILIES["mistral_tools"]
    tokenizer = byte_tokenizer("mistral", default, tooled, "named")
    tokenizer.chat_template = {"default": default, "tool_use": tooled}
    chat, tools = CHATS["tools"]
    plain, called = encode_chats(tokenizer, [said("Hi", "Hello"), chat], tools=[None, tools])
    assert shown(tokenizer, plain) == "<BOS>[INST] Hi [/INST]⟦Hello</s>⟧ "
    assert "[AVAILABLE_TOOLS]" in tokenizer.decode(called.ids)
    assert check_template(tokenizer) == []


def blank_tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """Like Llama 2's or Mistral's: a blank before a text, in some after each control token."""
    signs = [*map(chr, range(33, 127)), "▁", "▁H", "▁He"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *signs]
    vocab = {token: at for at, token in enumerate(tokens)}
    merges = [("▁", "H"), ("▁H", "e")]
    plain = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    if kind == "prepend":
        blanks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        plain.normalizer = normalizers.Sequence(blanks)
    else:
        plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    plain.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("name", ["mistral", "mistral_tools", "internlm", "falcon"])
@pytest.mark.parametrize("kind", ["prepend", "always", "first", "never"])
def test_tokenizers_that_put_blanks_before_texts_write_what_the_template_writes(
    kind: str, name: str
) -> None:
    tokenizer = blank_tokenizer(kind)
    tokenizer.chat_template = FAMILIES[name]
    if name == "internlm":
        more = ["<|im_start|>", "<|im_end|>"]
        tokenizer.add_special_tokens({"additional_special_tokens": more})
    chat = said("Hello", "Hello", " x", "\nHello")
    (encoded,) = encode_chats(tokenizer, [chat])
    expected = list(tokenizer.apply_chat_template(chat, return_dict=False))
    added = encoded.ids.index(2) if name == "falcon" else None  # the end that is added
    assert [token for at, token in enumerate(encoded.ids) if at != added] == expected
    (asked,) = encode_prompts(tokenizer, [chat[:3]])
    assert encoded.ids[: len(asked)] == asked
