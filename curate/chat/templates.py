"""Chat templates: our own, the one to train with, and rendering of turns and tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from siftune.curate.chat.template_turns import REASONING
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.json_text import dump

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CHATML",
    "CONTROL",
    "ENCODER",
    "THINK",
    "ChatRenderer",
    "ToolLists",
    "Tools",
    "Turns",
    "marks_generation",
    "model_of",
    "own_template",
    "training_template",
]

CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
"""Control tokens of the models that `tools.init` makes, in the order of their ids."""

THINK: Final = ("<think>", "</think>")
"""Tokens that an assistant may write like any other; in other turns they stay text."""

_TOOLS: Final = (
    "{%- if tools %}"
    "{{- '<|im_start|>system\n' }}"
    "{%- if messages and messages[0]['role'] == 'system' %}"
    "{{- messages[0]['content'] + '\n\n' }}{%- endif %}"
    "{{- '# Tools\n\nYou may call these functions:\n<tools>' }}"
    "{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\n</tools>\n\nWrite each call as JSON between tags:\n<tool_call>\n"
    '{"name": <function name>, "arguments": <JSON object>}'
    "\n</tool_call><|im_end|>\n' }}"
    "{%- endif %}"
)
_ANSWER: Final = (
    "{%- if message['reasoning_content'] %}"
    "{{- '<think>\n' + message['reasoning_content'] + '\n</think>\n\n' }}{%- endif %}"
    "{{- message['content'] }}"
    "{%- for call in message['tool_calls'] or [] %}"
    "{{- '\n' if message['content'] or not loop.first }}"
    "{{- '<tool_call>\n{\"name\": ' }}{{- call['function']['name'] | tojson }}"
    "{{- ', \"arguments\": ' }}{{- call['function']['arguments'] | tojson }}"
    "{{- '}\n</tool_call>' }}{%- endfor %}"
    "{{- '<|im_end|>' }}"
)
CHATML: Final = (
    f"{_TOOLS}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|im_start|>assistant\n' }}"
    f"{{% generation %}}{_ANSWER}{{% endgeneration %}}"
    "{{- '\n' }}"
    "{%- elif not (tools and loop.first and message['role'] == 'system') %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""ChatML: each turn is ``<|im_start|>role\\ncontent<|im_end|>\\n``.

Tools are listed at the end of the system turn, and a call is written as Hermes and Qwen do:
``<tool_call>\\n{"name": ..., "arguments": ...}\\n</tool_call>``. Reasoning is kept in every turn.
"""

ENCODER: Final = (
    "{{- cls_token }}{%- for message in messages %}"
    "{{- message['content'] }}"
    "{%- for call in message['tool_calls'] or [] %}{{- call | tojson }}{%- endfor %}"
    "{{- sep_token }}{%- endfor %}"
)
"""How an encoder that knows no chats reads one: its separator after each turn."""


_COMMENT: Final = re.compile(r"\{#.*?#\}", re.DOTALL)
_GENERATION: Final = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def marks_generation(template: str) -> bool:
    """Whether a template marks which of its text the assistant writes.

    >>> marks_generation(CHATML)
    True
    >>> marks_generation("{# no {% generation %} here #}{{ messages[0]['content'] }}")
    False
    """
    return _GENERATION.search(_COMMENT.sub("", template)) is not None


Turns = Sequence[Mapping[str, Any]]
"""One conversation: turns as `training_rows.chat` gives them."""

Tools = Sequence[Mapping[str, Any]] | None
"""The functions that a conversation's model may call (JSON schemas)."""

ToolLists = Sequence[Tools]
"""The tools of several conversations, one entry a conversation."""

_TIME: Final = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_PROBE: Final = "siftuneprobe"
_PRINTED_PART: Final = re.compile(r"""(['"])type\1\s*:\s*(['"])text\2""")
_ASKED: Final = {"role": "user", "content": "Hello"}


class _Form(NamedTuple):
    """The form of turns that a template takes: OpenAI's, unless it cannot read that."""

    typed: bool = False  # content is a list of parts: [{"type": "text", "text": ...}]
    json_arguments: bool = False  # the arguments of a call are JSON text, not an object
    null_content: bool = False  # a turn that only calls has the content None, not ""


