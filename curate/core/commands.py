"""Click commands made from components: a field is an option, the docstring is the help."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field
from typing import Any

import rich_click as click

from curate.core.errors import UsageError
from curate.core.registry import find, names, options, summary

__all__ = [
    "Components",
    "LazyGroup",
    "component_options",
    "help_of",
    "key_values",
    "listing",
    "parsed",
]


class LazyGroup(click.RichGroup):
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


class Components(click.RichGroup):
    """A group with one command for each component of a registry group.

    ``action(ctx, name, given)`` is called with the options that were set.
    """

    def __init__(
        self,
        *args: Any,
        components: str = "",
        action: Callable[[click.Context, str, dict[str, Any]], None] | None = None,
        only: Callable[[str], bool] = lambda name: True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._components = components
        self._action = action
        self._only = only

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the components; none of them is imported."""
        return [name for name in names(self._components) if self._only(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one component; its options are known once it is asked for help or run."""
        if cmd_name not in self.list_commands(ctx):
            return None
        if listing(ctx):
            return click.RichCommand(name=cmd_name, help=summary(self._components, cmd_name))
        return self._command(cmd_name)

    def _command(self, name: str) -> click.Command:
        component = find(self._components, name)

        def callback(**given: Any) -> None:
            if self._action is not None:
                self._action(_context(), name, parsed(component, given))

        return click.RichCommand(
            name=name,
            params=component_options(component),
            callback=callback,
            help=help_of(self._components, name, component),
        )


def component_options(component: type[Any], leave: Iterable[str] = ()) -> list[click.Parameter]:
    """A click option for each option of the component, but those named in ``leave``."""
    left = set(leave)
    fields = {name: field for name, field in options(component).items() if name not in left}
    return [_option(name, field) for name, field in fields.items()]


def parsed(component: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were set on the command line, as values."""
    known = options(component)
    return {
        name: _value(name, known[name], text)
        for name, text in given.items()
        if name in known and text is not None
    }


def key_values(pairs: Sequence[str]) -> dict[str, Any]:
    """``-o key=value`` options as a mapping, values read as YAML.

    >>> key_values(["fraction=0.1", "by=ifd"])
    {'fraction': 0.1, 'by': 'ifd'}
    """
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"-o {pair}: expected key=value")
        found[key] = yaml.safe_load(text)
    return found


def _context() -> click.Context:
    ctx: click.Context = click.get_current_context()  # type: ignore[assignment]
    return ctx


def listing(ctx: click.Context) -> bool:
    """Whether the group's own help is being shown, for which names and summaries are enough."""
    asked: list[str] = ctx.args + getattr(ctx, "_protected_args", [])
    return not asked and ctx.invoked_subcommand is None


def _option(name: str, field: Field[Any]) -> click.Option:
    required = field.default is MISSING and field.default_factory is MISSING
    default = "" if required else f"  [default: {_shown(field)}]"
    return click.Option(
        [f"--{name.replace('_', '-')}", name],
        default=None,
        required=required,
        metavar=str(field.type).upper().replace(" | NONE", ""),
        help=default.strip(),
    )


def _shown(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return "none" if field.default is None else field.default
    return "" if field.default_factory is MISSING else field.default_factory()


def _value(name: str, field: Field[Any], text: str) -> Any:
    """Text stays text where the option is text; anything else is read as YAML."""
    import yaml

    if str(field.type) in ("str", "str | None"):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--{name.replace('_', '-')}: cannot read {text!r}") from None
    if isinstance(value, str) and any(
        word in str(field.type) for word in ("tuple", "list", "Sequence")
    ):
        return [part.strip() for part in value.split(",")]
    return value


def help_of(group: str, name: str, component: type[Any]) -> str:
    """Summary and class docstring as click shows them: reflowed, examples left out."""
    doc = f"{summary(group, name)}\n\n{inspect.cleandoc(component.__doc__ or '')}"
    return "\n\n".join(part for part in doc.split("\n\n") if not part.lstrip().startswith(">>>"))
