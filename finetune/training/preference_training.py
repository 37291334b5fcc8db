"""How a policy is trained on preferences, from rows to a model folder, whatever the rows are."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from siftune.curate.core.progress import if_slow
from siftune.curate.models.model_config import positions_of
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.models import loading
from siftune.finetune.models.embedding_ids import check_read_by, check_same_size
from siftune.finetune.models.licences import base_facts
from siftune.finetune.runs.command_line import command_line
from siftune.finetune.runs.run_dir import Run, whole_weights
from siftune.finetune.tools.evaluate import write_step, write_summary
from siftune.finetune.training.policy_options import PolicyOptions

if TYPE_CHECKING:
    import polars as pl

    from siftune.finetune.data.token_rows import TokenRows
    from siftune.finetune.evaluation.generation_eval import Exam

__all__ = ["PolicyTraining"]

_ANSWERS: Final = "answers"
"""What the answers to held-out prompts are kept as, beside ``evaluation``."""


@dataclass(frozen=True)
class PolicyTraining(PolicyOptions):
    """A trainer but for the shape of its rows: pairs, answers or lists of answers."""

    stage: ClassVar[str]

    @property
    @abstractmethod
    def groups(self) -> Sequence[str]:
        """The registry groups whose losses add up with this one."""

    @abstractmethod
    def loaded(self, objective: Any, source: Path | str) -> pl.DataFrame:
        """The rows of ``source`` as the loss takes them."""

    @abstractmethod
    def read(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, longest: int | None, source: Any
    ) -> TokenRows[Any]:
        """The rows as token ids; what exceeds ``longest`` tokens is refused or left out."""

    @abstractmethod
    def trainer(
        self, objective: Any, train: Sequence[Any], test: Sequence[Any], tokenizer: Any, run: Run
    ) -> Any:
        """The loop, all loaded."""

    @abstractmethod
    def judged(self, trainer: Any, table: pl.DataFrame) -> list[dict[str, Any]]:
        """One object for each held-out row."""

    @abstractmethod
    def summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The means of what was judged."""

    def numbers(self, objective: Any, table: pl.DataFrame) -> dict[str, list[Any]]:
        """The columns that the loss reads, of which `training_rows.data_hash` may not know."""
        from siftune.finetune.losses.types import needs_of

        return {name: table[name].to_list() for name in needs_of(objective).columns}

    def asked(self, table: pl.DataFrame) -> pl.DataFrame:
        """Held-out rows whose prompts the policy may be asked."""
        return table

    def look(self, objective: Any, table: pl.DataFrame) -> None:
        """Say what is odd about the rows before anything is loaded."""

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on ``rows`` and write the model folder ``out``.

        Raises:
            SiftuneError: a loss is not finite.
            DataError: rows cannot be trained on; the text counts and names them.
            UsageError: an option, the loss or the model does not fit, or not with these rows.
        """
        objective = self.objective()
        table = self.loaded(objective, rows)
        self.look(objective, table)
        run = Run.of(out, self._key(objective, table))
        with run.held():
            return run.finished() or self._train(objective, table, rows, run)

    def objective(self) -> Any:
        """The loss with its options, and those added to it.

        Raises:
            UsageError: no such loss or option, or one that these settings cannot train.
        """
        from siftune.finetune.training.build_loss import built, refuse_unfit

        beta = {} if self.beta is None else {"beta": self.beta}
        objective = built(self.loss, {**self.loss_options, **beta}, self.also, self.groups)
        refuse_unfit(self.loss, objective, self)
        return objective

    def check_options(self) -> None:
        """Refuse a loss, and arguments of the trainer underneath, before anything is read.

        Raises:
            UsageError: the loss, an option or an argument does not fit.
        """
        from siftune.finetune.training.loop_arguments import arguments_of

        self.objective()
        if self.options:
            arguments_of(self, sys.maxsize, Run(Path("model"), ""))

    def _key(self, objective: Any, table: pl.DataFrame) -> dict[str, Any]:
        """What decides the run."""
        from siftune.finetune.training.build_loss import resolved
        from siftune.finetune.training.policy import formats_of

        key = {
            "stage": self.stage,
            "loss": resolved(objective),  # defaults too: another version may have others
            "options": asdict(replace(self, cache=None))
            | {"precision": formats_of(self, self._held(objective))},
            "base": loading.model_hash(self.model),
            "data": [training_rows.data_hash(table), self.numbers(objective, table)],
        }
        if self.ref_model is not None:
            key["reference"] = loading.model_hash(self.ref_model)
        if self.eval_rows is not None:
            other = self.loaded(objective, self.eval_rows)
            key["eval"] = [training_rows.data_hash(other), self.numbers(objective, other)]
        return key

    def _held(self, objective: Any) -> bool:
        """Whether the run has a reference."""
        from siftune.finetune.losses.types import needs_of

        return bool(needs_of(objective).reference or self.track_reference)

    def _train(self, objective: Any, table: pl.DataFrame, rows: Path, run: Run) -> TrainResult:
        from siftune.finetune.training.build_loss import resolved
        from siftune.finetune.training.policy import exam_of, finished, formats_of, report_precision
        from siftune.finetune.training.reference_sync import hold

        loading.check_writes(self.model)
        held = self._held(objective)
        if held and self.ref_model is not None and not self.precompute_reference:
            check_same_size(self.model, self.ref_model, "ref_model")
        tokenizer = loading.load_tokenizer(self.model)
        preflight.refuse(preflight.check_precision(self.options, loading.device().type == "cpu"))
        preflight.refuse(preflight.check_tokenizer(tokenizer))
        preflight.refuse(preflight.check_template(tokenizer))
        report_precision(self, held)
        with if_slow(f"reading {table.height:,} rows as tokens"):
            read = self._read(objective, table, tokenizer, rows)
        used, test = self._split(objective, read, tokenizer)
        trainer = self.trainer(objective, read.part(used), test.ids, tokenizer, run)
        stop = hold(self, trainer)
        exam = exam_of(self, trainer, self.asked(test.table), tokenizer)
        metrics = self._run(trainer, test, exam, run)
        facts = {
            "stage": self.stage,
            "method": self.loss,
            "base": base_facts(self.model),
            "command": command_line(self, run.command, rows),
            "data": {**training_rows.data_facts(rows, used), "dropped": read.dropped.counts()},
            "options": {**asdict(replace(self, cache=None)), "loss_options": resolved(objective)},
            "precision": formats_of(self, held),
            "seed": self.seed,
            "metrics": metrics,
            "stopped": "kl" if stop is not None and stop.fired else None,
            "stopped_because": stop.fired if stop is not None else None,
        }
        trained = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.needs.value:
            from siftune.finetune.models.value_head import take_value_head

            take_value_head(trained, run.beside)
        whole = finished(self, trained, run)
        return run.finish(whole, tokenizer, facts, read.dropped, whole_weights(trainer))

    def _read(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, source: Path | str
    ) -> TokenRows[Any]:
        config = loading.config_of(self.model)
        preflight.refuse(preflight.check_length(self.max_length, config))
        longest = self.max_length or positions_of(config)
        rows = self.read(objective, table, tokenizer, longest, source)
        if self.ref_model is not None:
            ids = (part for row in rows.ids for part in (row.prompt, *row.sequences))
            check_read_by(self.ref_model, tokenizer, ids)
        return rows

    def _split(
        self, objective: Any, read: TokenRows[Any], tokenizer: Any
    ) -> tuple[pl.DataFrame, TokenRows[Any]]:
        """The rows to train on, and those to judge."""
        if self.eval_rows is not None:
            other = self.loaded(objective, self.eval_rows)
            return read.table, self._read(objective, other, tokenizer, self.eval_rows)
        train, test = training_rows.held_out(read.table, self.held_out, self.seed)
        return train, replace(read, table=test, ids=read.part(test))

    def _run(
        self, trainer: Any, test: TokenRows[Any], exam: Exam | None, run: Run
    ) -> dict[str, float]:
        """Train, judge the rows of ``test`` at checkpoints and sit ``exam``; the last metrics."""

        def look(model: Any, step: int) -> None:
            write_step(run.beside, step, self.judged(trainer, test.table))
            if exam is not None:
                write_step(run.beside, step, exam(model), _ANSWERS)

        metrics = run.train(trainer, look if test.ids else None)
        if test.ids:
            found = write_summary(run.beside, self.summary)
            metrics |= {f"eval_{name}": value for name, value in found.items()}
        if exam is not None:
            found = write_summary(run.beside, name=_ANSWERS)
            metrics |= {f"answers_{name}": value for name, value in found.items()}
        return metrics
