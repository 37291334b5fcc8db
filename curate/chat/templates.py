"""Chat templates that mark what the assistant says, so that only that is trained on."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CHATML", "CONTROL", "ENCODER", "THINK", "marks_generation"]

CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
"""Control tokens of the models that `tools.init` makes, in the order of their ids."""

THINK: Final = ("<think>", "</think>")
"""Tokens that an assistant may write like any other; nobody else's text becomes one."""

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
