"""Stages timed on the first rows of a source, in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

from siftune.curate.core.errors import SiftuneError
from siftune.curate.runners.row_counts import Records
from siftune.curate.runs.recipe import Recipe, component

__all__ = ["Sampled", "Trial", "sampled"]

Trial: TypeAlias = Callable[[Recipe, Path], Mapping[str, Any]]
"""Runs a recipe in a folder and gives the manifest."""

_FIRST: Final = 64  # rows of a trial that only starts things up
_SIZES: Final = (256, 1024, 4096, 16_384)  # rows of those that are timed, as time allows
_SECONDS: Final = 1.5  # CPU seconds that a trial may be expected to take
_REPEATS: Final = 3  # of a trial that took longer than expected
_NOT_TRIED: Final = {
    "model": "it loads a model, and there are few rows",
    "against": "it reads a reference",
    "index": "it adds to an index",
}


@dataclass(frozen=True)
class Sampled:
    """The manifests of trials of more and more rows; ``places`` are the stages that were tried.

    Places count from 0, ingest; the last, behind all stages, is the writing of the outputs.
    """

    manifests: list[Mapping[str, Any]]
    places: list[int]
    not_tried: dict[int, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Records that the last trial read."""
        return _read(self.manifests[-1])

    @property
    def how(self) -> str:
        """How a rate was found."""
        return f"timed on the first {self.rows:,} rows"

    def scaled(self, records: Records) -> Records:
        """The rows that so many records give: some give none, and trees several."""
        facts = self.manifests[-1]["stages"][0]
        if facts["kept"] == facts["rows_in"]:
            return records
        return Records(round(records.count * facts["kept"] / facts["rows_in"]), counted=False)

    def kept(self, place: int, rows: int) -> float:
        """The rows that the selector at ``place`` keeps of so many.

        Beyond those of the last trial it keeps the share of what that trial had more than the one
        before it: none, where a budget or quotas were spent by then.
        """
        (few, fewer), (many, more) = [
            (self._given(manifest, place), self._facts(manifest, place)["kept"])
            for manifest in (self.manifests[-2:] * 2)[:2]
        ]
        if rows <= many or many <= few:
            return float(more / max(many, 1) * rows)
        return float(min(rows, more + max(0, more - fewer) / (many - few) * (rows - many)))

    def tokens_a_row(self, place: int) -> float | None:
        """Tokens of each row that the token budget at ``place`` kept; None if it kept none."""
        facts = self._facts(self.manifests[-1], place)
        tokens = facts.get("measured", {}).get("tokens")
        return tokens / facts["kept"] if tokens else None

    def _facts(self, manifest: Mapping[str, Any], place: int) -> Mapping[str, Any]:
        facts: Mapping[str, Any] = manifest["stages"][self._at(place)]
        return facts

    def seconds(self, place: int, rows: int) -> float:
        """CPU seconds for so many rows: a row costs what each that the last trial had more did.

        So what is paid once is not paid for each row. Of a single trial all seconds count.
        """
        (few, before), (many, after) = [
            (self._given(manifest, place), self._clock(manifest, place))
            for manifest in (self.manifests[-2:] * 2)[:2]
        ]
        if many <= few or after <= before:
            return after / max(many, 1) * rows
        rate = (after - before) / (many - few)
        return max(0.0, after - rate * many) + rate * rows

    def _clock(self, manifest: Mapping[str, Any], place: int) -> float:
        at, stages = self._at(place), manifest["stages"]
        label = stages[at]["stage"] if at < len(stages) else "outputs"
        return float(manifest["clock"][label]["cpu_seconds"])

    def _given(self, manifest: Mapping[str, Any], place: int) -> int:
        stages = manifest["stages"]
        at = self._at(place)
        if at == len(stages):
            return int(stages[0]["kept"])
        return int(stages[at]["rows_in" if at == 0 else "rows"])

    def _at(self, place: int) -> int:
        """Where a stage stands among those tried; the outputs come behind them."""
        return self.places.index(place) if place in self.places else len(self.places)


