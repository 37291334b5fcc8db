"""Training of a judge from labelled rows: a calibrated classifier, or one that writes (Con-J)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from siftune.curate.core.errors import UsageError
from siftune.curate.core.ranges import (
    Count,
    HeldOutShare,
    Natural,
    Positive,
    Rank,
    Seed,
    check_ranges,
)
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import training_rows
from siftune.finetune.judge_training import con_j
from siftune.finetune.judge_training.judged import judge_of_pairs, judge_of_rows
from siftune.finetune.judge_training.labels import LABEL, Labels, read_labels
from siftune.finetune.judge_training.ratings import Ratings
from siftune.finetune.models import loading
from siftune.finetune.models.precision import Precision, formats
from siftune.finetune.models.saving import command_line
from siftune.finetune.runs.resumable_run import Run
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.trainers.reward_model import RewardModel

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Judge"]

JudgeKind: TypeAlias = Literal["classifier", "con_j"]
RatingModel: TypeAlias = Literal["regression", "classes"]
Calibrating: TypeAlias = Literal["platt", "linear", "isotonic"]

_MOST_CLASSES: Final = 20
_SHARED: Final = ("model", "epochs", "batch_size", "micro_tokens", "max_length", "lora")
_SHARED_MORE: Final = ("lora_alpha", "on_bad", "save_every", "log_every", "seed", "precision")
_RATES: Final = {"classifier": 5e-5, "con_j": 1e-6}
_ADAPTER_RATE: Final = 1e-4


@dataclass(frozen=True)
class Judge:
    """A judge for ``--judge FOLDER``, calibrated on the rows of prompts that are held out.

    ``classifier``: a head on a causal model or an encoder. Of preference pairs and ranked lists it
    learns which answer is better (Bradley-Terry, as `reward`); of rows with a label ratings, or yes
    and no. Labels are named as in `siftune curate fit-quality`. ``con_j``: a chat model that writes
    its reasons before a verdict, trained by DPO on its own judgements of pairs, right ones against
    wrong ones, in both orders, with the SFT loss beside it (Ye et al. 2024, arXiv:2410.03742).

    The calibration makes probabilities of log-odds (Platt's curve; of pairs without an offset, so
    that order does not matter), and corrects ratings by a line in the range of labels. It is fitted
    on the held-out rows, its figures by five folds of them, each without the others' rows. They are
    in ``judge.json`` in the folder, with 95 % intervals. ``calibration_error`` is the root mean
    square distance of probability and frequency, ``…_before`` that without the calibration.

    Options:
        model: Model to start from, as a folder, a name of `siftune models list`, or a name on the
            hub: a causal model, an encoder or a reward model; for con_j a chat model.
        kind: What is trained: a classifier, or a judge that writes reasons (con_j).
        label: Column with the labels: ratings, 0 and 1, or a judge's column; by default the chosen
            answer of pairs is the better one, and lists have scores.
        positive: The label that is a yes, where labels are texts; any other is a no.
        ratings: How ratings are learned: as a number (regression), or as probabilities of the
            different ratings, at most 20, of which the score is the mean (classes).
        calibration: Curve from scores to labels, by default platt for pairs, yes and no, linear for
            ratings; isotonic takes any shape, wants hundreds of held-out rows, and fits no pairs.
        task_options: Options of the task contrastive that con_j is trained and asked with, such as
            max_tokens=256; samples is 1 and max_tokens 128 unless they are set.
        beta: Strength of DPO's regularisation towards the model before, of con_j.
        lr: Learning rate of the optimizer; by default 5e-5 for a classifier, 1e-4 for con_j with
            lora, 1e-6 without.
        freeze: Number of a classifier's lowest layers that stay as they are, with the embeddings;
            all of them leave the head.
        held_out: Share of the prompts that is kept from training, for the calibration.
        options: Any other arguments of the Hugging Face trainer, by their names there.
    """

    model: str
    kind: JudgeKind = "classifier"
    label: str | None = None
    positive: str | None = None
    ratings: RatingModel = "regression"
    calibration: Calibrating | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    beta: Positive = 0.1
    epochs: Positive = 1.0
    lr: Positive | None = None
    batch_size: Count = 16
    micro_tokens: Count = 4096
    max_length: Count | None = None
    freeze: Natural = 0
    lora: Rank = 0
    lora_alpha: Positive = 16.0
    on_bad: training_rows.OnBad = "refuse"
    held_out: HeldOutShare = 0.2
    save_every: Count = 100
    log_every: Count = 10
    seed: Seed = 0
    precision: Precision = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range or against each other."""
        check_ranges(self)
        if not self.held_out:
            raise ValueError("held_out: expected above 0: these rows calibrate the judge")
        if self.kind == "con_j" and self.freeze:
            raise ValueError("freeze: it is of a classifier; lora trains little of a con_j judge")
        if self.kind != "con_j" and self.task_options:
            raise ValueError("task_options: they are of kind con_j; a classifier has no prompt")
        if self.freeze and self.lora:
            raise ValueError("freeze: with lora all layers stay as they are; set one of the two")

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on the labelled ``rows`` and write the folder ``out``.

        Raises:
            DataError: rows or labels cannot be trained on; the text counts and names them.
            UsageError: an option, the rows or the model does not fit.
        """
        labels = read_labels(rows, self.label, self.positive)
        trainer, method = self._trainer(labels), self._method(labels)
        run = Run.of(out, self._key(labels))
        with run.held():
            return run.finished() or self._train(trainer, method, labels, rows, run)

    def check_options(self) -> None:
        """Refuse options of the task or of the Hugging Face trainer, before anything is read."""
        if self.kind == "con_j":
            con_j.task_options(self.task_options)
        self._trainer(None).check_options()

    def _trainer(self, labels: Labels | None) -> Any:
        """The trainer of rows with these labels; of none yet, one that checks options."""
        given = {name: getattr(self, name) for name in (*_SHARED, *_SHARED_MORE)}
        given |= {"lr": self._rate, "held_out": self.held_out, "options": self.options}
        kind = "pairs" if labels is None else labels.kind
        if self.kind == "con_j":
            if kind != "pairs":
                raise UsageError(
                    "con_j compares two answers: expected pairs or ranked lists, these rows have "
                    f"{'labels of yes and no' if kind == 'binary' else 'ratings'}; train a "
                    "classifier on them"
                )
            given["held_out"] = 0.0  # they are held out before they are judged
            return Preference(loss="dpo", also={"sft": 0.1}, beta=self.beta, **given)
        given |= {"freeze": self.freeze}
        if kind == "pairs":
            return RewardModel(**given)
        return self._of_ratings(labels, given)

    def _method(self, labels: Labels) -> Calibrating:
        """The curve that calibrates a judge of these labels.

        Raises:
            UsageError: another one was asked for.
        """
        usual: Calibrating = "linear" if labels.kind == "rating" else "platt"
        method = self.calibration or usual
        if method != usual and (method != "isotonic" or labels.kind == "pairs"):
            what = {"pairs": "pairs", "binary": "labels of yes and no", "rating": "ratings"}
            raise UsageError(
                f"calibration {method}: {what[labels.kind]} are fitted with {usual}; leave it out"
            )
        return method

    def _of_ratings(self, labels: Labels | None, given: Mapping[str, Any]) -> Ratings:
        assert labels is not None
        as_classes = self.ratings == "classes" and labels.kind == "rating"
        if as_classes and len(labels.values) > _MOST_CLASSES:
            raise UsageError(
                f"ratings classes: there are {len(labels.values):,} different ratings, at most "
                f"{_MOST_CLASSES} can be classes: learn them by regression"
            )
        return Ratings(
            **given,
            classes=labels.values if as_classes else (),
            binary=labels.kind == "binary",
            width=labels.high - labels.low,
        )

    @property
    def _rate(self) -> float:
        if self.lr is not None:
            return self.lr
        return _ADAPTER_RATE if self.kind == "con_j" and self.lora else _RATES[self.kind]

    def _key(self, labels: Labels) -> dict[str, Any]:
        """What decides the run."""
        learned = labels.table[LABEL].to_list() if LABEL in labels.table.columns else None
        return {
            "stage": "judge",
            "options": asdict(self) | {"lr": self._rate, "precision": self._precision},
            "base": loading.model_hash(self.model),
            "data": [training_rows.data_hash(labels.table), learned, labels.low, labels.high],
        }

    @property
    def _precision(self) -> str:
        return formats(self.precision, ["the frozen base"] * bool(self.lora), "trained weights")

    def _train(
        self, trainer: Any, method: Calibrating, labels: Labels, rows: Path, run: Run
    ) -> TrainResult:
        train, test = labels.split(self.held_out, self.seed)
        described = {
            "stage": "judge",
            "method": self.kind,
            "command": command_line(self, run.command, rows),
            "options": asdict(self) | {"lr": self._rate},
        }
        if self.kind == "con_j":
            given = self.task_options
            return con_j.train_con_j(trainer, given, train, test, rows, run, described)

        def finish(
            model: Any, tokenizer: Any, held_out: pl.DataFrame, facts: Mapping[str, Any]
        ) -> Mapping[str, Any]:
            placed = loading.placed(model).eval()
            scored = trainer.scored(placed, tokenizer, held_out)
            keys = [row["prompt_key"] for row in scored]
            if labels.kind == "pairs":
                gaps = [row["reward_chosen"] - row["reward_rejected"] for row in scored]
                judged = judge_of_pairs(np.array(gaps, float), keys)
            else:
                raw, learned = (np.array([row[k] for row in scored]) for k in ("raw", "label"))
                ends = (labels.low, labels.high)
                judged = judge_of_rows(labels.kind, raw, learned, keys, method, *ends)
            classes = getattr(trainer, "classes", ())
            more = {"left_out": labels.left_out, "trained_rows": facts["data"]["rows"]}
            own = judged.judge("classifier", "classifier_score", classes=classes, **more)
            return {**described, **judged.written(own, run.beside, facts)}

        result: TrainResult = trainer.train(labels.table, rows, run, finish)
        return result
