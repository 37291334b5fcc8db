"""Recipe of an arena: a pool, methods that select from it, budgets, seeds, held-out sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.custom_file import short_name
from siftune.curate.core.errors import Problems, UsageError
from siftune.curate.core.registry import build, closest, find, options
from siftune.curate.files.outputs import check_name
from siftune.curate.files.yaml_text import read_yaml
from siftune.curate.runs.recipe import Recipe, apply_overrides, checked_seed, parse
from siftune.pipelines.train_steps import Step, makes_rows, read_steps

__all__ = [
    "BUILT_IN",
    "KEYS",
    "MEASURES",
    "OVERLAPS",
    "RANKED",
    "REFERENCE",
    "SFT_ON_CHOSEN",
    "Arena",
    "HeldOut",
    "Measured",
    "load",
    "takes_budget",
]

MEASURES: Final = "pipelines.arena.measures"
REFERENCE: Final = "random"
"""The arm that every other one is compared with."""
SFT_ON_CHOSEN: Final = "sft_on_chosen"
BUILT_IN: Final = (REFERENCE, "longest", "all")
OVERLAPS: Final = ("refuse", "drop", "allow")
KEYS: Final = (
    *("name", "seed", "base", "pool", "methods", "budgets", "seeds", "train", "sft", "heldout"),
    *("tested", "templates", "generate", "overlap", "keep_models", "detect", "expect", "price"),
)
_HELD_KEYS: Final = ("rows", "measures", "limit")
_GENERATE: Final = {"max_new_tokens": 64, "temperature": 0.0, "batch_size": 16}
_TEMPLATES: Final = (
    "{prompt}",
    "Please do the following.\n\n{prompt}",
    "{prompt}\n\nWrite your answer below.",
)
_LEAST_TEMPLATES: Final = 3
_CHANGES_ROWS: Final[Mapping[str, Sequence[tuple[str, Any]]]] = {
    "label_noise": (("action", "flip"), ("action", "weight")),
    "sweet_spot": (("flip", True),),
}
RANKED: Final = ("top_k", "top_fraction")
"""Selectors of the rows with the largest values of one column."""


@dataclass(frozen=True)
class Measured:
    """A measure of a held-out set, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name without a file."""
        return short_name(self.name)

    def made(self) -> Any:
        """The component, its options checked."""
        return build(MEASURES, self.name, self.options)


@dataclass(frozen=True)
class HeldOut:
    """A held-out set, the measures that are taken on it, and how many rows are used (0: all)."""

    rows: str
    measures: tuple[Measured, ...]
    limit: int = 0


@dataclass(frozen=True)
class Arena:
    """A checked recipe.

    ``methods`` have the selectors of each by name, as ``(name, options)``. ``budgets`` are answer
    tokens, or rows: ``150 rows`` are so many times the mean answer of the pool. ``tested`` are
    ``SET/MEASURE``, whose comparisons with `random` are corrected together; other measures are
    described, not tested. ``detect`` is the difference, as a share of the mean of `random`, that
    the power is stated for, ``expect`` the standard deviations of one difference by seed, by prompt
    and of the rest, in the same unit, as long as none is measured. ``sft`` are the options of
    `sft_on_chosen`, ``price`` the dollars of a CPU hour; ``raw`` is the text's own mapping.
    """

    name: str
    base: str
    pool: Recipe
    methods: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]]
    budgets: tuple[str, ...]
    seeds: tuple[int, ...]
    step: Step
    heldout: Mapping[str, HeldOut]
    tested: tuple[str, ...]
    seed: int = 0
    sft: Mapping[str, Any] = field(default_factory=dict)
    templates: tuple[str, ...] = _TEMPLATES
    generate: Mapping[str, Any] = field(default_factory=lambda: dict(_GENERATE))
    overlap: str = "refuse"
    keep_models: bool = False
    detect: float = 0.02
    expect: Mapping[str, float] = field(default_factory=dict)
    price: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def on_pairs(self) -> bool:
        """Whether arms train on pairs, by a preference loss."""
        return self.step.method != "sft"

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of all arms at one budget: those that are built in first."""
        own = (SFT_ON_CHOSEN,) if self.on_pairs else ()
        return (*BUILT_IN, *own, *self.methods)