@dataclass(frozen=True)
class ChatRenderer:
    """A chat template of a tokenizer.

    A template that reads contents only as lists of parts gets them so, and one that reads the
    arguments of a call only as JSON text gets text.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str

    def __call__(self, chat: Turns, tools: Tools = None, ask: bool = False) -> str:
        """The conversation as text; with ``ask``, with the generation prompt at the end.

        Raises:
            DataError: the template refuses the conversation, or cannot write it.
        """
        return self._render(chat, tools, ask, marked=False)[0]

    @cached_property
    def marked(self) -> bool:
        """Whether the template marks what the assistant writes."""
        return marks_generation(self.template)

    def marks(
        self, chat: Turns, tools: Tools = None, ask: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """The conversation as text, and the parts that a marked template marks."""
        return self._render(chat, tools, ask, marked=True)

    @cached_property
    def _named(self) -> tuple[tuple[str, Any], ...]:
        """The special tokens by the names that templates use."""
        special = sorted(self.tokenizer.special_tokens_map.items())
        return tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in special)

    def _render(
        self, chat: Turns, tools: Tools, ask: bool, marked: bool
    ) -> tuple[str, list[tuple[int, int]]]:
        named = self._named
        form = _form(self.template, named, calls=any(turn.get("tool_calls") for turn in chat))
        names = _reasoning_names(self.template)
        turns = [_formed(_reasoned(turn, names), form) for turn in chat]
        try:
            return _written(self.template, turns, tools, ask, marked, named)
        except _failures() as error:
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"the chat template of {model_of(self.tokenizer)} cannot write a conversation "
                f"({reason})"
            ) from None


def _failures() -> tuple[type[Exception], ...]:
    """Exceptions of a template: its own refusals, and errors of the Python in it."""
    from jinja2 import TemplateError

    own = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
    return (TemplateError, *own, MemoryError, RecursionError)


def _written(
    template: str,
    turns: Sequence[Mapping[str, Any]],
    tools: Tools,
    ask: bool,
    marked: bool,
    named: Sequence[tuple[str, Any]],
) -> tuple[str, list[tuple[int, int]]]:
    from transformers.utils import chat_template_utils

    render: Any = chat_template_utils.render_jinja_template  # its annotation says str
    texts, spans = render(
        conversations=[turns],
        tools=tools,
        chat_template=_at_one_time(template),
        return_assistant_tokens_mask=marked,
        add_generation_prompt=ask,
        **dict(named),
    )
    return texts[0], [(start, end) for start, end in spans[0]] if spans else []


@lru_cache(maxsize=64)
def _at_one_time(template: str) -> str:
    """A template in which the time it writes is the same in all renderings of this process."""
    return _TIME.sub(lambda call: call[1] + _started().strftime(call[2]) + call[1], template)


@lru_cache(maxsize=1)
def _started() -> datetime:
    return datetime.now()  # local time, as `strftime_now` of transformers


def _formed(turn: Mapping[str, Any], form: _Form) -> dict[str, Any]:
    found = dict(turn)
    if form.json_arguments and turn.get("tool_calls"):
        found["tool_calls"] = [_json_arguments(call) for call in turn["tool_calls"]]
    if form.null_content and turn.get("tool_calls") and not turn.get("content"):
        found["content"] = None
    elif form.typed and isinstance(turn.get("content"), str):
        found["content"] = [{"type": "text", "text": turn["content"]}]
    return found


@lru_cache(maxsize=64)
def _reasoning_names(template: str) -> tuple[str, ...]:
    """The names other than ``reasoning_content`` that a template may use for reasoning."""
    return tuple(name for name in REASONING[1:] if re.search(rf"\b{name}\b", template))


def _reasoned(turn: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """A turn whose reasoning has those names too."""
    reasoning = turn.get("reasoning_content")
    return turn if reasoning is None else {**dict.fromkeys(names, reasoning), **turn}


def _json_arguments(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), Mapping):
        return call
    written = dump(function["arguments"])
    return {**call, "function": {**function, "arguments": written}}


@lru_cache(maxsize=64)
def _form(template: str, named: tuple[tuple[str, Any], ...], calls: bool) -> _Form:
    """The first form in which the template writes a probe's content (and its call)."""
    forms = [_Form(), _Form(typed=True)]
    if calls:
        typed = _form(template, named, calls=False).typed
        forms = [
            _Form(typed, json_arguments, null_content)
            for null_content in (False, True)
            for json_arguments in (False, True)
        ]
    return next((form for form in forms if _writes(template, form, named, calls)), forms[0])


def _writes(template: str, form: _Form, named: tuple[tuple[str, Any], ...], calls: bool) -> bool:
    answer: dict[str, Any] = {"role": "assistant", "content": _PROBE}
    if calls:
        call = {"name": _PROBE, "arguments": {"x": _PROBE}}
        answer["content"] = ""
        answer["tool_calls"] = [{"id": "000000000", "type": "function", "function": call}]
    try:
        turns = [_formed(turn, form) for turn in (_ASKED, answer)]
        text, _ = _written(template, turns, None, False, False, named)
    except _failures():
        return False
    if form.typed and _PRINTED_PART.search(text):
        return False  # it wants a string: of a list it writes what Python or JSON prints
    return text.count(_PROBE) >= 1 + calls


def model_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The name of the tokenizer's model in messages."""
    return str(tokenizer.name_or_path or "this model")


def own_template(tokenizer: PreTrainedTokenizerBase, tools: bool = False) -> str:
    """The tokenizer's own chat template: of several, the default, or the one for tools.

    Raises:
        UsageError: there is none.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = (tools and template.get("tool_use")) or template.get("default")
    if not isinstance(template, str):
        raise UsageError(
            f"the tokenizer of {model_of(tokenizer)} has no chat template, and the rows are "
            "conversations: give it one, or train on text rows"
        )
    return template


def training_template(tokenizer: PreTrainedTokenizerBase, tools: bool = False) -> str:
    """The chat template to train with.

    That is the tokenizer's own. If it does not mark what the assistant writes and TRL knows it,
    it is TRL's marked copy.

    Raises:
        UsageError: there is no template.
    """
    template = own_template(tokenizer, tools)
    if marks_generation(template) or template != tokenizer.chat_template:
        return template
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer) or template
    except ValueError:
        return template
