"""Recipes in YAML: source, seed and stages, with every key checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from yaml import YAMLError

from siftune.curate.core.errors import Problems, UsageError
from siftune.curate.core.ranges import Seed, outside
from siftune.curate.core.registry import MissingOptionError, build, closest, options
from siftune.curate.files.outputs import check_name
from siftune.curate.files.source_spec import PAIRINGS, Pairing, SourceSpec, new_names
from siftune.curate.files.yaml_text import parse_yaml, read_yaml
from siftune.curate.rows.conversation_views import Sides, Turns

__all__ = [
    "GROUPS",
    "Draft",
    "Recipe",
    "Spec",
    "apply_overrides",
    "checked_seed",
    "component",
    "load",
    "pairing",
    "parse",
    "read",
]

Group: TypeAlias = Literal["score", "select"]
GROUPS: Mapping[str, str] = {"score": "curate.scorers", "select": "curate.selectors"}
_KEYS = ("name", "seed", "source", "source_help", "format", "map", "limit", "pairs", "stages")
_OF_PIPELINES: Final = frozenset({"base", "init", "rows", "pairs", "train"})


@dataclass(frozen=True)
class Spec:
    """One stage: a component by name, and its options."""

    group: Group
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sides: Sides = "both"
    turns: Turns = "last"


@dataclass(frozen=True)
class Recipe:
    """Name, source, stages and seed of a run. ``map`` renames raw keys before format detection.

    ``given`` has the sources with a format or a map of their own, by their paths; ``pairs`` names
    the pairs that ranked lists are read as. The key
    ``source_help`` of a file describes ``source`` where it is left open; it is no field.
    """

    name: str
    source: tuple[str, ...]
    stages: tuple[Spec, ...] = ()
    seed: int = 0
    format: str | None = None
    map: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    given: Mapping[str, SourceSpec] = field(default_factory=dict)
    pairs: Pairing | None = None

    def as_mapping(self) -> dict[str, Any]:
        """The recipe as plain values, from which `parse` makes an equal one."""
        sources = [_set_of(asdict(self.given.get(path, SourceSpec(path)))) for path in self.source]
        stages = [
            {one.group: one.name, **one.options}
            | ({"sides": one.sides} if one.sides != "both" else {})
            | ({"turns": one.turns} if one.turns != "last" else {})
            for one in self.stages
        ]
        rest = _set_of(
            {"format": self.format, "map": dict(self.map), "limit": self.limit, "pairs": self.pairs}
        )
        short = [one["path"] if len(one) == 1 else one for one in sources]
        whole = {"name": self.name, "seed": self.seed, "source": short}
        return whole | rest | {"stages": stages}


def _set_of(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


@dataclass(frozen=True)
class Draft:
    """A recipe without the stages that have problems, or None.

    ``numbers`` are the positions of its stages in the file.
    """

    recipe: Recipe | None
    numbers: tuple[int, ...]
    problems: Problems


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a YAML file, with ``key=value`` overrides applied.

    Raises:
        UsageError: not readable, not YAML, an unknown key, a value of the wrong type.
    """
    raw = read_yaml(path)
    try:
        return parse(apply_overrides(raw, overrides))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def apply_overrides(raw: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """``raw`` with each ``a.b=value`` set; list items by number, values read as YAML."""
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise UsageError(f"-o {override}: expected key=value, such as -o source=rows.jsonl")
        _set(raw, path.split("."), _override_value(path, text), override)
    return raw


def _override_value(path: str, text: str) -> Any:
    """The value of YAML, or the text as it is where it is not YAML, such as a glob."""
    try:
        return parse_yaml(text)
    except YAMLError:
        return text
    except UsageError as error:
        raise UsageError(f"-o {path}: {error}") from None


def parse(raw: Mapping[str, Any], under: str = "") -> Recipe:
    """A checked recipe from plain values; ``under`` is its key in a larger recipe.

    Raises:
        UsageError: an unknown key, a value of the wrong type; several problems are all listed.
    """
    draft = read(raw, under)
    draft.problems.refuse()
    assert draft.recipe is not None  # it is there where nothing is wrong
    return draft.recipe


def read(raw: Mapping[str, Any], under: str = "") -> Draft:
    """As `parse`, with the problems beside the recipe.

    Raises:
        UsageError: it is a recipe of another command.
    """
    if not under and not raw.keys() & {"source", "stages"} and raw.keys() & _OF_PIPELINES:
        keys = ", ".join(str(key) for key in raw if key in _OF_PIPELINES)
        raise UsageError(
            f"this recipe is for `siftune pipelines run` (it has {keys}); one for "
            "`siftune curate run` has source and stages"
        )
    problems, given = Problems(), dict[str, Any]()
    for key in raw:
        with problems.collecting():
            _check_key(str(key))
    misspelt = bool(problems.found) and raw.get("source") is None  # it may be the source
    made: dict[str, Callable[[], Any]] = {
        "name": lambda: _name(raw),
        "source": lambda: [] if misspelt else _sources(raw, under),
        "stages": lambda: _typed(raw, "stages", list, []),
        "seed": lambda: checked_seed(_typed(raw, "seed", int, 0)),
        "format": lambda: _typed(raw, "format", str, None),
        "map": lambda: new_names(raw.get("map"), "map"),
        "limit": lambda: _limit(raw),
        "pairs": lambda: _pairs(raw),
    }
    for key, make in made.items():
        with problems.collecting():
            given[key] = make()
    stages, sources = _stages(given.get("stages", []), problems, under), given.get("source")
    if not sources or not {"format", "map"} <= given.keys():
        return Draft(None, (), problems)
    given.setdefault("name", "run")
    given["stages"] = tuple(stages.values())
    given["source"] = tuple(source.path for source in sources)
    own = {source.path: source for source in sources if source.format or source.map}
    return Draft(Recipe(**given, given=own), tuple(stages), problems)


def _check_key(key: str) -> None:
    if key not in _KEYS:
        raise UsageError(f"unknown key {key!r}; {closest(key, _KEYS)}")


def _name(raw: Mapping[str, Any]) -> str:
    name: str = _typed(raw, "name", str, "run")
    check_name(name)
    return name


def _limit(raw: Mapping[str, Any]) -> int | None:
    limit: int | None = _typed(raw, "limit", int, None)
    if limit is not None and limit < 1:
        raise UsageError(f"limit: expected at least 1 row, got {limit}")
    return limit


def _pairs(raw: Mapping[str, Any]) -> Pairing | None:
    return pairing(_typed(raw, "pairs", str, None))


def pairing(pairs: Any) -> Pairing | None:
    """The name of the pairs that ranked lists are read as, or None.

    Raises:
        UsageError: there are no such pairs.
    """
    if pairs is None or pairs in PAIRINGS:
        known: Pairing | None = pairs
        return known
    raise UsageError(f"pairs: expected one of {', '.join(PAIRINGS)}, got {pairs!r}")


def component(spec: Spec, seed: int, cache: Path | None = None) -> Any:
    """The scorer or selector of a stage; ``seed`` and ``cache`` set fields of that name.

    A cache that has a place of its own keeps it; its money is counted by the run's folder.
    """
    from siftune.curate.core.registry import find

    given = dict(spec.options)
    known = options(find(GROUPS[spec.group], spec.name))
    if "seed" in known:
        given.setdefault("seed", seed)
    if cache is not None:
        if "cache" in known and known["cache"].default is None:
            given.setdefault("cache", str(cache))
        if "account" in known:
            given.setdefault("account", str(cache.parent.resolve()))
    return build(GROUPS[spec.group], spec.name, given)


def _set(target: Any, path: list[str], value: Any, override: str) -> None:
    for step, name in enumerate(path):
        last = step == len(path) - 1
        key: Any = name
        if isinstance(target, list):
            if not name.isdigit() or not 1 <= int(name) <= len(target):
                raise UsageError(
                    f"-o {override}: {name!r} is not one of the stages 1..{len(target)}"
                )
            key = int(name) - 1
        elif not isinstance(target, dict):
            raise UsageError(f"-o {override}: nothing can be set inside {'.'.join(path[:step])!r}")
        if last:
            target[key] = value
            return
        if isinstance(target, dict) and target.get(key) is None:  # as in `- reward:`
            target[key] = {}
        target = target[key]


def checked_seed(seed: int) -> int:
    """The seed of a recipe.

    Raises:
        UsageError: the random generators do not take it.
    """
    if (wrong := outside(Seed, seed)) is not None:
        raise UsageError(f"seed: {wrong}")
    return seed


def _typed(raw: Mapping[str, Any], key: str, kind: type[Any], default: Any) -> Any:
    value = raw.get(key, default)
    if value is default or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise UsageError(f"{key}: expected {kind.__name__}, got {value!r}")


def _sources(raw: Mapping[str, Any], under: str) -> list[SourceSpec]:
    value, flag = raw.get("source"), f"-o {under and f'{under}.'}source=FILE"
    if value is None:
        wanted = _typed(raw, "source_help", str, "a file of rows, or a name on the hub")
        raise UsageError(f"source is not set: give {flag} ({wanted})")
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(item, str | dict) for item in listed):
        raise UsageError(f"source: expected a path or a list of paths, got {value!r}; set {flag}")
    return [SourceSpec.of(item, "source") for item in listed]


