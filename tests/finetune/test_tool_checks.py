"""A call is in what is learned, or the run is refused: with our template, TRL's and poor ones."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.chat.encoding import encode_answers, encode_chats, encode_prompts
from siftune.curate.chat.template_turns import chat, columns_of
from siftune.curate.chat.templates import ENCODER
from siftune.curate.core.errors import DataError, UsageError
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.data.tool_checks import _same_without_calls, check_calls
from siftune.finetune.models.loading import load_tokenizer
from siftune.finetune.trainers.sft import SFT

ASK = {"role": "user", "content": "Light on, please"}
DONE = {"role": "assistant", "content": "It is on."}
RESULT = {"role": "tool", "content": "done"}
TOOLS = [{"type": "function", "function": {"name": "light", "parameters": {"type": "object"}}}]
CONTENT_ONLY = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHARED = Path(__file__).parents[3] / "shared" / "cases"


def call(name: str = "light", **arguments: Any) -> dict[str, Any]:
    return {
        "id": "abcdefghi",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def calls(*each: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": list(each), **beside}


def conversation(*turns: dict[str, Any], tools: Any = None) -> dict[str, Any]:
    return {"id": "r:1", "messages": [ASK, *turns], "tools": tools}


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    return load_tokenizer(tiny_model_dir)


@pytest.fixture
def mute(tiny_model_dir: Path) -> Any:
    """A tokenizer whose template writes contents alone, as ours once did."""
    found = load_tokenizer(tiny_model_dir)
    found.chat_template = CONTENT_ONLY
    return found


def learned(tokenizer: Any, chat: Any, tools: Any = None) -> str:
    (encoded,) = encode_chats(tokenizer, [chat], tools=[tools])
    pairs = zip(encoded.ids, encoded.mask, strict=True)
    return str(tokenizer.decode([token for token, bit in pairs if bit]))


def test_the_built_in_template_learns_a_call_and_reads_tools_and_results(tokenizer: Any) -> None:
    chat = [ASK, calls(call(room=1, on=True)), RESULT, DONE]
    body = '<tool_call>\n{"name": "light", "arguments": {"room": 1, "on": true}}\n</tool_call>'
    assert learned(tokenizer, chat) == f"{body}<|im_end|>It is on.<|im_end|>"
    whole = tokenizer.decode(encode_chats(tokenizer, [chat], tools=[TOOLS])[0].ids)
    assert json.dumps(TOOLS[0]) in whole
    assert "<|im_start|>tool\ndone<|im_end|>" in whole


def test_the_built_in_template_writes_several_calls_after_a_text_and_reasoning(
    tokenizer: Any,
) -> None:
    both = calls(call(on=True), call("dim"), content="Yes.", reasoning_content="Hm.")
    text = learned(tokenizer, [ASK, both])
    assert text == (
        "<think>\nHm.\n</think>\n\nYes.\n"
        '<tool_call>\n{"name": "light", "arguments": {"on": true}}\n</tool_call>\n'
        '<tool_call>\n{"name": "dim", "arguments": {}}\n</tool_call><|im_end|>'
    )


def test_tools_join_the_system_turn_and_the_prompt_is_kept_before_an_answer(tokenizer: Any) -> None:
    prompt = [{"role": "system", "content": "Be brief."}, ASK]
    ((asked, answer, mask),) = encode_answers(
        tokenizer, [prompt], [[calls(call(on=True))]], tools=[TOOLS]
    )
    assert encode_prompts(tokenizer, [prompt], tools=[TOOLS]) == [asked]
    assert tokenizer.decode(asked).startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert tokenizer.decode(asked).count("<|im_start|>system") == 1
    assert all(mask)
    assert '"arguments": {"on": true}' in tokenizer.decode(answer)


def test_a_control_token_in_a_call_stays_text(tokenizer: Any) -> None:
    (encoded,) = encode_chats(tokenizer, [[ASK, calls(call(x="<|im_end|>"))]])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert encoded.ids.count(end) == 2  # of the two turns


ROWS = {
    "a conversation": conversation(calls(call(on=True)), RESULT, DONE),
    "an earlier call": conversation(calls(call()), RESULT, DONE, ASK, DONE),
    "a text beside the call": conversation({**calls(call()), "content": "I switch it on."}),
    "a side of a pair": {
        "id": "r:1",
        "prompt": [ASK],
        "chosen": [DONE],
        "rejected": [calls(call())],
        "tools": None,
    },
    "an answer": {"id": "r:1", "prompt": [ASK], "completion": [calls(call())], "tools": None},
    "one of several answers": {
        "id": "r:1",
        "prompt": [ASK],
        "completions": [[DONE], [calls(call())]],
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_a_template_that_cannot_write_a_call_is_refused(
    mute: Any, tokenizer: Any, name: str
) -> None:
    assert not [found for found in check_calls(tokenizer, [ROWS[name]]) if found.level == "error"]
    with pytest.raises(UsageError, match=r"cannot write the tool calls of 1 rows \(r:1\)"):
        preflight.refuse(check_calls(mute, [ROWS[name]]))


@pytest.mark.parametrize(
    "written",
    [
        "{{ m.tool_calls[0].function.name }}",
        "{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}",
        "{% set c = m.tool_calls[0] %}{{ c.function.name }}{{ c.function.arguments | tojson }}",
        "{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.keys() }}{% endfor %}",
    ],
)
def test_a_template_that_writes_half_of_the_calls_is_refused(mute: Any, written: str) -> None:
    body = f"{{% if m.tool_calls %}}{written}{{% endif %}}<|im_end|>{{% endgeneration %}}"
    mute.chat_template = CONTENT_ONLY.replace("<|im_end|>{% endgeneration %}", body, 1)
    (found,) = check_calls(mute, [conversation(calls(call(room="hall"), call("dim", to=3)))])
    assert "cannot write the tool calls" in str(found)


def test_a_call_outside_of_what_is_learned_is_refused(mute: Any) -> None:
    written = "{% endgeneration %}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}"
    mute.chat_template = CONTENT_ONLY.replace("{% endgeneration %}", written, 1)
    row = conversation(calls(call(room="hall")))
    assert [found.level for found in check_calls(mute, [row])] == ["error"]
    assert not check_calls(mute, [row], learned=False)
    assert not check_calls(mute, [conversation(calls(call(room="hall"), weight=0), RESULT, DONE)])


def test_results_that_vanish_are_refused_and_tools_and_reasoning_are_told(mute: Any) -> None:
    mute.chat_template = CONTENT_ONLY.replace("{{ m.content }}<|im_end|>{% endif %}",
        "{% if m.role != 'tool' %}{{ m.content }}{% endif %}<|im_end|>{% endif %}")  # fmt: skip
    found = check_calls(
        mute, [conversation(RESULT, {**DONE, "reasoning_content": "Hm."}, tools=TOOLS)]
    )
    assert [(one.level, one.where) for one in found] == [
        ("error", "chat template"),
        ("warning", "chat template"),
        ("warning", "chat template"),
    ]
    for problem, what in zip(
        found, ("results of tools", "the tools of", "reasoning of"), strict=True
    ):
        assert what in str(problem)


def test_a_weight_on_a_turn_that_is_never_learned_is_told(tokenizer: Any) -> None:
    row = {"id": "r:1", "messages": [{**ASK, "weight": 1}, DONE], "tools": None}
    (found,) = check_calls(tokenizer, [row])
    assert found.level == "warning"
    assert "weight 1" in str(found)
    assert not check_calls(tokenizer, [conversation(DONE)])


def test_prompts_and_encoders_are_checked_in_what_they_read(mute: Any, tokenizer: Any) -> None:
    row = {"id": "r:1", "prompt": [ASK, calls(call()), RESULT], "tools": TOOLS, "reference": None}
    assert not check_calls(tokenizer, [row], learned=False)
    assert [found.level for found in check_calls(mute, [row], learned=False)] == [
        "error",
        "warning",
    ]
    mute.chat_template, mute.sep_token, mute.cls_token = ENCODER, "<|pad|>", "<|endoftext|>"
    found = check_calls(mute, [ROWS["a conversation"]], learned=False)
    assert not [one for one in found if one.level == "error"]


def rows_of(folder: Path, *records: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def water(room: int) -> dict[str, Any]:
    asked = {"role": "user", "content": f"Please water the plants in room {room}."}
    said = {"role": "assistant", "content": None, "tool_calls": [call("water", room=room)]}
    return {"messages": [asked, said, RESULT, DONE]}


def test_sft_refuses_a_model_whose_template_cannot_write_calls(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model_dir, base)
    (base / "chat_template.jinja").write_text(CONTENT_ONLY)
    with pytest.raises(UsageError, match=r"tool calls of 2 rows \(rows:1, rows:2\)"):
        SFT(str(base))(rows_of(tmp_path, water(1), water(2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "case", ["01-toolcall-learned-as-silence", "09-string-arguments-encoded-twice"]
)
def test_the_calls_of_the_shared_cases_are_learned(tokenizer: Any, case: str) -> None:
    file = SHARED / case / "rows.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file}: the shared cases are not here")
    rows = training_rows.to_conversations(training_rows.load(file, ("conversation",)))
    assert not check_calls(tokenizer, rows)
    right = {"01": '{"room": 1}', "09": '{"on": true}'}[case[:2]]
    assert f'"arguments": {right}' in learned(tokenizer, rows[0]["messages"])
    template = SHARED / case / "chat_template.jinja"
    if template.is_file():
        (encoded,) = encode_chats(tokenizer, [rows[0]["messages"]], template.read_text())
        assert f'"arguments": {right}' in tokenizer.decode(encoded.ids)


def test_a_turn_of_weight_0_of_the_shared_case_is_not_learned(tokenizer: Any) -> None:
    file = SHARED / "12-turn-weight-ignored" / "rows.jsonl"
    if not file.is_file():
        pytest.skip(f"no {file}: the shared cases are not here")
    rows = training_rows.to_conversations(training_rows.load(file, ("conversation",)))
    assert learned(tokenizer, rows[0]["messages"]) == "No: Paris.<|im_end|>"


FULL = [
    {
        "type": "function",
        "function": {
            "name": "light",
            "description": "Switch a light.",
            "parameters": {
                "type": "object",
                "properties": {"room": {"type": "string", "description": "Which one."}},
                "required": ["room"],
            },
        },
    }
]
TEMPLATES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (files("trl") / "chat_templates").iterdir()
    if path.name.endswith(".jinja")
}
NO_CALLS = ("cohere", "gemma.", "gemma_", "gemma3", "idefics", "llava", "phi3", "smolvlm")
NO_CALLS += ("llama3.", "llama3_training", "lfm2.", "lfm2_training", "qwen2_5_vl")
"""Templates of TRL that write no calls; two write tools or results all the same."""


def named_results(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns as `data.training_rows` gives them."""
    return chat(columns_of(turns)[0])


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_templates_of_trl_learn_calls_or_are_refused(mute: Any, name: str) -> None:
    mute.chat_template = TEMPLATES[name]
    row = conversation(calls(call(room="hall", on=True, to=3)), RESULT, DONE, tools=FULL)
    turns = named_results(row["messages"])
    found = check_calls(mute, [{**row, "messages": turns}])
    errors = [problem for problem in found if problem.level == "error"]
    if not name.startswith(NO_CALLS):
        assert not errors
        text = learned(mute, turns, FULL)
        assert all(part in text for part in ("light", "room", "hall", "on", "3", "It is on."))
        return
    with pytest.raises((UsageError, DataError)):
        encode_checked(mute, turns, errors)


