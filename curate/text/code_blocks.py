"""Fenced code blocks of Markdown: language, text, and whether the fence is closed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["CodeBlock", "code_blocks"]

_FENCE: Final = re.compile(r"[ \t]*(?:>[ \t]?)?[ \t]*(`{3,}|~{3,})(.*)")
_LANGUAGE: Final = re.compile(r"[\w+#.-]+")


class CodeBlock(NamedTuple):
    """A block; ``language`` is the first word after the fence, lower-cased, or empty."""

    language: str
    code: str
    closed: bool


def code_blocks(text: str) -> Iterator[CodeBlock]:
    r"""The fenced blocks of a text, in order, as CommonMark reads them.

    A fence is closed by one of the same character that is as long or longer; the last one may be
    open. The indentation of the opening fence is taken from the lines.

    >>> [tuple(block) for block in code_blocks("See:\n```Python\nx = 1\n```\nor\n~~~\ny")]
    [('python', 'x = 1', True), ('', 'y', False)]
    """
    fence, language, indent, lines = "", "", 0, list[str]()
    for line in text.splitlines():
        found = _FENCE.fullmatch(line)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                yield CodeBlock(language, "\n".join(lines), True)
                fence = ""
            else:
                blank = min(len(line) - len(line.lstrip(" \t")), indent)
                lines.append(line[blank:])
        elif found and "`" not in found[2]:
            named = _LANGUAGE.match(found[2].strip().strip("{").lstrip("."))
            fence, language = found[1], named[0].lower() if named else ""
            indent, lines = len(line) - len(line.lstrip(" \t")), []
    if fence:
        yield CodeBlock(language, "\n".join(lines), False)
