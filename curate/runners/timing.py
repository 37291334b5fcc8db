"""Measured cost of stages: in earlier runs, or timed on the first rows; models on very few."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from siftune.curate.core.errors import SiftuneError, UsageError
from siftune.curate.files.atomic import read_json
from siftune.curate.runs.recipe import Recipe, Spec, component
from siftune.curate.runs.run_manifest import is_manifest

__all__ = [
    "Loaded",
    "PriorStage",
    "Sampled",
    "Trial",
    "loads_model",
    "models_tried",
    "prior_stages",
    "sampled",
]

Trial: TypeAlias = Callable[[Recipe, Path], Mapping[str, Any]]
"""Runs a recipe in a folder and gives the manifest."""

_FIRST: Final = 64  # rows of a trial that only loads code and files
_SIZES: Final = (256, 1024, 4096, 16_384)  # rows of those that are timed, as time allows
_SECONDS: Final = 1.5  # CPU seconds that a trial may be expected to take
_REPEATS: Final = 3  # of a trial that took longer than expected
_BESIDE: Final = 20  # run folders that are searched, the newest
_MODEL_SIZES: Final = (8, 32, 128, 512)  # rows; the first trial also loads, and does not count
_MODEL_SECONDS: Final = 2.0  # CPU seconds that a trial may be expected to take
_NOT_TRIED: Final = {
    "model": "it loads a model, and there are few rows",
    "against": "it reads a reference",
    "index": "it adds to an index",
    "judge": "it asks a judge",
}


@dataclass(frozen=True)
class Sampled:
    """Manifests of trials on more and more rows; ``places`` are the stages that were timed.

    Places count from 0, ingest; the last, after all stages, is the writing of the outputs.
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
        """The basis of the rate, in words."""
        return f"timed on the first {self.rows:,} rows"

    def rows_of(self, records: int) -> int | None:
        """Number of rows that so many records give (some none, trees several); None: one each."""
        facts = self.manifests[-1]["stages"][0]
        if facts["kept"] == facts["rows_in"]:
            return None
        rows: int = round(records * facts["kept"] / facts["rows_in"])
        return rows

    def kept(self, place: int, rows: int) -> float:
        """Number of rows that the selector at ``place`` keeps of so many.

        Beyond the rows of the last trial it keeps the share of those that this trial had more than
        the one before it: none, where a budget or quotas were spent by then.
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
        """CPU seconds for so many rows, by the difference of the last two trials per row.

        So fixed costs are not counted per row. Of a single trial all seconds count per row.
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
        """Position of a stage among the timed ones; the outputs are last."""
        return self.places.index(place) if place in self.places else len(self.places)


def sampled(recipe: Recipe, rows: int, trial: Trial) -> Sampled | None:
    """Time the stages of ``recipe``, which has so many rows, on more and more of them.

    None where the first of many rows are all quarantined.
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
    """Add trials of more and more rows, as long as they are expected to be quick."""
    if _took(manifests[0]) * _SIZES[1] / _SIZES[0] > _SECONDS:
        manifests.insert(0, of(_FIRST))  # again, warm: to separate fixed costs from costs per row
    for before, size in pairwise(_SIZES):
        if rows < size:
            break
        if _expected(manifests, size) > _SECONDS:  # the trial may have compiled or loaded something
            manifests[-1] = _quickest([manifests[-1], of(before)])
        expected = _expected(manifests, size)
        if expected > _SECONDS:
            break
        tries = [of(size)]
        while _took(tries[-1]) > 2 * expected and len(tries) <= _REPEATS:
            tries.append(of(size))  # a loop may have been compiled or loaded just now
        manifests.append(_quickest(tries))


def _quickest(tries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Trials of the same rows as one, with the least time of each stage."""
    clocks = [one["clock"] for one in tries]
    least = {
        label: {"cpu_seconds": min(clock[label]["cpu_seconds"] for clock in clocks)}
        for label in clocks[0]
    }
    return {**tries[0], "clock": least}


def _expected(manifests: Sequence[Mapping[str, Any]], rows: int) -> float:
    """CPU seconds of a trial of so many rows, by the last two; of a single one, per row.

    Starting a run may take more than its first thousand rows, and is counted once.
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
    """Stages that are not timed, and why; with those that need their columns."""
    found: dict[int, str] = {}
    lost: set[str] = set()
    for at, spec in enumerate(recipe.stages, 1):
        made = component(spec, recipe.seed)
        options = made.__dataclass_fields__
        why = ["it trains a model first"] if getattr(made, "trains", False) else []
        why += [
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


@dataclass(frozen=True)
class Loaded:
    """CPU seconds of loading a model, and of each of the ``rows`` of the last trial."""

    loading: float
    per_row: float
    rows: int

    @property
    def how(self) -> str:
        """The basis of the rate, in words."""
        return f"model loaded, timed on the first {self.rows:,} rows"

    def seconds(self, rows: int) -> float:
        """CPU seconds for so many rows."""
        return self.loading + self.per_row * rows


def loads_model(spec: Spec, seed: int) -> bool:
    """Whether a stage scores under a model that it does not train first."""
    made = component(spec, seed)
    known = "model" in made.__dataclass_fields__ and not getattr(made, "trains", False)
    return spec.group == "score" and known


def models_tried(
    recipe: Recipe, places: Iterable[int], rows: int, trial: Trial
) -> dict[int, Loaded]:
    """Time each stage at one of ``places`` (1 is the first), alone, on the first rows.

    Stages that read what an earlier stage adds are left out. One that shares the forward passes of
    an earlier stage (`forward_pass`) is timed after that one, and so without them. The model stays
    loaded in this process, so that a run that follows does not load it again.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for at in places:
            with suppress(SiftuneError):
                found[at] = _tried(recipe, at, rows, trial, Path(folder))
    return found


