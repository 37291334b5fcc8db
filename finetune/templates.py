"""Chat templates that mark what the assistant says, so that only that is trained on."""

from __future__ import annotations

from typing import Final

__all__ = ["CHATML", "CONTROL", "ENCODER", "THINK", "marks_generation"]

CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
"""Control tokens of the models that `finetune.init` makes, in the order of their ids."""

THINK: Final = ("<think>", "</think>")
"""Tokens that an assistant may write like any other; nobody else's text becomes one."""

CHATML: Final = (
    "{%- for message in messages %}"
    "{%- if message['role'] == 'assistant' %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{% generation %}{{- message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{{- '\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""ChatML: each turn is ``<|im_start|>role\\ncontent<|im_end|>\\n``."""

ENCODER: Final = (
    "{{- cls_token }}{%- for message in messages %}"
    "{{- message['content'] + sep_token }}"
    "{%- endfor %}"
)
"""How an encoder that knows no chats reads one: its separator after each turn."""


def marks_generation(template: str) -> bool:
    """Whether a template says which of its text the assistant wrote.

    >>> marks_generation(CHATML)
    True
    """
    return "endgeneration" in template
