"""Recipes of pipelines: rows, models, steps and arms, read from YAML and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siftune.curate.core.errors import Problems, UsageError
from siftune.curate.core.registry import closest
from siftune.curate.files.outputs import check_name
from siftune.curate.files.packaged_recipes import PackagedRecipes
from siftune.curate.files.yaml_text import read_yaml
from siftune.curate.runs.recipe import Recipe, apply_overrides, checked_seed, parse
from siftune.pipelines.train_steps import COSTS, HELD, JUDGES, ROWS, Step, makes_rows, read_steps

__all__ = ["ARMS", "KEYS", "PACKAGED", "Arms", "Pipeline", "load", "read", "settings_of"]

PACKAGED = PackagedRecipes(Path(__file__).parent / "recipes", "siftune pipelines recipes")
"""The recipes of `siftune pipelines run` that come with siftune."""

KEYS = (
    *("name", "seed", "base", "init", "judge", "second", *COSTS, "rows", "pairs"),
    *("heldout", "train", "evaluate"),
    "arms",
)
_HELDOUT = {"prompts": "rows", "pairs": "pairs"}  # and whose source it takes where it names none
_SOURCE_KEYS = ("source", "source_help", "format", "map")
ARMS = ("curated", "random", "longest", "all")


@dataclass(frozen=True)
class Arms:
    """Selections to compare, each trained like the first ``sft`` step, on the same token budget."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str = "exact_match"
    options: Mapping[str, Any] = field(default_factory=dict)  # over those of the sft step


@dataclass(frozen=True)
class Pipeline:
    """A checked recipe. ``heldout`` are prompts and pairs that no training sees.

    They are the path of a file, or a curate recipe that selects them, such as the test part of what
    ``rows`` and ``pairs`` train on (`selectors.split`); without a ``source`` of its own it
    reads theirs. ``judge`` is the LLM judge of the steps that ask one and name none, ``second``
    the one whose agreement with it is measured.
    """

    name: str
    rows: Recipe | None
    pairs: Recipe | None
    train: tuple[Step, ...]
    seed: int = 0
    base: str | None = None
    init: Mapping[str, Any] | None = None
    judge: str | None = None
    second: str | None = None
    heldout: Mapping[str, str | Recipe] = field(default_factory=dict)
    evaluate: Mapping[str, Any] = field(default_factory=dict)
    arms: Arms | None = None

    @property
    def trainings(self) -> tuple[Step, ...]:
        """The steps that make a model."""
        return tuple(step for step in self.train if not makes_rows(step.method))


def load(path: Path, overrides: Iterable[str] = ()) -> Pipeline:
    """The pipeline in a YAML file, with ``key=value`` overrides applied.

    Raises:
        UsageError: unreadable, an unknown key, a step that starts from a model nobody makes; of
            several problems the text has all.
    """
    pipeline, problems = read(path, overrides)
    problems.refuse(str(path))
    return pipeline


def read(path: Path, overrides: Iterable[str] = ()) -> tuple[Pipeline, Problems]:
    """As `load`, with the problems beside the pipeline, which lacks the parts that have one.

    Raises:
        UsageError: the file is not YAML, or is the recipe of another command.
    """
    raw, problems = read_yaml(path), Problems()
    if raw.keys() & {"source", "stages"} and not raw.keys() & {"rows", "pairs", "train"}:
        raise UsageError(
            f"{path}: this recipe is for `siftune curate run` (it has source or stages); one for "
            "`siftune pipelines run` has rows or pairs, and train"
        )
    for override in overrides:
        with problems.collecting():
            raw = apply_overrides(raw, [override])
    return _pipeline(raw, problems), problems