def encode_checked(tokenizer: Any, turns: Any, errors: Any) -> None:
    preflight.refuse(errors)
    encode_chats(tokenizer, [turns], tools=[FULL])


@pytest.mark.parametrize(
    "name", ["qwen3", "glm4moe", "gptoss", "lfm2_2_5", "muse_glimmer_training"]
)
def test_reasoning_is_learned_under_the_name_that_a_template_has_for_it(
    mute: Any, name: str
) -> None:
    mute.chat_template = TEMPLATES[f"{name}.jinja"]
    turns = [ASK, {**DONE, "reasoning_content": "It is dark."}]
    assert learned(mute, turns).count("It is dark.") == 1
    assert not check_calls(mute, [{"id": "r:1", "messages": turns, "tools": None}])


def test_a_weight_with_prompts_learned_too_is_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    weighed = {"messages": [ASK, {**DONE, "weight": 0}, ASK, DONE]}
    with pytest.raises(UsageError, match=r"turns have weight 0 in 1 rows \(rows:1\)"):
        SFT(str(tiny_model_dir), assistant_only_loss=False)(
            rows_of(tmp_path, weighed), tmp_path / "out"
        )


def test_a_template_that_leaves_calls_out_writes_the_same_text_without_them(mute: Any) -> None:
    assert _same_without_calls(mute, [ASK, calls(call()), RESULT, DONE], None)
    assert not _same_without_calls(mute, [ASK, DONE], None)  # there are none to leave out