def load(path: Path, overrides: Iterable[str] = ()) -> Arena:
    """The arena in a YAML file, with ``key=value`` overrides applied.

    Raises:
        UsageError: unreadable, an unknown key, a wrong value; of several problems all are listed.
    """
    raw = apply_overrides(read_yaml(path), overrides)
    problems, given = Problems(), dict[str, Any]()
    with problems.collecting():
        _known(raw, KEYS, "the recipe")
    seed = 0
    with problems.collecting():
        seed = checked_seed(_number(raw, "seed", 0, int))
    made: dict[str, Callable[[], Any]] = {
        "name": lambda: _name(raw),
        "base": lambda: _text(raw, "base", "the model that every arm starts from"),
        "pool": lambda: _pool(raw, seed),
        "methods": lambda: _methods(raw.get("methods")),
        "budgets": lambda: _budgets(raw.get("budgets")),
        "seeds": lambda: _seeds(raw.get("seeds", [0, 1, 2])),
        "step": lambda: _step(raw.get("train")),
        "sft": lambda: _sft(raw.get("sft")),
        "heldout": lambda: _heldout(raw.get("heldout")),
        "templates": lambda: _templates(raw.get("templates")),
        "generate": lambda: _GENERATE | _known(raw.get("generate") or {}, _GENERATE, "generate"),
        "overlap": lambda: _one_of(raw.get("overlap", "refuse"), OVERLAPS, "overlap"),
        "keep_models": lambda: _number(raw, "keep_models", False, bool),
        "detect": lambda: _number(raw, "detect", 0.02, float),
        "price": lambda: _number(raw, "price", 0.0, float),
        "expect": lambda: _expect(raw.get("expect")),
    }
    for key, make in made.items():
        with problems.collecting():
            given[key] = make()
    if "heldout" in given:
        with problems.collecting():
            given["tested"] = _tested(raw.get("tested"), given["heldout"])
    problems.refuse(str(path))
    return Arena(seed=seed, raw=raw, **given)


