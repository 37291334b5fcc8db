"""One run of a comparison: an objective trained on pairs, and what the held-out pairs say of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.files.atomic import read_json, write_json
from siftune.finetune.data import training_rows
from siftune.finetune.data.pair_rows import pairs_of
from siftune.finetune.losses.types import needs_of
from siftune.finetune.models import loading
from siftune.finetune.runs.run_dir import Run
from siftune.finetune.tools import evaluate
from siftune.finetune.trainers.answers import AnswerPreference
from siftune.finetune.trainers.preference import Preference
from siftune.finetune.training.build_loss import LISTS, LOSSES
from siftune.finetune.training.pair_eval import judged, summary
from siftune.finetune.training.pair_setup import trainer_of
from siftune.finetune.training.policy import exam_of
from siftune.finetune.training.reward_tokens import reward_tokens_of

if TYPE_CHECKING:
    from siftune.finetune.comparison.compare import Compare

__all__ = ["run_of"]

_NEVER: Final = 1_000_000  # runs are short: they are judged before and after


def run_of(
    options: Compare, group: str, name: str, seed: int, folder: Path, files: tuple[Path, Path]
) -> dict[str, float]:
    """Train the objective ``name`` of ``group`` into ``folder``; its metrics.

    ``files`` are the pairs to train on and those to judge.

    Raises:
        SiftuneError: the pairs do not suit the objective, or it does not suit a comparison.
    """
    if group == LOSSES:
        return _pairs_run(options, name, seed, folder, *files)
    return _answers_run(options, group, name, seed, folder, *files)


def _pairs_run(
    options: Compare, name: str, seed: int, folder: Path, train: Path, test: Path
) -> dict[str, float]:
    trainer = Preference(
        loss=name,
        eval_rows=str(test),
        eval_limit=options.answers,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
        **_shared(options, name, seed),
    )
    return dict(trainer(train, folder).metrics)


def _answers_run(
    options: Compare, group: str, name: str, seed: int, folder: Path, train: Path, test: Path
) -> dict[str, float]:
    two = 1 if group in LISTS else 2
    trainer = AnswerPreference(
        loss=name,
        held_out=0.0,
        batch_size=two * options.batch_size,
        **_shared(options, name, seed),
    )
    objective = trainer.objective()
    bins = objective.bins if needs_of(objective).reward_tokens else 0
    if bins and trainer.max_length is not None:
        trainer = replace(trainer, max_length=trainer.max_length + 1)  # the token is no part of it
    result, kept = trainer(train, folder), folder.with_name(f"{folder.name}.judged.json")
    if not kept.exists():
        write_json(kept, _by_ratio(options, folder, test, bins))
    return {**result.metrics, **read_json(kept)}


def _shared(options: Compare, name: str, seed: int) -> dict[str, Any]:
    return {
        "model": options.model,
        "loss_options": options.loss_options.get(name, {}),
        "track_reference": True,
        "epochs": options.epochs,
        "lr": options.lr,
        "lora": options.lora,
        "precision": options.precision,
        "max_length": options.max_length,
        "save_every": _NEVER,
        "seed": seed,
    }


def _by_ratio(options: Compare, folder: Path, test: Path, bins: int) -> dict[str, float]:
    """What the pairs ``test`` say of a model: metrics by the names of those of `Preference`.

    One that was trained behind tokens of so many ``bins`` of reward is asked behind the best, as
    its template has it; the reference is asked without.
    """
    asks = Preference(
        model=str(folder),
        ref_model=options.model,
        eval_limit=options.answers,
        max_new_tokens=options.max_new_tokens,
        max_length=options.max_length,
        precision=options.precision,
    )
    tokenizer = loading.load_tokenizer(folder)
    tokens = reward_tokens_of(tokenizer, bins)
    table = training_rows.load(test, ("preference",))
    pairs = pairs_of(table, tokenizer)  # they have been found to fit
    run = Run(folder.with_name(f"{folder.name}.judging"), "")
    trainer = trainer_of(asks, asks.objective(), pairs.ids, pairs.ids, tokenizer, run, tokens)
    policy: Any = trainer.model
    policy.eval()
    found = {f"eval_{name}": value for name, value in summary(judged(trainer, table)).items()}
    exam = exam_of(asks, trainer, table, tokenizer)
    told = {} if exam is None else evaluate.summary(exam(policy))
    return found | {f"answers_{name}": value for name, value in told.items()}
