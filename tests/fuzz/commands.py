"""A command run in this process: its exit code, what it printed, and what is wrong with that."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest import mock

from siftune.pipelines.cli import _run

__all__ = ["CODES", "Done", "called", "half_written", "shown"]

CODES = frozenset({0, 1, 2, 3, 4})
"""What `siftune --help` documents, but for a run that is stopped."""


_LIST: Final = re.compile(r"siftune: (?:.*: )?(\d+) problems:$")
"""The first line of several problems that are told at once (`errors.raise_all`)."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The last line of standard error; of a list of problems, all its lines."""
        lines = self.err.strip().splitlines()
        heads = (
            at
            for at, line in enumerate(lines)
            if (told := _LIST.match(line)) is not None
            and all(one.startswith("  ") for one in lines[at + 1 :])
            and int(told[1]) == len(lines) - at - 1
        )
        return "\n".join(lines[next(heads, -1) :])

    def problem(self) -> str | None:
        """What breaks the contract of the command line; None where nothing does."""
        if self.code not in CODES:
            return f"exit code {self.code}"
        if "Traceback" in self.err or "please report it" in self.message:
            return f"not a line for a user: {self.message}"
        if self.code in (1, 2, 3) and not self.message.startswith("siftune: "):
            return f"exit code {self.code} without a line: {self.message!r}"
        if self.code in (2, 3) and self.out:
            return f"exit code {self.code}, but there is output"
        if any(ord(sign) < 32 and sign not in "\n\t" for sign in self.err + self.out):
            return "control characters are printed"
        return None


def called(*words: object) -> Done:
    """``siftune WORDS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["siftune", *map(str, words)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", argv))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        code = _run()
    return Done(code, out.getvalue(), err.getvalue())


def half_written(folder: Path) -> Iterator[Path]:
    """Files that a command had begun to write when it ended."""
    return folder.rglob(".*.part")


def shown(words: Sequence[object]) -> str:
    """The words of a command, for a message; long ones are cut off."""
    return " ".join(repr(str(word)[:60]) for word in words)