def sampled(recipe: Recipe, rows: int, trial: Trial) -> Sampled | None:
    """Try what can be tried of ``recipe``, which has so many rows, on more and more of them.

    None where the first of many rows are all set aside.
    """
    not_tried = _untried(recipe)
    places = [at for at in range(len(recipe.stages) + 1) if at not in not_tried]
    with tempfile.TemporaryDirectory() as folder:
        numbers = count()

        def of(most: int) -> Mapping[str, Any]:
            stages = tuple(recipe.stages[at - 1] for at in places[1:])
            some = replace(recipe, limit=max(1, min(most, rows)), stages=stages)
            return trial(some, Path(folder) / str(next(numbers)))

        while True:
            try:
                of(_FIRST)
                manifests = [of(_SIZES[0])]
                break
            except SiftuneError as error:
                if len(places) == 1 and rows > _FIRST:
                    return None
                if len(places) == 1:
                    raise
                not_tried[places.pop()] = f"a few rows are not enough ({error})"
        _add_larger(manifests, of, rows)
    return Sampled(manifests, places, not_tried)


def _add_larger(
    manifests: list[Mapping[str, Any]], of: Callable[[int], Mapping[str, Any]], rows: int
) -> None:
    """Trials of more and more rows behind the first, as long as they are expected to be quick."""
    if _took(manifests[0]) * _SIZES[1] / _SIZES[0] > _SECONDS:
        manifests.insert(0, of(_FIRST))  # again, warm: is it the rows that take the time?
    for before, size in pairwise(_SIZES):
        if rows < size:
            break
        if _expected(manifests, size) > _SECONDS:  # or was something compiled or loaded amid it?
            manifests[-1] = _quickest([manifests[-1], of(before)])
        expected = _expected(manifests, size)
        if expected > _SECONDS:
            break
        tries = [of(size)]
        while _took(tries[-1]) > 2 * expected and len(tries) <= _REPEATS:
            tries.append(of(size))  # a loop was compiled or loaded just now, or another one is
        manifests.append(_quickest(tries))


def _quickest(tries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Tries of the same rows as one, with the least that each stage took."""
    clocks = [one["clock"] for one in tries]
    least = {
        label: {"cpu_seconds": min(clock[label]["cpu_seconds"] for clock in clocks)}
        for label in clocks[0]
    }
    return {**tries[0], "clock": least}


def _expected(manifests: Sequence[Mapping[str, Any]], rows: int) -> float:
    """CPU seconds of a trial of so many rows, by the last two; of a single one each row counts.

    Starting a run may take more than its first thousand rows, and is paid once.
    """
    last, most = _took(manifests[-1]), _read(manifests[-1])
    if len(manifests) < 2:
        return last * rows / max(most, 1)
    a_row = max(0.0, last - _took(manifests[-2])) / max(most - _read(manifests[-2]), 1)
    return last + a_row * (rows - most)


def _read(manifest: Mapping[str, Any]) -> int:
    """Records that a trial read."""
    return int(manifest["stages"][0]["rows_in"])


def _took(manifest: Mapping[str, Any]) -> float:
    return float(sum(clock["cpu_seconds"] for clock in manifest["clock"].values()))


def _untried(recipe: Recipe) -> dict[int, str]:
    """Stages that a trial leaves out, and why; what needs their columns is left out too."""
    found: dict[int, str] = {}
    lost: set[str] = set()
    for at, spec in enumerate(recipe.stages, 1):
        made = component(spec, recipe.seed)
        options = made.__dataclass_fields__
        why = [
            reason
            for name, reason in _NOT_TRIED.items()
            if name in options and (name == "model" or getattr(made, name))
        ]
        missing = lost & {
            name.removeprefix("chosen_").removeprefix("rejected_") for name in made.needs
        }
        if why or missing:
            found[at] = why[0] if why else f"it needs {sorted(missing)[0]}"
            lost |= set(getattr(made, "adds", ()))
    return found
