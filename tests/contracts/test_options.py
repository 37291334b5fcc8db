"""Every option of every component: a value of each of its types is read from the command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import rich_click as click
from pydantic import TypeAdapter

from siftune.curate.commands.click_commands import component_options, parsed
from siftune.curate.commands.option_help import option_texts
from siftune.curate.commands.option_types import value_of
from siftune.curate.core import registry
from siftune.finetune.core.methods import FAMILIES, JUDGE, TOOLS
from siftune.finetune.option_texts import OPTION_TEXTS
from tests.fuzz.options import commands

GROUPS = (
    *("curate.scorers", "curate.selectors", "finetune.trainers", "finetune.rewards", *FAMILIES),
    *("finetune.advantages", "finetune.policy_losses"),
)
COMPONENTS = [
    *((group, name) for group in GROUPS for name in registry.names(group)),
    *TOOLS.values(),
    JUDGE,
]
JUDGES = [
    (group, name)
    for group in ("curate.judges", "curate.judge_tasks")
    for name in registry.names(group)
]
COMMANDS = [
    (words, command)
    for words, command in commands()
    if words[0] == "finetune"
    or words[:2] in {("curate", one) for one in ("score", "select", "dedup")}
]
PLAIN: dict[Any, tuple[str, Any]] = {
    str: ("5", "5"),
    bool: ("true", True),
    int: ("1", 1),
    float: ("0.5", 0.5),
    Any: ("word", "word"),
}


def examples(hint: Any) -> Iterator[tuple[str, Any]]:
    """What a user writes for each of the types of a hint, and the value that it is."""
    inner = [one for one in get_args(hint) if one not in (NoneType, Ellipsis)]
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        for one in inner:
            yield from examples(one)
    elif origin is Annotated:
        yield from examples(inner[0])
    elif origin is Literal:
        yield from ((str(word), word) for word in inner)
    elif hint in PLAIN:
        yield PLAIN[hint]
    elif hint is not NoneType:
        kind = TypeAdapter(hint).core_schema["type"]
        for text, value in examples(inner[-1]):
            if kind == "dict" or (isinstance(origin, type) and issubclass(origin, Mapping)):
                text = json.dumps(value) if isinstance(value, str) else text
                yield f"{{one: {text}, two: {text}}}", {"one": value, "two": value}
            else:
                yield f"{text},{text}", [value, value]


def click_command(component: type[Any]) -> Callable[[Sequence[str]], dict[str, Any]]:
    command = click.Command(
        "one", params=component_options(component), callback=lambda **given: given
    )
    return lambda words: parsed(component, command.main(words, standalone_mode=False))


@cache
def adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_value_of_each_type_of_each_option_is_read(group: str, name: str) -> None:
    component = registry.find(group, name)
    run = click_command(component)
    hints = get_type_hints(component)
    tried = {key: list(examples(hints[key])) for key in registry.options(component)}
    for turn in range(max(map(len, tried.values()), default=0)):
        chosen = {key: listed[min(turn, len(listed) - 1)] for key, listed in tried.items()}
        words = [
            w for key, (text, _) in chosen.items() for w in (f"--{key.replace('_', '-')}", text)
        ]
        for key, value in run(words).items():
            assert value == chosen[key][1], key
            assert plain(adapter(hints[key]).validate_python(value)) == value, key


@pytest.mark.parametrize(("group", "name"), [*COMPONENTS, *JUDGES])
def test_each_option_has_one_sentence(group: str, name: str) -> None:
    component = registry.find(group, name)
    shared = OPTION_TEXTS if group.startswith("finetune") else None
    texts = option_texts(component, shared)
    for option in registry.options(component):
        text = texts.get(option, "")
        assert re.fullmatch(r"[A-ZΑ-Ωλ`Kβ].{14,220}\.", text), f"{name}.{option}: {text!r}"
        assert not re.search(r"[.!?] [A-Z]|``", text.replace("e.g. ", "")), text
        assert not re.search(r"\b(told|said|stand|stands|goes|heard)\b", text), text


def test_each_option_of_each_command_has_one_sentence() -> None:
    for words, command in commands():
        for param in command.params:
            if isinstance(param, click.Option):
                text = re.sub(r"\s*\[[^\[]*\]$", "", str(param.help))
                assert re.fullmatch(r"[A-ZΑ-Ωλ`].{9,220}\.", text), (words, param.name, text)
                assert not re.search(r"[.!?] [A-Z]", text), (words, param.name, text)


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words[-1] for words, _ in COMMANDS])
def test_the_help_of_a_component_is_short_and_its_example_works(
    words: tuple[str, ...], command: click.Command
) -> None:
    text = str(command.help)
    assert len(text.split()) <= 220
    assert "Options:" not in text
    shown = shlex.split(text.rpartition("Example: siftune ")[2])
    context = command.make_context(words[-1], shown[shown.index(words[-1]) + 1 :])
    if words[0] == "curate":
        group = "curate.scorers" if words[1] == "score" else "curate.selectors"
        given = {
            name: text for name, text in context.params.items() if isinstance(text, str | tuple)
        }
        registry.build(group, words[2], parsed(registry.find(group, words[2]), given))


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        (dict[str, Any] | None, ("words=5",), {"words": 5}),
        (Mapping[str, int], ("a=1,b=2", "c=3"), {"a": 1, "b": 2, "c": 3}),
        (Mapping[str, str], ("a=1", "b=true"), {"a": "1", "b": "true"}),
        (dict[str, float], ("{a: 0.5}",), {"a": 0.5}),
        (int | Mapping[str, int], ("3",), 3),
        (str | Mapping[str, int], "a=1", "a=1"),
        (str | Mapping[str, int], "{a: 1}", {"a": 1}),
        (Literal["yes", "no"], "no", "no"),
        (list[Literal["on", "off"]], "on,off", ["on", "off"]),
        (list[float], "[1, 2.5]", [1, 2.5]),
        (set[str], "1,true", ["1", "true"]),
        (str | int, "1", 1),
        (bool | None, "null", None),
    ],
)
def test_values_are_read_by_the_annotation(hint: Any, given: Any, expected: Any) -> None:
    assert value_of("--one", hint, given) == expected
