"""Click commands made from components: a field is an option, the docstring is the help."""

from __future__ import annotations

import importlib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import rich_click as click

from siftune.curate.commands.option_help import option_texts, short_prose
from siftune.curate.commands.option_types import is_repeated, metavar_of, value_of
from siftune.curate.core.custom_file import is_custom
from siftune.curate.core.errors import UsageError
from siftune.curate.core.option_values import is_required
from siftune.curate.core.ranges import types_of, types_with_ranges, within_of
from siftune.curate.core.registry import (
    closest,
    described,
    find,
    long_name,
    names,
    options,
    summary,
)
from siftune.curate.files.atomic import is_name

__all__ = [
    "ComponentGroup",
    "Components",
    "GivenPath",
    "HintingCommand",
    "HintingGroup",
    "LazyGroup",
    "component_options",
    "example_line",
    "help_of",
    "parsed",
]

_EXAMPLES: Final = {
    "against": "test.jsonl",
    "by": "length_words",
    "fraction": "0.1",
    "group_by": "source",
    "min": "10",
    "model": "smollm2",
    "reward": "exact_match",
    "rows": "1000",
}
"""Values of options in the example of a command; a component may have its own, in ``example``."""
_LARGEST: Final = re.compile(r", at most [\d,]{10,}")
"""The bound of a number that is what a computer holds, which tells a user nothing."""


class GivenPath(click.Path):
    """A path that a user gives: refused where it is empty or cannot be the name of a file."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; `is_name` has what is refused."""
        if not is_name(os.fspath(value)):
            self.fail(f"{value!r} cannot be the name of a file or folder", param, ctx)
        return super().convert(value, param, ctx)