def _known(raw: Any, keys: Iterable[str] | None, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: expected `key: value` lines, got {raw!r}")
    for key in raw:
        if keys is not None and key not in keys:
            raise UsageError(f"{where}: unknown key {key!r}; {closest(str(key), tuple(keys))}")
    return raw


def _number(raw: Mapping[str, Any], key: str, default: Any, kind: type) -> Any:
    value = raw.get(key, default)
    kinds = (int, float) if kind is float else (kind,)
    wrong = not isinstance(value, kinds) or (kind is not bool and isinstance(value, bool))
    if wrong or (kind is float and not 0 <= value < float("inf")):
        what = {int: "a whole number", float: "a number, 0 or more", bool: "true or false"}[kind]
        raise UsageError(f"{key}: expected {what}, got {value!r}")
    return value


def _name(raw: Mapping[str, Any]) -> str:
    name = raw.get("name", "arena")
    if not isinstance(name, str):
        raise UsageError(f"name: expected a text, got {name!r}")
    check_name(name)
    return name


def _text(raw: Mapping[str, Any], key: str, what: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{key}: expected {what} (-o {key}=VALUE), got {value!r}")
    return value


def _one_of(value: Any, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        raise UsageError(f"{where}: expected {', '.join(known)}, got {value!r}")
    return str(value)


def _pool(raw: Mapping[str, Any], seed: int) -> Recipe:
    given = _known(raw.get("pool"), None, "pool")
    try:
        return parse({"name": "pool", "seed": seed, **given}, under="pool")
    except UsageError as error:
        raise UsageError(f"pool: {error}") from None


def _methods(raw: Any) -> dict[str, tuple[tuple[str, Mapping[str, Any]], ...]]:
    given = _known(raw or {}, None, "methods")
    found = {}
    for name, listed in given.items():
        where = f"methods: {name}"
        check_name(str(name), where)
        if name in (*BUILT_IN, SFT_ON_CHOSEN):
            raise UsageError(f"{where}: this arm is built in; give the method another name")
        if not isinstance(listed, list) or not listed:
            raise UsageError(f"{where}: expected a list of `- SELECTOR: {{options}}`")
        chain = tuple(_selector(one, where) for one in listed)
        last, own = chain[-1][0], chain[-1][1].get("group_by")
        if own is not None and last != "mixture" and takes_budget(last):  # mixture shares one out
            raise UsageError(
                f"{where}: {last}: group_by would take the budget once a group: leave it out"
            )
        found[str(name)] = chain
    return found


def takes_budget(name: str) -> bool:
    """Whether a selector keeps rows up to a budget of tokens."""
    return name in RANKED or "tokens" in options(find("curate.selectors", name))


def _selector(raw: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(raw, dict) or len(raw) != 1:
        raise UsageError(f"{where}: expected `- SELECTOR: {{options}}`, got {raw!r}")
    ((name, given),) = raw.items()
    known = options(find("curate.selectors", str(name)))
    for key, value in _known(given or {}, None, f"{where}: {name}").items():
        if key not in known:
            raise UsageError(f"{where}: {name} has no option {key!r}; {closest(key, known)}")
        if (key, value) in _CHANGES_ROWS.get(str(name), ()):
            raise UsageError(
                f"{where}: {name}: {key}: {value} changes rows, and an arena only selects them"
            )
    return str(name), dict(given or {})


def _budgets(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw:
        raise UsageError(f"budgets: expected a list such as [150 rows, 20000], got {raw!r}")
    for one in raw:
        number = str(one).removesuffix(" rows")
        if not number.isdigit() or int(number) < 1 or isinstance(one, bool):
            raise UsageError(f"budgets: expected tokens, or rows as `150 rows`, got {one!r}")
    if len({str(one) for one in raw}) < len(raw):
        raise UsageError("budgets: one is there more than once")
    return tuple(map(str, raw))


def _seeds(raw: Any) -> tuple[int, ...]:
    if not isinstance(raw, list) or not raw or any(type(one) is not int for one in raw):
        raise UsageError(f"seeds: expected a list of whole numbers, got {raw!r}")
    if len(set(raw)) < len(raw):
        raise UsageError(f"seeds: one is there more than once: {raw}")
    return tuple(map(checked_seed, raw))


def _step(raw: Any) -> Step:
    given = _known(raw, None, "train")
    if len(given) != 1:
        raise UsageError(f"train: expected one `METHOD: {{options}}`, got {raw!r}")
    problems = Problems()
    steps = read_steps([given], problems)
    problems.refuse("train")
    if makes_rows(steps[0].method) or steps[0].method == "reward":
        raise UsageError(f"train: {steps[0].method} trains no policy: take sft, or a loss")
    if "max_tokens" in steps[0].options:
        raise UsageError("train: max_tokens is set by the budgets: use epochs")
    _same_for_all(steps[0].options, "train")
    return steps[0]


def _sft(raw: Any) -> dict[str, Any]:
    given = _known(raw or {}, None, "sft")
    for key in ("epochs", "max_tokens"):
        if key in given:
            raise UsageError(f"sft: {key}: `sft_on_chosen` learns as many tokens as other arms")
    _same_for_all(given, "sft")
    return given


def _same_for_all(given: Mapping[str, Any], where: str) -> None:
    for key, other in (("seed", "seeds"), ("model", "base")):
        if key in given:
            raise UsageError(f"{where}: {key} is set by the arena: use the recipe's `{other}`")


def _heldout(raw: Any) -> dict[str, HeldOut]:
    given = _known(raw, None, "heldout")
    if not given:
        raise UsageError("heldout: name a set at least: NAME: {rows: FILE, measures: [nll]}")
    found = {}
    for name, one in given.items():
        where = f"heldout: {name}"
        check_name(str(name), where)
        fields = _known(one, _HELD_KEYS, where)
        rows = fields.get("rows")
        if not isinstance(rows, str):
            raise UsageError(f"{where}: rows: expected a file (-o heldout.{name}.rows=FILE)")
        limit = _number(fields, "limit", 0, int)
        if limit < 0:
            raise UsageError(f"{where}: limit: expected a number of rows, 0 for all, got {limit}")
        found[str(name)] = HeldOut(rows, _measures(fields.get("measures"), where), limit)
    return found


def _measures(raw: Any, where: str) -> tuple[Measured, ...]:
    named = dict.fromkeys(raw) if isinstance(raw, list) else raw
    if not isinstance(named, dict) or not named or not all(isinstance(one, str) for one in named):
        raise UsageError(f"{where}: measures: expected names, such as [nll], got {raw!r}")
    made = tuple(Measured(name, dict(given or {})) for name, given in named.items())
    for one in made:
        one.made()
    labels = [one.label for one in made]
    twice = next((one for one in labels if labels.count(one) > 1), None)
    if twice is not None:
        raise UsageError(f"{where}: measures: two are called {twice!r}")
    return made


def _templates(raw: Any) -> tuple[str, ...]:
    if raw is None:
        return _TEMPLATES
    if not isinstance(raw, list) or not all(isinstance(one, str) for one in raw):
        raise UsageError(f"templates: expected a list of texts with {{prompt}}, got {raw!r}")
    lacking = next((one for one in raw if "{prompt}" not in one), None)
    if lacking is not None:
        raise UsageError(f"templates: {lacking!r} has no {{prompt}} for the instruction")
    if len(set(raw)) < _LEAST_TEMPLATES:
        raise UsageError(
            f"templates: {_LEAST_TEMPLATES} different ones at least are needed, for the spread "
            f"over phrasings; got {len(set(raw))}"
        )
    return tuple(raw)


def _tested(raw: Any, heldout: Mapping[str, HeldOut]) -> tuple[str, ...]:
    known = [f"{name}/{one.label}" for name, held in heldout.items() for one in held.measures]
    given = [known[0]] if raw is None else raw
    if not isinstance(given, list) or not given:
        raise UsageError(f"tested: expected a list such as [{known[0]}], got {raw!r}")
    for one in given:
        if one not in known:
            raise UsageError(f"tested: there is no {one!r}; {closest(str(one), tuple(known))}")
    if len(set(given)) < len(given):
        raise UsageError(f"tested: one is there more than once: {given}")
    return tuple(given)


def _expect(raw: Any) -> dict[str, float]:
    keys = ("seeds", "prompts", "rest")
    given = _known(raw or {}, keys, "expect")
    if given and set(given) != set(keys):
        raise UsageError(f"expect: set all of {', '.join(keys)}, as shares of the mean")
    return {key: float(_number(given, key, 0.0, float)) for key in given}
