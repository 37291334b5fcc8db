"""Sources of recipes and options: paths with formats and renamed keys, and all input paths."""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import closest

__all__ = [
    "INPUTS",
    "PAIRINGS",
    "REFERENCE",
    "Pairing",
    "SourceOption",
    "SourceSpec",
    "in_caller_syntax",
    "in_python",
    "in_recipe",
    "input_paths",
    "new_names",
    "reference_name",
    "where_set",
]

Pairing: TypeAlias = Literal["best_worst", "best_random", "all", "adjacent", "sweet_spot"]
"""Which pairs are made of a ranked list (`records.ranked_pairs.places_of`)."""
PAIRINGS: Final = get_args(Pairing)

SourceOption: TypeAlias = str | Mapping[str, Any]
"""A path, or ``{path, format, map}``."""

REFERENCE: Final = "references/against-{hex16}.parquet"
"""Rows in memory that others were compared with, as a file of a run folder; by their content."""
_REFERENCE: Final = re.compile(r"(?:.*[\\/])?references[\\/](against-[0-9a-f]{16}\.parquet)")

_KEYS: Final = ("path", "format", "map")
_MAP: Final = r"--map (?:'[^']*'|[^\s=']+=[^\s,;)]*[^\s,;):?])"
_MAPS: Final = re.compile(f"{_MAP}(?: {_MAP})*")
_Spelling: TypeAlias = Literal["flags", "recipe", "python"]
_spelling: ContextVar[_Spelling] = ContextVar("spelling", default="flags")


@dataclass(frozen=True)
class SourceSpec:
    """One source; ``format`` None is detected, ``map`` renames keys before that."""

    path: str
    format: str | None = None
    map: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: SourceOption, where: str) -> SourceSpec:
        """The source that a text or a mapping names; ``where`` is the key it is under.

        Raises:
            UsageError: it is neither, a key is unknown, or a value has another type.
        """
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: expected a path or {{path, format, map}}, got {value!r}")
        for key in value:
            if key not in _KEYS:
                raise UsageError(f"{where}: unknown key {key!r}; {closest(str(key), _KEYS)}")
        path, layout, renames = value.get("path"), value.get("format"), value.get("map")
        if not isinstance(path, str) or not path:
            raise UsageError(f"{where}.path: expected a file, a folder or a hub name, got {path!r}")
        if layout is not None and not isinstance(layout, str):
            raise UsageError(f"{where}.format: expected the name of a format, got {layout!r}")
        return cls(path, layout, new_names(renames, f"{where}.map"))


