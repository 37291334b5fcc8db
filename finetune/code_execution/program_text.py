"""The program in a completion: its fenced block of Python, or all of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from siftune.curate.text.answer_match import after_thinking

__all__ = ["program_in"]

_PYTHON: Final = ("", "py", "py3", "python", "python3")
_IMPORT: Final = re.compile(
    r"from (\w+)[\w.]* import (?:\*|\w+(?: as \w+)?(?:, \w+(?: as \w+)?)*)"
    r"|import (\w+)(?:\.\w+)*(?: as \w+)?"
)
_FENCE: Final = re.compile(r" {0,3}(```+|~~~+)[ \t]*([^\s`]*)")


def program_in(completion: str, prompt: str = "", names: Sequence[str] = ()) -> str:
    r"""The program in a completion; what it thinks before ``</think>`` is no part of it.

    Of several fenced blocks the last that defines one of ``names``, else the last. A completion
    that defines none, to a prompt that does, goes on with the prompt, as in HumanEval. One that
    does begins with the imports of that prompt, or of ``typing`` where it is a ``class Solution``.

    >>> program_in("So:\n```python\nx = 1\n```\nDone.")
    'x = 1'
    """
    answer = after_thinking(completion)
    blocks = list(_blocks(answer)) or [answer]
    defining = [block for block in blocks if _defines(block, names)]
    if names and not defining and _defines(prompt, names):
        start = next((one for one in _blocks(prompt) if _defines(one, names)), prompt)
        body = blocks[-1] if len(blocks) == 1 else answer
        return f"{start.rstrip()}\n{body}" if body[:1].isspace() else start + body
    program = (defining or blocks)[-1]
    if not defining or "from __future__" in program:
        return program
    lines = list(_imports(prompt)) if _defines(prompt, names) else []
    if re.search(r"^class Solution\b", program, re.MULTILINE):
        lines.insert(0, "from typing import *")
    return "\n".join([*lines, program])


def _imports(text: str) -> Iterator[str]:
    """Lines of a text that import from the standard library."""
    for line in text.split("\n"):
        found = _IMPORT.fullmatch(line.rstrip())
        if found and (found[1] or found[2]) in sys.stdlib_module_names - {"__future__"}:
            yield line.rstrip()


def _defines(text: str, names: Sequence[str]) -> bool:
    listed = "|".join(map(re.escape, names))
    pattern = rf"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+(?:{listed})\b|^(?:{listed})[ \t]*="
    return bool(names) and re.search(pattern, text, re.MULTILINE) is not None


def _blocks(text: str) -> Iterator[str]:
    """Fenced blocks of Python, or of no language; one that is not closed ends with the text."""
    lines: list[str] = []
    fence, is_python = "", False
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence and mark and mark[1].startswith(fence) and not mark[2]:
            if is_python:
                yield "\n".join(lines)
            fence = ""
        elif fence:
            lines.append(line)
        elif mark:
            fence, is_python, lines = mark[1], mark[2].lower() in _PYTHON, []
    if fence and is_python:
        yield "\n".join(lines)
