"""Components by name, to be used alone: on frames, tensors and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from siftune.curate.core.adapted import Checked
from siftune.curate.core.component_calls import PlainCall
from siftune.curate.core.custom import component, name_and_options
from siftune.curate.core.errors import UsageError, quoted
from siftune.curate.core.registry import (
    build,
    class_name,
    closest,
    find,
    has,
    long_name,
    names,
    own_names,
)
from siftune.finetune.core.methods import FAMILIES, advice_on_method, family_of, objectives
from siftune.session import as_option, as_options, python_errors

__all__ = ["exported", "loss", "reward", "scorer", "selector"]


@python_errors()
def scorer(what: str | Callable[..., Any], /, **options: Any) -> Callable[..., Any]:
    """A scorer: called with a frame it gives the columns that it adds, a row for each.

    >>> import polars as pl
    >>> frame = pl.DataFrame({"prompt": ["2+2?"], "response": ["It is 4."]})
    >>> scorer("length")(frame)["length_words"].to_list()
    [3]

    Raises:
        UsageError: no such scorer or option.
    """
    return _alone("curate.scorers", component("curate.scorers", what, as_options(options)))


@python_errors()
def selector(what: str | Callable[..., Any], /, **options: Any) -> Callable[..., Any]:
    """A selector: called with a frame it gives ``keep``, ``reason`` and ``detail`` of each row.

    >>> import polars as pl
    >>> selector("top_k", by="score", rows=1)(pl.DataFrame({"score": [0.1, 0.9]}))["keep"].to_list()
    [False, True]

    Raises:
        UsageError: no such selector or option.
    """
    what = long_name("curate.selectors", what) if isinstance(what, str) else what
    return _alone("curate.selectors", component("curate.selectors", what, as_options(options)))


@python_errors()
def loss(what: str | Callable[..., Any], /, **options: Any) -> Callable[..., Any]:
    """A training objective: called with log-probabilities it gives one loss a pair or completion.

    >>> loss("dpo", beta=1.0)(policy=(-6.0, -9.0), ref=(-5.0, -7.0)).loss  # -log σ(-1 + 2)
    tensor([0.3133], dtype=torch.float64)

    Raises:
        UsageError: no such objective or option.
    """
    if not isinstance(what, str) and not callable(what):
        raise UsageError(f"expected the name of an objective or a function, got {quoted(what)}")
    name, own = name_and_options(what)
    group = family_of(name)
    if group is None:
        raise UsageError(f"no objective is called {what!r}; {advice_on_method(what, objectives())}")
    return _alone(group, build(group, name, {**own, **as_options(options)}))


@python_errors()
def reward(
    what: str | Mapping[str, Any] | Callable[..., Any], /, **options: Any
) -> Callable[..., Any]:
    """A reward: called with prompts and completions it gives a number, or None, for each.

    A folder, or what `siftune.train.reward` returned, is a reward model; a mapping of names to
    weights is several, whose weighted sum is given.

    >>> reward("length", target=4)(["2+2?"], ["It is 4."])
    [-0.25]

    Raises:
        UsageError: no such reward or option.
    """
    if isinstance(what, Mapping):
        what, options = "several", {"rewards": what, **options}
    folder = as_option(what)
    if isinstance(folder, str) and not has("finetune.rewards", folder) and Path(folder).is_dir():
        what, options = "reward_model", {"model": folder, **options}
    return _alone("finetune.rewards", component("finetune.rewards", what, as_options(options)))


def _alone(group: str, made: Any) -> Callable[..., Any]:
    """A component that takes plain input: ours do already, and a user's own is adapted."""
    found: Callable[..., Any] = made
    return PlainCall(made, f"siftune.{group}") if isinstance(made, Checked) else found


LOSSES: Final = tuple(FAMILIES)


@cache
def exported(groups: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The classes of components by name, each with its group and component; nothing is imported."""
    found: dict[str, tuple[str, str]] = {}
    every = [(group, name) for group in groups for name in names(group)]
    for group, name in sorted(every, key=lambda one: one[1] not in own_names(one[0])):
        if made := class_name(group, name):
            found.setdefault(made, (group, name))  # ours before those of other packages
    return found


def component_class(module: str, groups: tuple[str, ...], name: str) -> type[Any]:
    """The component class called ``name``, for the module that offers those of ``groups``.

    Raises:
        AttributeError: there is none; the text names the closest.
    """
    known = exported(groups)
    if name in known:
        return find(*known[name])
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(f"{module} has no {name!r}; {closest(name, known)}")