def new_names(value: Any, where: str) -> dict[str, str]:
    """The new names of keys in the value of a recipe; null is none.

    Raises:
        UsageError: it is no mapping of texts to texts; ``where`` is the key it is under.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected {{KEY: NAME}}, got {value!r}")
    for key, name in value.items():
        if not isinstance(key, str) or not isinstance(name, str):
            raise UsageError(
                f"{where}: expected {{KEY: NAME}}, texts both, got {key!r}: {name!r} "
                "(quote what YAML reads as something else)"
            )
    return dict(value)


def reference_name(path: Any) -> str | None:
    """The name of a `REFERENCE` in its run folder, wherever that lies; None of any other path.

    >>> reference_name("/tmp/a/references/against-0123456789abcdef.parquet")
    'references/against-0123456789abcdef.parquet'
    """
    found = _REFERENCE.fullmatch(path) if isinstance(path, str) else None
    return None if found is None else f"references/{found[1]}"


@contextmanager
def _spelling_as(spelling: _Spelling) -> Iterator[None]:
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)


def in_recipe() -> AbstractContextManager[None]:
    """Errors about formats name the keys of a recipe, not options of a command."""
    return _spelling_as("recipe")


def in_python() -> AbstractContextManager[None]:
    """Errors about formats name the arguments of `siftune.read`, not options of a command."""
    return _spelling_as("python")


def in_caller_syntax(text: str) -> str:
    """``text`` with ``--format`` and ``--map`` as the caller has to write them.

    >>> with in_recipe():
    ...     in_caller_syntax("set --format alpaca, or --map 'the q=prompt' --map a=completion")
    'set `format: alpaca`, or `map: {"the q": prompt, a: completion}`'
    >>> with in_python():
    ...     in_caller_syntax("set --format alpaca, or --map 'the q=prompt' --map a=completion")
    'set format="alpaca", or map={"the q": "prompt", "a": "completion"}'
    >>> with in_python():
    ...     in_caller_syntax("--map a=respons: did you mean --map a=response?")
    'map={"a": "respons"}: did you mean map={"a": "response"}?'
    """
    spelling = _spelling.get()
    if spelling == "flags":
        return text
    if spelling == "python":
        text = _MAPS.sub(lambda found: f"map={json.dumps(dict(_pairs(found[0])))}", text)
        text = re.sub(r"--format (\w+)", r'format="\1"', text)
        return text.replace("--format", "format=").replace("--map", "map=")
    text = _MAPS.sub(lambda found: f"`map: {{{_in_yaml(found[0])}}}`", text)
    text = re.sub(r"--format (\w+)", r"`format: \1`", text)
    return text.replace("--format", "`format`").replace("--map", "`map`")


def where_set(text: str, path: str) -> str:
    """A note behind an error of reading ``path``: where the format and map that it names are set.

    For what takes rows and has no such options.

    >>> with in_python():
    ...     where_set('no format fits, set format="alpaca"', "rows.jsonl")
    '; these are arguments of siftune.read, whose rows are taken here'
    """
    if not re.search(r"--(format|map)|\b(format|map)=", text):
        return ""
    if _spelling.get() == "python":
        return "; these are arguments of siftune.read, whose rows are taken here"
    return (
        f"; these are options of `siftune curate ingest {path} --out FOLDER`, whose folder is "
        "taken here"
    )


def _pairs(flags: str) -> Iterator[tuple[str, str]]:
    for flag in shlex.split(flags):
        if flag != "--map":
            key, _, name = flag.partition("=")
            yield key, name


def _in_yaml(flags: str) -> str:
    return ", ".join(f"{_key(key)}: {name}" for key, name in _pairs(flags))


def _key(key: str) -> str:
    """A key as YAML needs it."""
    return key if re.fullmatch(r"[A-Za-z_]\w*", key) else json.dumps(key, ensure_ascii=False)


INPUTS: Final = frozenset(
    {
        *("source", "sources", "rows", "pairs", "prompts", "text", "run", "recipe"),
        *(
            "base",
            "model",
            "models",
            "teacher",
            "ref_model",
            "critic_model",
            "reference",
            "reward",
            "tokenizer",
        ),
        *("advantage", "objective", "policy_loss"),
        *(
            "eval_rows",
            "ptx_rows",
            "watch_rows",
            "watch_gold",
            "against",
            "index",
            "judge",
            "judges",
            "panel",
        ),
        *(
            "quality",
            "toxicity",
            "embedder",
            "more_models",
            "names_model",
            "judged",
            "gold",
            "calibration",
            "weights",
            "samples",
            "gate",
            "rollouts_from",
        ),
    }
)
"""Names of options, arguments and recipe keys whose values may be paths that are read."""


def input_paths(given: Any, key: str = "") -> Iterator[Path]:
    """Existing paths in options or a recipe, by the names in `INPUTS`."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            of_source = name == "path" and key in INPUTS  # {path, format, map}
            yield from input_paths(value, key if of_source else str(name))
    elif isinstance(given, (list, tuple)):
        for value in given:
            yield from input_paths(value, key)
    elif isinstance(given, (str, Path)) and key in INPUTS:
        yield from _there(str(given))


def _there(given: str) -> Iterator[Path]:
    try:
        if os.path.lexists(given):
            yield Path(given)
        elif glob.has_magic(given):
            yield from map(Path, glob.glob(given, recursive=True))  # noqa: PTH207
    except (OSError, ValueError):  # a name longer than any file's, or with a null in it
        return