class HintingGroup(click.RichGroup):
    """A group that names the closest of its commands to one that is not there.

    ``instead`` gives the advice on a name where it has one.
    """

    instead: Callable[[str], str | None] = staticmethod(lambda name: None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called.

        Raises:
            UsageError: there is none of that name.
        """
        known = tuple(self.list_commands(ctx))
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = closest(args[0], known)
            hint = self.instead(args[0]) or (
                near if near.startswith("did you") else f"see {ctx.command_path} --help"
            )
            raise UsageError(f"no command {args[0]!r} in {ctx.command_path}; {hint}")
        return super().resolve_command(ctx, args)


class HintingCommand(click.RichCommand):
    """A command that names the option to give in place of one that it does not have.

    ``instead`` gives the advice on a name, as a sentence without a capital, where it has one.
    """

    instead: Callable[[str], str | None] = staticmethod(lambda name: None)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words after the command.

        Raises:
            UsageError: an option is unknown that is known by another name, or lacks its value.
        """
        self._refuse_without_value(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip("-").replace("-", "_")
            flags = [flag for param in self.params for flag in param.opts]
            ours = _flag(name)
            advice = f"did you mean {ours}?" if ours in flags else self.instead(name)
            if advice is None:
                raise
            raise UsageError(
                f"no option {error.option_name} in {ctx.command_path}; {advice}"
            ) from None

    def _refuse_without_value(self, args: Sequence[str]) -> None:
        """Refuse an option that is followed by another one, which would be its value."""
        flags = {flag: one for one in self.params for flag in one.opts if flag.startswith("--")}
        for word, after in pairwise(args):
            option = flags.get(word)
            valued = isinstance(option, click.Option) and not option.is_flag
            if option is not None and valued and after in flags:
                kind = str(option.metavar or "a value").replace("true|false", "true or false")
                raise UsageError(f"{word} needs {kind}, and {after} follows it")


class LazyGroup(HintingGroup):
    """A group whose commands live in modules that are imported when one is asked for."""

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order they were given."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that holds the command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class ComponentGroup(HintingGroup):
    """A group whose commands are components: listed by their summaries, made when one is called.

    A subclass gives ``place`` (registry group and name of a command) and ``make``.
    """

    def place(self, command: str) -> tuple[str, str] | None:
        """Registry group and component name of a command; None if it is no component's."""
        raise LookupError(command)

    def make(self, command: str) -> click.Command:
        """The command with its options; the component is imported when it is run."""
        raise LookupError(command)

    def sections(self) -> Iterable[tuple[str, Sequence[str]]]:
        """Titles and commands of the parts of the help; with none, all commands are one list."""
        return ()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, its commands in `sections`."""
        titles = self.sections()
        self.panels = [click.RichCommandPanel(title, [*listed]) for title, listed in titles]
        super().format_help(ctx, formatter)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """What a list of commands needs: the name and the summary, nothing imported."""
        at = self.place(cmd_name)
        if at is None:
            return super().get_command(ctx, cmd_name)
        return click.RichCommand(name=cmd_name, help=summary(*at))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called, with its options."""
        if self.place(args[0]) is None:
            return super().resolve_command(ctx, args)
        return args[0], self.make(args[0]), args[1:]


_Action: TypeAlias = Callable[[click.Context, str, dict[str, Any], dict[str, Any]], None]


class Components(ComponentGroup):
    """A group with one command for each component of a registry group.

    ``output`` is the sentence on input and output in the help of each, ``noun`` the word for one.

    ``action(ctx, name, own, given)`` is called with the component's options that were set, and with
    the values of the ``common`` options, which every one of the commands has.
    """

    def __init__(
        self,
        *args: Any,
        components: str,
        action: _Action,
        only: Callable[[str], bool] = lambda name: True,
        common: Callable[[], list[click.Parameter]] = list,
        output: str = "",
        noun: str = "component",
        command_class: type[HintingCommand] = HintingCommand,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._components = components
        self._action = action
        self._only = only
        self._common = common
        self._output = output
        self._noun = noun
        self._command_class = command_class

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take a component and ``--help`` among the words for its help, wherever the rows are."""
        if any(word in ctx.help_option_names for word in args):
            component = next((word for word in (*args[1:2], *args) if self.place(word)), None)
            if component is not None:
                args = ["ROWS", component, "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called.

        Raises:
            UsageError: there is none of that name, such as where rows and command are exchanged.
        """
        rows = str(ctx.params.get("rows"))
        if args[0].startswith("-") and not {*ctx.help_option_names} & {*args}:
            listed = ", ".join(self.list_commands(ctx))
            raise UsageError(
                f"name a {self._noun} after the rows, before the options: {ctx.command_path} "
                f"{shlex.quote(rows)} NAME; there are: {listed}"
            )
        if self.place(rows) and not self.place(args[0]) and not ctx.resilient_parsing:
            words = shlex.join([args[0], rows])
            raise UsageError(f"the rows come first: {ctx.command_path} {words}")
        return super().resolve_command(ctx, [long_name(self._components, args[0]), *args[1:]])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the components; none of them is imported."""
        return [name for name in names(self._components) if self._only(name)]

    def place(self, command: str) -> tuple[str, str] | None:
        """The component of the same name, or a user's own: ``FILE.py:NAME``."""
        whole = long_name(self._components, command)
        ours = whole in names(self._components) and self._only(whole)
        return (self._components, whole) if ours or is_custom(command) else None

    def make(self, command: str) -> click.Command:
        """The command of one component: its own options, then the common ones."""
        component = described(self._components, command)
        common = self._common()
        shared = {str(option.name) for option in common}
        if is_custom(command):
            _refuse_clash(command, component, common)

        def callback(**given: Any) -> None:
            rest = {key: given.pop(key) for key in shared}
            found = find(self._components, command)
            self._action(_context(), command, parsed(found, given), rest)

        shown = example_line(f"siftune curate {self.name} rows.jsonl {command}", component)
        made = self._command_class(
            name=command,
            params=[*component_options(component, shared), *common],
            callback=callback,
            help="\n\n".join([help_of(self._components, command, component), self._output, shown]),
        )
        renamed = dict(getattr(component, "renamed", ()))
        made.instead = lambda name: (
            f"did you mean {_flag(renamed[name])}?" if name in renamed else None
        )
        return made


def _refuse_clash(command: str, component: type[Any], common: Iterable[click.Parameter]) -> None:
    """Refuse an option of a user's own that the command has, too; the seed is meant for both."""
    flags = {flag for option in common if option.name != "seed" for flag in option.opts}
    for name in options(component):
        if _flag(name) in flags:
            raise UsageError(
                f"{command}: {_flag(name)} is an option of the command: name the parameter "
                f"{name!r} otherwise, or use it in a recipe"
            )


def component_options(
    component: type[Any], leave: Iterable[str] = (), texts: Mapping[str, str] | None = None
) -> list[click.Parameter]:
    """A click option for each option of the component, but those named in ``leave``.

    ``texts`` are the help of options that components share (`commands.option_help`).
    """
    left = set(leave)
    fields = {name: field for name, field in options(component).items() if name not in left}
    hints = types_with_ranges(component)
    helps = option_texts(component, texts)
    return [
        _option(name, field, hints[name], helps.get(name, "")) for name, field in fields.items()
    ]


def parsed(component: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were set on the command line, as values."""
    known = options(component)
    hints = types_of(component)
    return {
        name: value_of(_flag(name), hints[name], text)
        for name, text in given.items()
        if name in known and text not in (None, ())
    }


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _context() -> click.Context:
    ctx: click.Context = click.get_current_context()  # type: ignore[assignment]
    return ctx


def _option(name: str, field: Field[Any], hint: Any, text: str) -> click.Option:
    required = is_required(field)
    notes = [] if required or _shown(field) == "" else [f"default: {_shown(field)}"]
    ranges = {_LARGEST.sub("", str(allowed)): None for allowed in within_of(hint)}
    notes += [] if name == "seed" else ranges
    return click.Option(
        [_flag(name), name],
        default=None,
        required=required,
        multiple=is_repeated(hint),
        metavar=metavar_of(hint),
        help=" ".join([text, *([f"[{'; '.join(notes)}]"] if notes else [])]).strip(),
    )


def _shown(field: Field[Any]) -> Any:
    value = field.default
    if value is MISSING and field.default_factory is not MISSING:
        value = field.default_factory()
    if value is None or value == () or value == {}:
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    return str(value).lower() if isinstance(value, bool) else value


def help_of(group: str, name: str, component: type[Any]) -> str:
    """Summary, and the start of the class docstring, for the top of a command's help."""
    first, prose = summary(group, name), short_prose(component.__doc__ or "")
    return prose if prose.startswith(first) else f"{first}\n\n{prose}"


def example_line(words: str, component: type[Any], out: str = "run") -> str:
    """``Example: siftune ...``: a command with a value for each option that it needs.

    A component names in ``one_of`` options of which it needs one, the usual one first.
    """
    known = options(component)
    needed = [name for name, field in known.items() if is_required(field)]
    needed += getattr(component, "one_of", ())[:1]
    values = _EXAMPLES | dict(getattr(component, "example", ()))
    given = [f"{_flag(name)} {values.get(name, 'VALUE')}" for name in needed]
    return " ".join(["Example:", words, *given, *([f"--out {out}"] if out else [])])
