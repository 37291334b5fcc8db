"""``siftune curate methods``: presets, scorers and selectors, with paper, needs, cost and limits.

Nothing is listed by hand: a preset is described by the header of its recipe, a component by its own
docstring, options and class variables. So a new file needs no other edit.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field
from functools import cache
from inspect import cleandoc
from typing import Any, Final, TypeAlias

import rich_click as click

from siftune.curate.commands.click_commands import HintingCommand
from siftune.curate.commands.option_help import prose_of
from siftune.curate.core import registry
from siftune.curate.core.errors import UsageError
from siftune.curate.core.markdown import table
from siftune.curate.core.option_values import is_required
from siftune.curate.core.terminal import echo, echo_json
from siftune.curate.files.packaged_recipes import PRESETS

__all__ = ["component_facts", "methods"]

_Methods: TypeAlias = dict[str, dict[str, dict[str, str]]]
_GROUPS: Final = {"scorers": "curate.scorers", "selectors": "curate.selectors"}
_COLUMNS: Final = ("paper", "data", "needs", "cost", "not for")
_PAPER: Final = re.compile(r"arXiv:\d{4}\.\d{4,5}")
_NOT_FOR: Final = re.compile(r"(?ms)^Not for (.*?)(?:\n\n|\Z)")
_OF_PAIRS: Final = re.compile(r"(?i)\bpairs?\b|\brejected\b|\breward gap\b")
_NAMED: Final = {
    "against": "target rows (against)",
    "by": "a score (by)",
    "judge": "a judge",
}


@click.command(cls=HintingCommand)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
@click.option("--table", "as_table", is_flag=True, help="Print a table in Markdown.")
@click.option("--recipe", is_flag=True, help="Print the recipe of the preset NAME, to be edited.")
def methods(name: str | None, as_json: bool, as_table: bool, recipe: bool) -> None:
    """List presets, scorers and selectors with paper, data, needs, cost, and what they are not for.

    NAME shows one in full. A preset is a recipe: siftune curate run deita ROWS --out runs/deita
    """
    if recipe:
        if name is None:
            raise UsageError("--recipe prints one preset: name it, as in `methods deita --recipe`")
        echo(PRESETS.text(name))
        return
    found = _methods()
    if name is not None:
        found = _only(found, name)
    if as_json:
        echo_json(found)
    elif as_table:
        echo(_markdown(found))
    elif name is not None:
        echo("\n".join(_in_full(found)))
    else:
        echo("\n".join(_overview(found)))


def _methods() -> _Methods:
    presets = {"presets": PRESETS.headers}
    return presets | {
        kind: {name: component_facts(group, name) for name in registry.usable(group)}
        for kind, group in _GROUPS.items()
    }


def _only(found: _Methods, name: str) -> _Methods:
    """What has that name; a scorer and a selector may share one."""
    named = {kind: {name: listed[name]} for kind, listed in found.items() if name in listed}
    if not named:
        every = tuple(sorted({one for listed in found.values() for one in listed}))
        near = registry.closest(name, every)
        hint = near if near.startswith("did you") else "siftune curate methods lists them"
        raise UsageError(f"no preset, scorer or selector is called {name!r}; {hint}")
    return named


def component_facts(group: str, name: str) -> dict[str, str]:
    """What a component's file has about itself; a fact that it lacks is left out."""
    component = registry.described(group, name)
    declared = registry.declared(group, name)
    does = registry.summary(group, name)
    doc = cleandoc(component.__doc__ or "")
    limits = _NOT_FOR.search(prose_of(doc))
    facts = {
        "does": does,
        "paper": ", ".join(dict.fromkeys(_PAPER.findall(f"{_module_doc(group, name)}\n{doc}"))),
        "data": str(declared.get("data") or _data(group, declared, does)),
        "needs": ", ".join(_needs(group, name, component, declared)) or "nothing",
        "cost": str(declared.get("cost") or _cost(component, declared)),
        "not for": " ".join(limits[1].split()) if limits else "",
    }
    return {key: text for key, text in facts.items() if text}


def _module_doc(group: str, name: str) -> str:
    return ast.get_docstring(ast.parse(_text(group, name))) or ""