def settings_of(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Every value of a recipe by its path, as ``-o`` takes it: ``train.1.sft.lr``."""
    return dict(_paths(apply_overrides(read_yaml(path), overrides), ()))


def _paths(value: Any, above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = ((key, one) for key, one in value.items() if key != "source_help")
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        inner = enumerate(value, 1)
    elif above:
        yield ".".join(above), value
    for key, one in inner:
        yield from _paths(one, (*above, str(key)))


def _pipeline(raw: Mapping[str, Any], problems: Problems) -> Pipeline:
    given: dict[str, Any] = {"name": "pipeline", "rows": None, "pairs": None, "train": ()}
    with problems.collecting():
        _known(raw, KEYS, "the recipe")
    with problems.collecting():
        _has_start(raw)
    with problems.collecting():
        given["seed"] = _seed(raw)
    seed = given.get("seed", 0)
    for key in JUDGES:
        with problems.collecting():
            given[key] = _judge(raw, key)
    shared = {key: given[key] for key in JUDGES if given.get(key) is not None}
    for key in COSTS:
        with problems.collecting():
            shared |= _dollars(raw, key)
    given["train"] = read_steps(raw.get("train", []), problems, shared)
    whole = not any(str(one).startswith("train") for one in problems.found)
    made: dict[str, Callable[[], Any]] = {
        "name": lambda: _name(raw),
        "rows": lambda: _rows(raw, "rows", seed),
        "pairs": lambda: _rows(raw, "pairs", seed),
        "base": lambda: _base(raw),
        "init": lambda: _mapping(raw, "init") if raw.get("init") is not None else None,
        "heldout": lambda: _heldout(raw, seed),
        "evaluate": lambda: _mapping(raw, "evaluate"),
        "arms": lambda: _arms(raw.get("arms"), given["train"]) if whole else None,
    }
    for key, make in made.items():
        with problems.collecting():
            given[key] = make()
    pipeline = Pipeline(**given)
    if not problems.found:  # what is missing may be what is misspelt
        with problems.collecting():
            _has_rows(pipeline)
    return pipeline


def _name(raw: Mapping[str, Any]) -> str:
    name = raw.get("name", "pipeline")
    if not isinstance(name, str):
        raise UsageError(f"name: expected a text, got {name!r}")
    check_name(name)
    return name


def _seed(raw: Mapping[str, Any]) -> int:
    seed = raw.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UsageError(f"seed: expected a whole number, got {seed!r}")
    return checked_seed(seed)


def _has_start(raw: Mapping[str, Any]) -> None:
    if (raw.get("base") is None) == (raw.get("init") is None):
        raise UsageError(
            "set exactly one of base (a model, -o base=MODEL) and init (how to make one)"
        )


def _base(raw: Mapping[str, Any]) -> str | None:
    base = raw.get("base")
    if base is not None and (not isinstance(base, str) or not base):
        raise UsageError(f"base: expected the folder or name of a model, got {base!r}")
    return base


def _judge(raw: Mapping[str, Any], key: str) -> str | None:
    judge = raw.get(key)
    if judge is not None and (not isinstance(judge, str) or not judge):
        raise UsageError(f"{key}: expected the text that names a judge, got {judge!r}")
    return judge


def _dollars(raw: Mapping[str, Any], key: str) -> dict[str, float]:
    """The amount of a key, none where the recipe has none."""
    amount = raw.get(key)
    if amount is None:
        return {}
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount >= 0:
        raise UsageError(f"{key}: expected dollars, 0 or more, got {amount!r}")
    return {key: float(amount)}


def _rows(raw: Mapping[str, Any], key: str, seed: int) -> Recipe | None:
    given = raw.get(key)
    if given is None:
        return None
    if not isinstance(given, dict):
        raise UsageError(f"{key}: expected a curate recipe (source, stages), got {given!r}")
    try:
        return parse({"name": key, "seed": seed, **given}, under=key)
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from None


def _heldout(raw: Mapping[str, Any], seed: int) -> dict[str, str | Recipe]:
    found: dict[str, str | Recipe] = {}
    listed = _known(_mapping(raw, "heldout"), tuple(_HELDOUT), "heldout")
    for key, given in listed.items():
        where = f"heldout.{key}"
        if isinstance(given, dict) and given.get("source") is None:
            like = raw.get(_HELDOUT[key])
            if isinstance(like, dict) and like.get("source") is None:
                continue  # which is said of `like`
            given = _sourced(given, like)
        recipe = given if isinstance(given, str) else _rows({where: given}, where, seed)
        if recipe is not None:
            found[key] = recipe
    return found


def _sourced(given: dict[str, Any], like: Any) -> dict[str, Any]:
    """Held-out rows with the source, format and renamed keys of the rows that are trained on."""
    taken = like if isinstance(like, dict) else {}
    return {**{key: taken[key] for key in _SOURCE_KEYS if key in taken}, **_set_keys(given)}


def _set_keys(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _arms(raw: Any, steps: tuple[Step, ...]) -> Arms | None:
    if raw is None:
        return None
    if not any(step.method == "sft" for step in steps):
        raise UsageError(
            "arms: the arms are trained like the sft step, and there is none in `train`"
        )
    _known(raw, ("names", "seeds", "metric", "options"), "arms")
    names = raw.get("names", list(ARMS))
    if not isinstance(names, list) or not names:
        raise UsageError(f"arms: names: expected a list of {', '.join(ARMS)}, got {names!r}")
    for name in names:
        if name not in ARMS:
            raise UsageError(f"arms: no arm is called {name!r}; {closest(str(name), ARMS)}")
    seeds = raw.get("seeds", [0, 1, 2])
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise UsageError(f"arms: seeds: expected a list of whole numbers, got {seeds!r}")
    options = _mapping(raw, "options")
    seeds = map(checked_seed, seeds)
    return Arms(tuple(names), tuple(seeds), str(raw.get("metric", "exact_match")), options)


def _has_rows(pipeline: Pipeline) -> None:
    for step in pipeline.train:
        if step.data in ROWS and getattr(pipeline, step.data) is None:
            raise UsageError(f"train: {step.label} needs `{step.data}`, and the recipe has none")
        key = step.data.removeprefix("heldout-")
        if step.data in HELD and not isinstance(pipeline.heldout.get(key), Recipe):
            raise UsageError(
                f"train: {step.label} reads `{step.data}`: set heldout.{key} to a curate recipe "
                "(source, stages), not to the path of a file"
            )
    if pipeline.arms is not None and "prompts" not in pipeline.heldout:
        raise UsageError("arms: set heldout.prompts, the rows that the arms are compared on")


def _mapping(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise UsageError(f"{key}: expected options, got {value!r}")
    return value


def _known(raw: Any, keys: tuple[str, ...], where: str) -> Any:
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: expected `key: value` lines, got {raw!r}")
    for key in raw:
        if key not in keys:
            raise UsageError(f"{where}: unknown key {key!r}; {closest(str(key), keys)}")
    return raw