def _tried(recipe: Recipe, at: int, rows: int, trial: Trial, folder: Path) -> Loaded:
    numbers = count()
    stages = (*_sharing(recipe, at), recipe.stages[at - 1])

    def took(size: int) -> float:
        alone = replace(recipe, limit=size, stages=stages)
        manifest = trial(alone, folder / f"{at}-{next(numbers)}")
        return float(manifest["clock"][manifest["stages"][-1]["stage"]]["cpu_seconds"])

    size, *larger = [size for size in _MODEL_SIZES if size <= rows] or [rows]
    with_loading, spent = took(size), took(size)
    for more in larger:
        if spent * more / size > _MODEL_SECONDS:
            break
        size, spent = more, took(more)
    return Loaded(max(0.0, with_loading - spent), spent / size, size)


def _sharing(recipe: Recipe, at: int) -> tuple[Spec, ...]:
    """The first stage before the one at ``at`` that runs the same rows through the same model."""

    def runs(spec: Spec) -> tuple[Any, ...]:
        own = getattr(component(spec, recipe.seed), "forward_pass", ())
        return (*own, spec.sides, spec.turns) if own else ()

    wanted = runs(recipe.stages[at - 1])
    same = [spec for spec in recipe.stages[: at - 1] if wanted and runs(spec) == wanted]
    return tuple(same[:1])


@dataclass(frozen=True)
class PriorStage:
    """CPU seconds of a stage in an earlier run, and its rows."""

    cpu_seconds: float
    rows: int
    how: str
    kept: int | None = None  # rows, by a selector


def prior_stages(recipe: Recipe, out: Path) -> dict[int, PriorStage]:
    """Stages of ``recipe`` in earlier runs: in ``out``, or in a folder beside it.

    Keys are 0 for ingest, found by source and format; then the stages, found by their component and
    all its options; last the outputs, found by all stages together.
    """
    found: dict[int, PriorStage] = {}
    for folder, manifest in _manifests(out):
        for at in range(len(recipe.stages) + 2):
            place = _place(recipe, at, manifest["recipe"])
            one = None if place is None else _prior_stage(manifest, place, folder)
            if at not in found and one is not None:
                found[at] = one
    return found


def _place(recipe: Recipe, at: int, then: Mapping[str, Any]) -> int | None:
    """Position in the other recipe of what this one has at ``at``; None if it has none."""
    stages = [_plain(asdict(spec)) for spec in recipe.stages]
    if at == 0:
        source = _plain([recipe.source, recipe.format])
        return 0 if source == [then["source"], then["format"]] else None
    if at > len(stages):
        return at if stages == then["stages"] else None
    same = [place for place, other in enumerate(then["stages"], 1) if other == stages[at - 1]]
    return same[0] if same else None


def _prior_stage(manifest: Mapping[str, Any], place: int, folder: Path) -> PriorStage | None:
    """The time of a position in a manifest; None if the manifest has no time or no row of it."""
    stages = manifest["stages"]
    label = stages[place]["stage"] if place < len(stages) else "outputs"
    took = manifest["clock"].get(label, {}).get("cpu_seconds")
    rows = stages[place]["rows"] if 0 < place < len(stages) else stages[0]["rows_in"]
    known = took is not None and rows
    kept = stages[place].get("kept") if 0 < place < len(stages) else None
    return PriorStage(took, rows, f"as in {folder} on {rows:,} rows", kept) if known else None


def _manifests(out: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The manifest in ``out`` and those in the folders beside it, the newest first."""
    beside = [path for path in out.parent.glob("*/manifest.json") if path.parent != out]
    newest = sorted(beside, key=lambda path: path.stat().st_mtime, reverse=True)[:_BESIDE]
    for path in [out / "manifest.json", *newest]:
        if path.is_file() and (manifest := _manifest_in(path)) is not None:
            yield path.parent, manifest


def _manifest_in(path: Path) -> Mapping[str, Any] | None:
    """A manifest of ours, else None: other tools have files of this name, too."""
    try:
        found = read_json(path)
    except (UsageError, OSError):
        return None
    return found if is_manifest(found) else None


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))