def _stages(listed: list[Any], problems: Problems, under: str) -> dict[int, Spec]:
    """The stages by their numbers, without those that are wrong.

    After a wrong scorer there are none: the columns that it would add are unknown.
    """
    stages: dict[int, Spec] = {}
    known = True
    for number, raw in enumerate(listed, 1):
        with problems.collecting():
            spec = _stage(number, raw, under)
            if known:
                stages[number] = spec
            continue
        known = known and isinstance(raw, dict) and "select" in raw
    return stages


def _stage(number: int, raw: Any, under: str) -> Spec:
    where = f"stage {number}"
    if not isinstance(raw, dict) or not raw:
        raise UsageError(
            f"{where}: expected `score: NAME` or `select: NAME` and options, got {raw!r}"
        )
    groups = [key for key in GROUPS if key in raw]
    if len(groups) != 1 or not isinstance(raw[groups[0]], str):
        raise UsageError(
            f"{where}: expected one of score, select with a name, got {sorted(map(str, raw))}"
        )
    group: Any = groups[0]
    given = {key: value for key, value in raw.items() if key != group}
    for key in ("sides", "turns"):
        if group == "select" and key in given:
            raise UsageError(
                f"{where}: {key} is a key of score stages: {raw[group]} decides on whole rows; "
                "leave it out"
            )
    sides = _one_of(given.pop("sides", "both"), get_args(Sides), f"{where}: sides")
    turns = _one_of(given.pop("turns", "last"), get_args(Turns), f"{where}: turns")
    spec = Spec(group, raw[group], given, sides, turns)
    try:
        component(spec, seed=0)
    except MissingOptionError as error:
        path = f"{under and f'{under}.'}stages.{number}"
        raise UsageError(f"{where}: {error.in_recipe(path)}") from None
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return spec


def _one_of(value: Any, allowed: tuple[str, ...], where: str) -> Any:
    if value not in allowed:
        raise UsageError(f"{where}: expected one of {', '.join(allowed)}, got {value!r}")
    return value
