"""What the API holds for this process: a temporary folder, progress lines, errors for Python."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.errors import SiftuneError
from siftune.curate.core.progress import (
    NoProgress,
    Progress,
    ProgressReporter,
    hiding_lines,
    no_kernel_note,
)
from siftune.curate.core.terminal import reworded
from siftune.curate.files.source_spec import in_python

__all__ = [
    "Scratch",
    "as_option",
    "as_options",
    "python_errors",
    "reporter",
    "scratch",
    "show_progress",
    "without_scratch",
]

no_kernel_note()  # a note of a library on a kernel that nothing here uses
_numbers = count(1)
_reporter: list[ProgressReporter] = [NoProgress()]
_OPTION: Final = re.compile(r"set (\w+): VALUE in the recipe, or -o [\w.-]+=VALUE")
_ARGUMENTS: Final = {"as": "shape", "with": "columns"}
"""Arguments of `siftune.Rows.export` that are named otherwise than options of the command."""
_FLAG: Final = re.compile(r"(?<![\w/.-])--([a-z][a-z0-9-]*)(?![\w-])( (?=VALUE|[0-9{]))?")
_MAPPING: Final = re.compile(r"--([a-z-]+) '\{(\w+): ([^}]*)\}'")
"""An option whose value is a mapping."""
_PASSED_ON: Final = re.compile(r"(?<![\w/.-])-o (\w+)=VALUE")
"""An argument of the trainer that a method uses."""
_METHOD: Final = re.compile(r"(?<![`\w])siftune finetune (\w+)( ROWS)?")
_NUMBERED: Final = re.compile(r"(\.py|\bpython)#\d+(?=:)")
"""Where `register` numbers functions of one name."""
_OVERRIDE: Final = re.compile(r"(?<![\w/.-])-o (?=[\w.]+=)")


def show_progress(on: bool = True) -> None:
    """Print what stages and trainings do, and how far they are, to standard error; off at first."""
    _reporter[0] = Progress() if on else NoProgress()


def reporter() -> ProgressReporter:
    """Where stages report how far they are."""
    return _reporter[0]


class Scratch:
    """A temporary folder that lives as long as this object, at most as long as the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)


def scratch() -> Scratch:
    """A new temporary folder."""
    path = session() / str(next(_numbers))
    path.mkdir()
    return Scratch(path)


@cache
def session() -> Path:
    """The temporary folder of this process, which is removed when it ends."""
    path, owner = Path(tempfile.mkdtemp(prefix="siftune-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked child has the folder of its parent
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return path


@contextmanager
def python_errors() -> Iterator[None]:
    """Let errors and messages inside name arguments of functions in place of options of commands.

    Lines of progress are printed as `show_progress` sets it.
    """
    try:
        with in_python(), reworded(_spelled), hiding_lines(isinstance(reporter(), NoProgress)):
            yield
    except SiftuneError as error:
        error.args = (_spelled(str(error)),)  # in place: an error may be made of more than a text
        raise error.with_traceback(None) from error.__cause__


def _spelled(text: str) -> str:
    """An error's text with the arguments of functions, and without temporary folders.

    >>> _spelled("name another --out, or add --overwrite to replace it")
    'name another out=, or add overwrite=True to replace it'
    >>> _spelled("top_k needs the option 'by': set by: VALUE in the recipe, or -o a.1.by=VALUE")
    "top_k needs the option 'by': by=VALUE"
    >>> _spelled("ppo needs the option 'reward': --reward VALUE")
    "ppo needs the option 'reward': reward=VALUE"
    >>> _spelled("no answer has ended (--max-new-tokens 16, --count 4); raise --count")
    'no answer has ended (max_new_tokens=16, count=4); raise count='
    >>> _spelled("no file models--org--name: give -o source=FILE")
    'no file models--org--name: give source=FILE'
    >>> _spelled("set it with --reward-options '{text: VALUE}'")
    'set it with reward_options={"text": VALUE}'
    >>> _spelled("given as -o warmup_steps=VALUE; --save_steps of another library stays")
    'given as options={"warmup_steps": VALUE}; --save_steps of another library stays'
    >>> _spelled("mine.py#2:lambda: line 3: no such word")
    'mine.py:lambda: line 3: no such word'
    >>> _spelled("the first argument: siftune finetune dpo ROWS")
    'the first argument: siftune.train.dpo(ROWS)'
    """
    text = _MAPPING.sub(r'--\1 {"\2": \3}', _NUMBERED.sub(r"\1", without_scratch(text)))
    text = _OPTION.sub(r"\1=VALUE", text).replace("--overwrite", "overwrite=True")
    text = _PASSED_ON.sub(r'options={"\1": VALUE}', text)
    text = _METHOD.sub(lambda found: f"siftune.train.{found[1]}{'(ROWS)' * bool(found[2])}", text)
    text = _OVERRIDE.sub("", text.replace("`siftune curate ingest`", "`siftune.read`"))
    return _FLAG.sub(lambda found: f"{_ARGUMENTS.get(found[1], found[1].replace('-', '_'))}=", text)


def without_scratch(text: str) -> str:
    """A text without the temporary folders of this process."""
    return re.sub(f"{re.escape(str(session()))}/[0-9]+/(source/)?", "", text)


def as_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of functions as options of components: paths, rows and models as texts.

    An option that is left at None is not set.
    """
    return {key: as_option(value) for key, value in given.items() if value is not None}


def as_option(value: Any) -> Any:
    """One argument of a function as the value of an option; see `as_options`."""
    for name in ("folder", "model"):  # of rows, and of what a training leaves
        inner = getattr(value, name, None)
        if isinstance(inner, Path):
            return str(inner)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return value.item()  # a number of numpy
    return os.fspath(value) if isinstance(value, os.PathLike) else value