def _text(group: str, name: str) -> str:
    source = registry.source_of(group, name)
    return source.read_text(encoding="utf-8") if source.is_file() else ""


def _data(group: str, declared: Mapping[str, Any], does: str) -> str:
    """The kind of rows, by the columns that are read and by the summary."""
    content = declared.get("content") or declared.get("needs") or ()
    if "completions" in content:
        return "ranked lists"
    if "chosen" in content or ("messages" not in content and _OF_PAIRS.search(does)):
        return "preference pairs"
    if group == "curate.selectors":
        return "rows of any kind"
    return "conversations, each answer of pairs and lists"


def _needs(
    group: str, name: str, component: type[Any], declared: Mapping[str, Any]
) -> Iterator[str]:
    """What is to be there or to be set: models, judges, columns, options without a default."""
    for option, field in registry.options(component).items():
        if option == "model":
            yield _model(field)
        elif is_required(field):
            yield _NAMED.get(option, f"the option {option}")
    needs = declared.get("needs")  # literally, or a property that reads options
    columns = _columns(group, name, component) if needs is None else needs
    made = [one for one in columns if one not in _of_all_rows()]
    if made:
        yield f"the column{'s' * (len(made) > 1)} {', '.join(made)}"
    one_of = getattr(component, "one_of", ())
    if one_of:
        yield f"one of {', '.join(one_of)}"


def _model(field: Field[Any]) -> str:
    if isinstance(field.default, str):
        return f"a model (default {field.default})"
    return "a model (model)" if is_required(field) else "a model (default: the packaged one)"


def _columns(group: str, name: str, component: type[Any]) -> Iterable[str]:
    """The columns that a component with default options reads, none where all are options.

    A scorer without ``needs`` in its own file is not imported: those that inherit it train models.
    """
    if group == "curate.scorers" and "def needs(" not in _text(group, name):
        return ()
    needed = [key for key, field in registry.options(component).items() if is_required(field)]
    given = {
        **dict.fromkeys(needed, "id"),
        **dict.fromkeys(getattr(component, "one_of", ())[:1], 1),
    }
    try:
        made = registry.build(group, name, given)
    except UsageError:  # an option without a default is no column
        return ()
    return tuple(getattr(made, "needs", ()))


def _cost(component: type[Any], declared: Mapping[str, Any]) -> str:
    known = registry.options(component)
    if "in_flight" in known:
        return "calls of a judge for every row"
    if "model" in known:
        return "passes of a model over every row"
    unit = "CPU or GPU" if "device" in known else "CPU"
    return f"{unit}, all rows at once" if declared.get("whole") else f"{unit}, no model"


def _overview(found: _Methods) -> Iterator[str]:
    for kind, listed in found.items():
        yield kind
        width = max(map(len, listed), default=0)
        for name, facts in listed.items():
            yield f"  {name:<{width}}  {facts['does']}"
            known = {key: facts[key] for key in _COLUMNS[:-1] if key in facts}
            known["needs"] = f"needs {facts['needs']}"
            yield f"  {'':<{width}}  {'; '.join(known.values())}"
    yield "siftune curate methods NAME shows one in full, --table all as a table"


def _in_full(found: _Methods) -> Iterator[str]:
    for kind, listed in found.items():
        for name, facts in listed.items():
            yield f"{name} ({kind.removesuffix('s')}): {facts['does']}"
            yield from (f"  {key}: {text}" for key, text in facts.items() if key != "does")


def _markdown(found: _Methods) -> str:
    return table(
        ("name", "is a", "does", *_COLUMNS),
        (
            (name, kind.removesuffix("s"), facts["does"], *(facts.get(key, "") for key in _COLUMNS))
            for kind, listed in found.items()
            for name, facts in listed.items()
        ),
    )


@cache
def _of_all_rows() -> frozenset[str]:
    """Columns that no stage has to add."""
    from siftune.curate.core.schema import BASE, CONTENT, SOME  # polars, which help does without

    return frozenset({"*", "content", *BASE}.union(*CONTENT.values(), *SOME.values()))
