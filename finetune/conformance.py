"""Put anyone's loss on pairs to the tests that our own have to pass."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from curate.core.errors import UsageError
from curate.core.registry import build, checked

if TYPE_CHECKING:
    from finetune.losses.types import PairObjective
    from finetune.oracles.contract import Verdict
    from finetune.oracles.landing import Landing

__all__ = ["Conformance", "Finding", "loss_at", "table_of"]

_LOSSES: Final = "finetune.losses.pair"
_SAME: Final = 1e-9  # relative: equal but for rounding
_KL: Final = 1e-6  # nats
_OPTIMA: Final = (  # those of `finetune.oracles.landing`, which imports torch
    "reference",
    "boltzmann",
    "least_squares",
    "no_reference",
    "winners",
    "length_priced",
    "per_token",
)


@dataclass(frozen=True)
class Finding:
    """One line of the table: a check, how it ended (ok, failed, skipped, told) and what it saw."""

    check: str
    fate: str
    detail: str


@dataclass(frozen=True)
class Conformance:
    """The whole suite on one loss: a class with options, an object, or a plain function.

    The loss is named as MODULE:NAME (a module that can be imported from here, or a ``.py`` file),
    or by the name of one of ours. It takes a `finetune.losses.types.PairLogps` and gives a
    ``PairLoss``; what it needs it declares as our losses do (``needs_reference``, ...), a function
    by attributes.

    Checked: one loss a pair, declarations, the gradient in float64, neighbours, a batch of n is its
    n pairs, their order, exchanged sides, the direction, log-ratios of ten thousand nats. Then the
    loss is trained to its end on seven responses whose rewards are known: which closed form does
    it land on, and how far is that from ``π_ref · exp(r / β)``; and the objective of ours that is
    nearest is named. A loss may land anywhere, so these are only told, unless ``optimum`` or
    ``like`` (one of our objectives) says what it is meant to be.
    """

    optimum: str | None = None
    like: str | None = None

    def __post_init__(self) -> None:
        """Refuse an optimum that is not known."""
        if self.optimum is not None and self.optimum not in _OPTIMA:
            raise ValueError(f"optimum: expected one of {', '.join(_OPTIMA)}, got {self.optimum}")

    def __call__(self, loss: PairObjective) -> list[Finding]:
        """The findings, in order; none is ``failed`` if the loss conforms."""
        from finetune.oracles.contract import CHECKS

        found: list[Finding] = []
        for name, check in CHECKS.items():
            found.append(_tried(name, partial(check, loss)))
            if found[-1].fate == "failed" and len(found) <= _FIRST:
                return [*found, Finding("all others", "skipped", "they would mean nothing")]
        return [*found, *_guarded("lands", lambda: self._landed(loss)), *self._neighbour(loss)]

    def _landed(self, loss: PairObjective) -> list[Finding]:
        from finetune.oracles.landing import OPTIMA, landing, no_bandit

        reason = no_bandit(loss)
        if reason is not None:
            fate = "skipped" if self.optimum is None else "failed"
            return [Finding("lands", fate, reason)]
        seen = landing(loss)
        told = _told(seen, OPTIMA)
        if self.optimum is None:
            return [Finding("lands", "told", told)]
        right = seen.form == self.optimum
        if self.optimum == "boltzmann" and seen.to_boltzmann is not None:
            right = right and seen.to_boltzmann <= _KL
        return [Finding("lands", "ok" if right else "failed", told)]

    def _neighbour(self, loss: PairObjective) -> list[Finding]:
        from finetune.oracles.landing import nearest

        def look() -> list[Finding]:
            name, distance = nearest(loss)
            same = distance <= _SAME
            told = f"equals {name}" if same else f"{name}, {distance:.2g} of its size away"
            if self.like is None:
                return [Finding("nearest", "told", told)]
            apart = _apart(loss, self.like)
            if apart <= _SAME:
                return [Finding("nearest", "ok", f"equals {self.like}")]
            return [Finding("nearest", "failed", f"{apart:.2g} from {self.like}; nearest: {told}")]

        return _guarded("nearest", look)


_FIRST: Final = 2  # checks without which the others mean nothing


def _apart(loss: PairObjective, name: str) -> float:
    """How far apart the losses are, with the β of ``loss`` where both have one."""
    from finetune.oracles.landing import distance

    beta = getattr(loss, "beta", None)
    return distance(loss, build(_LOSSES, name, {} if beta is None else {"beta": beta}))


def _tried(name: str, check: Callable[[], Verdict]) -> Finding:
    found = _guarded(name, lambda: [Finding(name, (seen := check()).fate, seen.detail)])
    return found[0]


def _guarded(name: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What is found; an error of the loss, which is not ours, is a finding too."""
    try:
        return look()
    except UsageError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        return [Finding(name, "failed", f"{type(error).__name__}: {first}")]


def _told(seen: Landing, forms: Mapping[Any, str]) -> str:
    form = "no known optimum" if seen.form is None else f"{seen.form}: {forms[seen.form]}"
    numbers = {"b": seen.scale, "a": seen.price} if seen.form is not None else {}
    shown = "".join(f", {name} {value:.4g}" for name, value in numbers.items() if value is not None)
    if seen.to_boltzmann is None:
        return f"{form}{shown}"
    return f"{form}{shown}; KL to π_ref·exp(r/β) {max(0.0, seen.to_boltzmann):.2g}"


def loss_at(target: str, options: Mapping[str, Any]) -> PairObjective:
    """The loss named ``MODULE:NAME``, ``FILE.py:NAME``, or by one of our names; with its options.

    Raises:
        UsageError: there is no such module or name, or it is nothing that can be called.
    """
    place, colon, name = target.rpartition(":")
    if not colon:
        ours: PairObjective = build(_LOSSES, target, options)
        return ours
    module = _module(place)
    if not hasattr(module, name):
        raise UsageError(f"{place} holds no {name!r}")
    found = getattr(module, name)
    if isinstance(found, type):
        built: PairObjective = checked(found, options, name)
        return built
    if options:
        raise UsageError(f"{target} is no class: it takes no options")
    if not callable(found):
        raise UsageError(f"{target} cannot be called: expected a loss, got {type(found).__name__}")
    loss: PairObjective = found
    return loss


def _module(place: str) -> Any:
    try:
        if not place.endswith(".py"):
            sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(place)
        path = Path(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise UsageError(f"no file {place}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # dataclasses look themselves up here
        spec.loader.exec_module(module)
    except ImportError as error:
        raise UsageError(f"{place} cannot be imported: {error}") from None
    return module


def table_of(findings: Sequence[Finding]) -> str:
    """The findings as lines of text, and how many failed."""
    wide = max(len(one.check) for one in findings)
    lines = [f"{one.check:{wide}}  {one.fate:7}  {one.detail}".rstrip() for one in findings]
    failed = sum(one.fate == "failed" for one in findings)
    return "\n".join([*lines, f"{failed} failed" if failed else "conforms"])
