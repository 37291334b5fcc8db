"""The command that makes a model, written out: the options that differ from their defaults."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Final

import orjson

from siftune.finetune.models.loading import shown

__all__ = ["command_line"]

_OWN_FLAGS: Final = ("loss_options",)  # options of the loss are options of its command
_LEFT_OUT: Final = ("loss", "options", "cache")  # the command's name, `-o`, a place


def command_line(trainer: Any, command: str, rows: Path | str) -> str:
    """``siftune COMMAND ROWS --option VALUE ...``, but for ``--out``, which changes no result.

    Folders of the machine are shortened as in `loading.shown`.
    """
    words = ["siftune", *command.split(), shown(rows)]
    for field in fields(trainer):
        value = getattr(trainer, field.name)
        if value == _default(field) or value is None:
            continue
        if field.name in _OWN_FLAGS:
            for name, inner in value.items():
                words += _flag(name, inner)
        elif field.name == "options":
            for name, inner in value.items():
                words += ["-o", f"{name}={_text(inner)}"]
        elif field.name not in _LEFT_OUT:
            words += _flag(field.name, value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    pairs = value.items() if isinstance(value, Mapping) else ()
    for key, inner in pairs:
        yield from (flag, f"{key}={_text(inner)}")
    if not isinstance(value, Mapping):
        yield from (flag, _text(value))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return shown(value) if Path(value).is_absolute() else value
    return orjson.dumps(value).decode()


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
