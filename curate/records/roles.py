"""Roles of turns: the names that data sets use, and the four that a row has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from siftune.curate.core.errors import BadRow

__all__ = ["ROLES", "is_call_role", "role_of"]

ROLES: Final[Mapping[str, str]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "person": "user",
    "customer": "user",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "chatgpt": "assistant",
    "gpt4": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "environment": "tool",
    "ipython": "tool",
    "tool_result": "tool",
    "function_result": "tool",
    "question": "user",
    "query": "user",
    "instruction": "user",
    "answer": "assistant",
    "response": "assistant",
    "llm": "assistant",
}
"""Raw role, in small letters, to role of a row. Compiled readers try them in this order."""

_CALL_ROLES: Final = frozenset({"function_call", "tool_call"})


def role_of(role: Any) -> str:
    """The role of a row that a raw role stands for, in any letter case.

    >>> role_of("Human"), role_of("tool-response")
    ('user', 'tool')

    Raises:
        BadRow: it is not known.
    """
    known = ROLES.get(role) if type(role) is str else None
    if known is None:
        known = ROLES.get(_folded(role))
    if known is None:
        raise BadRow(
            "unknown_role",
            f"role {_shown(role)}; expected system, user, assistant, tool or a usual name of one "
            "(human, gpt, observation, ...)",
        )
    return known


def is_call_role(role: Any) -> bool:
    """Whether turns of this role have the JSON of a tool call as content.

    >>> is_call_role("function_call"), is_call_role("tool")
    (True, False)
    """
    return _folded(role) in _CALL_ROLES


def _folded(role: Any) -> str:
    return role.strip().lower().replace("-", "_").replace(" ", "_") if type(role) is str else ""


def _shown(role: Any) -> str:
    text = repr(role)
    return text if len(text) <= 40 else f"{text[:39]}…"
