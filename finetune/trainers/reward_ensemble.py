"""Training of several reward models on one set of pairs, for an ensemble that can disagree."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import HeldOutShare, Seed, Within, check_ranges
from siftune.curate.files.atomic import digest_of, read_json, write_json
from siftune.curate.files.outputs import run_folder
from siftune.finetune.core import distributed
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import training_rows
from siftune.finetune.models import loading
from siftune.finetune.reward_models.members import Member, write_members
from siftune.finetune.runs.run_folders import ENSEMBLE_FILES
from siftune.finetune.trainers.reward_model import RewardModel

__all__ = ["RewardEnsemble", "bag_of"]

_COMMAND: Final = "finetune reward_ensemble"
_SPLIT: Final = "split.json"
_SET_HERE: Final = ("model", "seed", "held_out", "eval_rows", "on_bad")


@dataclass(frozen=True)
class RewardEnsemble:
    """``members`` reward models, each trained as by `siftune finetune reward`, in one folder.

    They differ in the seed of their head and of the order of training and, with ``bags``, in their
    pairs: each is trained on a bootstrap sample of the prompts (bagging, Breiman 1996), a prompt
    with all its pairs, drawn as often as there are prompts. All are evaluated on the same held-out
    prompts, whose answers set the level of each (the mean of its scores there). Seeds alone are
    what arXiv:2310.02743 trains; on one pretrained backbone such models agree more than those of
    bags.

    The folder is one reward: ``--reward OUT`` of ppo and `sample`. A member that is finished is not
    trained again, and one that was cut off continues.

    Options:
        model: Backbone of each member: a causal model, an encoder, or a reward model to train
            further, as a folder, a name of `siftune models list`, or a name on the hub.
        members: Number of reward models.
        bags: Train each on a bootstrap sample of the prompts; false trains all on all pairs.
        reward_options: Other options of `siftune finetune reward`, by name, for each member.
    """

    command: ClassVar = "reward_ensemble"
    reads: ClassVar = "pairs"

    model: str
    members: Annotated[int, Within(2)] = 4
    bags: bool = True
    held_out: HeldOutShare = 0.1
    on_bad: training_rows.OnBad = "refuse"
    seed: Seed = 0
    reward_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range, and those of members that are set here."""
        check_ranges(self)
        if twice := [name for name in _SET_HERE if name in self.reward_options]:
            raise ValueError(f"reward_options: {twice[0]} is an option of the ensemble itself")
        if self._trainer(0, None).gate is not None:
            raise ValueError("reward_options: gate: members have one output; leave it out")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train the members on the pairs of ``rows`` and write them into the folder ``out``.

        Raises:
            DataError: pairs cannot be trained on; the text counts and names them.
            UsageError: an option does not fit, or ``out`` holds an ensemble of other pairs.
        """
        table = training_rows.load(rows, ("preference",))
        table = training_rows.drop_bad(table, training_rows.bad_rows(table), self.on_bad, rows)
        with run_folder(out, _COMMAND, ENSEMBLE_FILES):
            self._check_split(table, out)
            train, test = training_rows.held_out(table, self.held_out, self.seed)
            held = None
            if not test.is_empty():
                held = out / "held_out.parquet"
                test.write_parquet(held)
            results = []
            for at in range(self.members):
                distributed.progress(f"member {at + 1} of {self.members}")
                own, path = self._rows(train, at), out / f"rows-{at}.parquet"
                own.write_parquet(path)
                results.append(self._trainer(at, held)(path, out / f"member-{at}"))
            levels = [_level(result.model) for result in results]
            write_members(
                out, [Member(r.model, level) for r, level in zip(results, levels, strict=True)]
            )
        return TrainResult(out, train.height, _means([result.metrics for result in results]))

    def _trainer(self, at: int, held: Path | None) -> RewardModel:
        given = dict(self.reward_options) | {"model": self.model, "on_bad": self.on_bad}
        try:
            return RewardModel(
                **given,
                seed=self.seed + at,
                held_out=0.0,
                eval_rows=None if held is None else str(held),
            )
        except TypeError as error:
            raise UsageError(f"reward_options: {error}") from None

    def _rows(self, train: pl.DataFrame, at: int) -> pl.DataFrame:
        return bag_of(train, self.seed + at) if self.bags else train

    def _check_split(self, table: pl.DataFrame, out: Path) -> None:
        """Refuse a folder with members of other pairs or options."""
        mine = {name: value for name, value in asdict(self).items() if name not in ("model",)}
        data = [loading.model_hash(self.model), training_rows.data_hash(table)]
        key = {"key": digest_of([mine, data])}
        mark = out / _SPLIT
        if mark.is_file() and read_json(mark) != key:
            raise UsageError(
                f"{out} holds an ensemble of other pairs, options or another model: name another "
                "--out"
            )
        write_json(mark, key)


def bag_of(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """A bootstrap sample of the prompts of pairs: each with all its pairs, as often as drawn.

    The copies of a row are told apart by their ids: ``ID``, ``ID#2`` and so on.
    """
    keys = training_rows.prompt_keys(table)
    distinct = sorted(keys.unique())
    drawn = np.random.default_rng([seed, len(distinct)]).integers(len(distinct), size=len(distinct))
    times = dict(zip(distinct, np.bincount(drawn, minlength=len(distinct)).tolist(), strict=True))
    counts = keys.replace_strict(times, return_dtype=pl.Int64)
    parts = []
    for copy in range(1, max(times.values()) + 1):
        part = table.filter(counts >= copy)
        name = pl.col("id") if copy == 1 else pl.concat_str("id", pl.lit(f"#{copy}"))
        parts.append(part.with_columns(name.alias("id")))
    return pl.concat(parts)


def _level(model: Path) -> float:
    """The mean score of the held-out answers; 0 where none were held out."""
    steps = sorted((model / "evaluation").glob("step-*.jsonl"))
    if not steps:
        return 0.0
    both = pl.read_ndjson(steps[-1]).select("reward_chosen", "reward_rejected").drop_nulls()
    return float(both.to_numpy().mean())


def _means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the members of the metrics that all have."""
    shared = [name for name in metrics[0] if all(name in one for one in metrics)]
    return {name: statistics.fmean(one[name] for one in metrics) for name in shared}
