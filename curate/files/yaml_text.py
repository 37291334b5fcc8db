"""YAML of users, read with limits: plain values, 64-bit integers, bounded depth and size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.files.byte_streams import open_pipe

__all__ = ["parse_yaml", "read_yaml"]

_MOST_BYTES: Final = 1 << 20
_MOST_LEVELS: Final = 32
_MOST_ALIASES: Final = 20
_LARGEST: Final = 2**63 - 1
_OPENS = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_CLOSES = (yaml.SequenceEndEvent, yaml.MappingEndEvent)
_FOUND: Final = {list: "a list", str: "a text", bool: "true or false"}
_INT_TAG: Final = "tag:yaml.org,2002:int"
_FLOAT_TAG: Final = "tag:yaml.org,2002:float"
_OCTAL: Final = re.compile(r"[-+]?0[0-7_]+")
_DATE_TAG: Final = "tag:yaml.org,2002:timestamp"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        UsageError: it cannot be read, or is not such a mapping; the text names the file.
    """
    try:
        return _mapping(parse_yaml(_text(path)))
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {_problem(error)}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Dates are text.

    Raises:
        yaml.YAMLError: it is not YAML.
        UsageError: it is, but has a tag, a key that is not plain or that repeats, an integer
            beyond 64 bits, or exceeds a limit of this module.
    """
    if len(text) > _MOST_BYTES:
        raise UsageError(f"{len(text):,} characters of YAML; at most {_MOST_BYTES:,} are taken")
    try:
        _check_events(yaml.parse(text, Loader=_Strict))
        return yaml.load(text, Loader=_Strict)  # a SafeLoader
    except RecursionError:
        raise UsageError(f"nested deeper than {_MOST_LEVELS} levels") from None


def _text(path: Path) -> str:
    try:
        with open_pipe(path) if path.is_fifo() else path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        return content.decode("utf-8")
    except DataError as error:  # nobody writes to a pipe
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot read the recipe ({error.strerror})") from None
    except UnicodeDecodeError as error:
        if len(content) > _MOST_BYTES:
            return "#" * len(content)  # refused for its size
        raise UsageError(f"cannot read the recipe ({error})") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        found = "nothing" if value is None else _FOUND.get(type(value), "a number")
        raise UsageError(f"expected `key: value` lines, found {found}")
    return value


def _check_events(events: Iterator[yaml.Event]) -> None:
    """Refuse what a limit forbids before a value is built; the text is scanned only up to there."""
    opened: list[str | None] = []
    aliases = 0
    for event in events:
        if isinstance(event, _OPENS):
            opened.append(event.anchor)
        elif isinstance(event, _CLOSES):
            opened.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if event.anchor in opened:
                raise UsageError(f"the alias *{event.anchor} contains itself{_line(event)}")
        if len(opened) > _MOST_LEVELS:
            raise UsageError(f"nested deeper than {_MOST_LEVELS} levels{_line(event)}")
        if aliases > _MOST_ALIASES:
            raise UsageError(f"more than {_MOST_ALIASES} YAML aliases")
        _refuse_tag(event)


def _refuse_tag(event: yaml.Event) -> None:
    tag = getattr(event, "tag", None)
    if tag not in (None, "!"):
        shown = str(tag).replace("tag:yaml.org,2002:", "!!")
        raise UsageError(f"the YAML tag {shown} is not taken: write the plain value{_line(event)}")


def _line(event: yaml.Event) -> str:
    mark = event.start_mark
    return "" if mark is None else f" (line {mark.line + 1})"


class _Strict(yaml.SafeLoader):
    """Refuses repeated keys, keys that are no plain values, and integers beyond 64 bits."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self._key(key_node)
            if key in seen:
                raise _refused(f"the key {key!r} is there twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def _key(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            raise _refused("a key is a list or a mapping: expected a name", node)
        if node.tag == "tag:yaml.org,2002:merge":
            raise _refused("merge keys (<<) are not taken: write the keys out", node)
        return self.construct_object(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        _refuse_ambiguous(node)
        try:
            value = super().construct_yaml_int(node)
        except ValueError:  # more digits than Python converts, or none
            value = _LARGEST + 1
        if abs(value) > _LARGEST:
            raise _refused(f"{node.value[:24]}... is beyond 64 bits: expected a number", node)
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        _refuse_ambiguous(node)
        return super().construct_yaml_float(node)


_Strict.add_constructor(_INT_TAG, _Strict.construct_yaml_int)
_Strict.add_constructor(_FLOAT_TAG, _Strict.construct_yaml_float)
_Strict.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in known if tag != _DATE_TAG]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_ambiguous(node: yaml.ScalarNode) -> None:
    """Refuse numbers that YAML 1.1 reads to the base 8 or 60, and YAML 1.2 reads otherwise."""
    shown = node.value[:24]
    if _OCTAL.fullmatch(node.value):
        plain = node.value.replace("_", "").lstrip("+-0")[:24] or "0"
        raise _refused(
            f"{shown} is a number to the base 8 in YAML 1.1 and {plain} in YAML 1.2: "
            f"write {plain}, or '{shown}' in quotes for a text",
            node,
        )
    if ":" in node.value:
        raise _refused(
            f"{shown} is a number to the base 60 in YAML 1.1 and a text in YAML 1.2: write the "
            f"plain number, or '{shown}' in quotes for a text",
            node,
        )


def _refused(what: str, node: yaml.Node) -> UsageError:
    return UsageError(f"{what} (line {node.start_mark.line + 1})")


def _problem(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"{problem} (line {mark.line + 1})"
