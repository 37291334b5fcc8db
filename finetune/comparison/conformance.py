"""Conformance suite: any loss is run through the checks that our own losses pass."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build, checked
from siftune.finetune.core.methods import given_to

if TYPE_CHECKING:
    from siftune.finetune.oracles.bandit_optimum import Draw, Landing
    from siftune.finetune.oracles.check_results import Check, Verdict

__all__ = ["Conformance", "Finding", "loss_at", "table_of"]

_LOSSES: Final = "finetune.losses.pair"
_SAME: Final = 1e-9  # relative: equal but for rounding
_IN: Final = " (in value or gradient)"
_KL: Final = 1e-6  # nats
_OPTIMA: Final = (  # those of `oracles.landing`, which imports torch
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
    """One line of the table: a check, its result (ok, failed, skipped, noted) and the details."""

    check: str
    fate: str
    detail: str


@dataclass(frozen=True)
class Conformance:
    """The whole suite on one loss: a class with options, an object, or a plain function.

    The loss is named as MODULE:NAME (a module that can be imported from here, or a ``.py`` file),
    or by the name of one of ours. What it is ``given`` is read from the type of its argument
    (`types.PairLogps`, ``answer_types.AnswerLogps``, ``list_types.ListLogps``), or
    by ``given``: pairs, answers or lists. What it needs it declares as our losses do
    (``needs_reference``, ...), a function by attributes.

    Checked: one loss a row, declarations, the gradient in float64, neighbours, a batch of n is its
    n rows, their order, the direction, log-ratios of ten thousand nats; of pairs, exchanged sides;
    of answers, labels, and what is averaged over a step; of lists, what is absent. The objective of
    ours that is nearest, in value and gradient, is named. A loss on pairs is then trained to its
    end on seven responses whose rewards are known: which closed form does it land on, and how far
    is that from ``π_ref · exp(r / β)``? A loss may land anywhere, so these are only noted, unless
    ``optimum`` or ``like`` (one of our objectives) names what it is meant to be.

    Options:
        given: What the loss is called with; by default what its type annotation asks for.
        optimum: Closed form of the optimum that training with the loss has to reach.
        like: Objective of ours that the loss has to equal.
    """

    given: Literal["pairs", "answers", "lists"] | None = None
    optimum: str | None = None
    like: str | None = None

    def __post_init__(self) -> None:
        """Refuse an optimum that is not known."""
        if self.optimum is not None and self.optimum not in _OPTIMA:
            raise ValueError(f"optimum: expected one of {', '.join(_OPTIMA)}, got {self.optimum}")

    def __call__(self, loss: Any) -> list[Finding]:
        """The findings, in order; none is ``failed`` if the loss conforms."""
        family = self.given or given_to(loss)
        found: list[Finding] = []
        for name, check in _checks(family).items():
            found.append(_tried(name, partial(check, loss)))
            if found[-1].fate == "failed" and len(found) <= _FIRST:
                return [*found, Finding("all others", "skipped", "they would mean nothing")]
        landed = _guarded("lands", lambda: self._landed(loss, family))
        return [*found, *landed, *self._neighbour(loss, family)]

    def _landed(self, loss: Any, family: str) -> list[Finding]:
        from siftune.finetune.oracles.bandit_optimum import OPTIMA, landing, no_bandit

        reason = no_bandit(loss) if family == "pairs" else f"the bandit gives pairs, not {family}"
        if reason is not None:
            fate = "skipped" if self.optimum is None else "failed"
            return [Finding("lands", fate, reason)]
        seen = landing(loss)
        detail = _described(seen, OPTIMA)
        if self.optimum is None:
            return [Finding("lands", "noted", detail)]
        right = seen.form == self.optimum and (seen.scale is None or seen.scale > 0)
        if self.optimum == "boltzmann" and seen.to_boltzmann is not None:
            right = right and seen.to_boltzmann <= _KL
        return [Finding("lands", "ok" if right else "failed", detail)]

    def _neighbour(self, loss: Any, family: str) -> list[Finding]:
        from siftune.finetune.oracles.bandit_optimum import nearest

        def look() -> list[Finding]:
            groups, draw = _registered(family)
            name, distance = nearest(loss, groups, draw)
            same = distance <= _SAME
            detail = f"equals {name}" if same else f"{name}, {distance:.2g} of its size away{_IN}"
            if self.like is None:
                return [Finding("nearest", "noted", detail)]
            apart = _apart(loss, self.like, family)
            if apart <= _SAME:
                return [Finding("nearest", "ok", f"equals {self.like}")]
            off = f"{apart:.2g} from {self.like}{_IN}"
            return [Finding("nearest", "failed", f"{off}; nearest: {detail}")]

        return _guarded("nearest", look)


def _checks(family: str) -> Mapping[str, Check]:
    from siftune.finetune.oracles import answers, contract, lists

    checks: Mapping[str, Check] = {
        "pairs": contract.CHECKS,
        "answers": answers.CHECKS,
        "lists": lists.CHECKS,
    }[family]
    return checks


def _registered(family: str) -> tuple[Sequence[str], Draw | None]:
    """Our objectives of a family, and a batch for them; pairs have one of their own."""
    from siftune.finetune.oracles import answers, lists
    from siftune.finetune.oracles.bandit_optimum import Draw
    from siftune.finetune.training.build_loss import ANSWERS, LISTS

    if family == "answers":
        policy, reference = answers.log_probs(seed=7, scale=4.0)
        return ANSWERS, Draw(policy, lambda loss, given: answers.batch_of(loss, given, reference))
    if family == "lists":
        policy, reference = lists.log_probs(seed=7)
        return LISTS, Draw(policy, lambda loss, given: lists.batch_of(loss, given, reference))
    return (_LOSSES,), None


_FIRST: Final = 2  # checks without which the others mean nothing


def _apart(loss: Any, name: str, family: str) -> float:
    """How far apart the losses are, with the β of ``loss`` where both have one."""
    from siftune.finetune.oracles.bandit_optimum import distance
    from siftune.finetune.training.build_loss import group_of

    groups, draw = _registered(family)
    beta = getattr(loss, "beta", None)
    given = {} if beta is None else {"beta": beta}
    return distance(loss, build(group_of(name, groups), name, given), draw)


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


def _described(seen: Landing, forms: Mapping[Any, str]) -> str:
    form = "no known optimum" if seen.form is None else f"{seen.form}: {forms[seen.form]}"
    numbers = {"b": seen.scale, "a": seen.price} if seen.form is not None else {}
    shown = "".join(f", {name} {value:.4g}" for name, value in numbers.items() if value is not None)
    if seen.to_boltzmann is None:
        return f"{form}{shown}"
    return f"{form}{shown}; KL to π_ref·exp(r/β) {max(0.0, seen.to_boltzmann):.2g}"


def loss_at(target: str, options: Mapping[str, Any]) -> Any:
    """The loss named ``MODULE:NAME``, ``FILE.py:NAME``, or by one of our names; with its options.

    Raises:
        UsageError: there is no such module or name, or it is nothing that can be called.
    """
    from siftune.finetune.training.build_loss import ANSWERS, LISTS, group_of

    place, colon, name = target.rpartition(":")
    if not colon:
        return build(group_of(target, (_LOSSES, *ANSWERS, *LISTS)), target, options)
    module = _module(place)
    if not hasattr(module, name):
        raise UsageError(f"{place} holds no {name!r}")
    found = getattr(module, name)
    if isinstance(found, type):
        return checked(found, options, name)
    if options:
        raise UsageError(f"{target} is no class: it takes no options")
    if not callable(found):
        raise UsageError(f"{target} cannot be called: expected a loss, got {type(found).__name__}")
    return found


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
