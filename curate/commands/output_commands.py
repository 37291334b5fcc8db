"""Click commands that write: ``--out`` and ``--overwrite``, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import rich_click as click

from siftune.curate.commands.click_commands import GivenPath, HintingCommand
from siftune.curate.files.outputs import overwriting
from siftune.curate.files.source_spec import INPUTS, input_paths

__all__ = ["Check", "OutOption", "WritingCommand", "command_name"]

Check: TypeAlias = Callable[[Path, str, Sequence[Path]], None]
"""Refuses an output path that a command (its name, the paths it reads) may not write to."""


class OutOption(click.RichOption):
    """``--out`` of a `WritingCommand`; ``check`` is what `files.outputs` has for its kind."""

    def __init__(self, *args: Any, check: Check, **kwargs: Any) -> None:
        super().__init__(*(args or (["--out"],)), type=GivenPath(), **kwargs)
        self.check = check


class WritingCommand(HintingCommand):
    """A command with an `OutOption`: what it may not write to is refused before it is invoked."""

    def __init__(self, *args: Any, params: list[click.Parameter], **kwargs: Any) -> None:
        overwrite = click.RichOption(
            ["--overwrite"],
            is_flag=True,
            help="Replace what another siftune command wrote there, or a training with other "
            "options or data.",
        )
        super().__init__(*args, params=[*params, overwrite], **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Check the output path, then run the command."""
        with overwriting(ctx.params.pop("overwrite")):
            for option in self.params:
                if isinstance(option, OutOption) and (out := ctx.params[str(option.name)]):
                    option.check(out, command_name(), [*_inputs(ctx)])
            return super().invoke(ctx)


def command_name() -> str:
    """The command that is running, without ``siftune``: ``curate score length``."""
    names = [str(one.info_name) for one in _chain(click.get_current_context())]
    return " ".join(reversed(names[:-1]))


def _chain(ctx: click.Context | None) -> Iterator[click.Context]:
    while ctx is not None:
        yield ctx
        ctx = ctx.parent


def _inputs(ctx: click.Context) -> Iterator[Path]:
    """The paths among the arguments of a command and its groups, and the options in `INPUTS`."""
    for one in _chain(ctx):
        for param in one.command.params:
            name = str(param.name)
            if isinstance(param, click.Argument) or name in INPUTS:
                yield from input_paths({"source": one.params.get(name)})
