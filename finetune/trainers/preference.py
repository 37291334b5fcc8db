"""Preference optimisation: any loss on pairs, single answers or ranked lists of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftune.curate.core.progress import if_slow
from siftune.curate.models.model_config import positions_of
from siftune.finetune.core.types import Finishing, TrainResult
from siftune.finetune.data import preflight, training_rows
from siftune.finetune.models import loading
from siftune.finetune.models.loading import check_read_by, check_same_size, check_same_tokens
from siftune.finetune.models.saving import base_facts, command_line
from siftune.finetune.runs.resumable_run import Run, whole_weights
from siftune.finetune.tools.evaluate import write_step, write_summary
from siftune.finetune.training.policy_options import PolicyOptions
from siftune.finetune.training.watched import ask_of, beta_of, stopped_by, watch_of

if TYPE_CHECKING:
    import polars as pl

    from siftune.finetune.data.answer_rows import TokenRows
    from siftune.finetune.evaluation.generation_eval import GenerationEval
    from siftune.finetune.losses.types import Needs
    from siftune.finetune.training.preference_loop import PreferenceTrainer
    from siftune.finetune.training.preference_rows import Shape
    from siftune.finetune.watch.watching import WatchCallback

__all__ = ["Preference"]

_ANSWERS: Final = "answers"
"""The file name of the answers to held-out prompts, beside ``evaluation``."""


@dataclass(frozen=True)
class Preference(PolicyOptions):
    """Trains ``model`` under ``loss``, one of `finetune.losses`, with `PolicyOptions`.

    Losses on pairs take preference rows. Losses on labels take ``unpaired`` rows (an answer and
    whether it is a good one), others on single answers any rows that have answers, those on lists
    ``ranked`` ones; all of these take pairs too, as a good and a bad answer, or as a list of two.
    The numbers that a loss reads are in columns (or in fields that came with the rows) of its own
    names, unless ``columns`` names others, and for ranked rows in ``scores``.

    With ``lora`` the reference is the model with the adapter off, and no second one is in memory;
    ``load_in_4bit`` loads that one in 4 bits and merges the adapter into the model as it was. A
    loss that needs no reference gets none, unless ``track_reference`` asks for the metrics. Where
    the reference is updated (``ref_sync_steps``; with 1 and a small ``ref_mixup_alpha`` it is a
    moving average), KL and drift are measured from the reference as it then is. ``share_prefix``
    also skips padding, and is tried first: where the model's attention does not allow it, a line
    gives the reason. ``precision: auto`` is bf16 for the base under an adapter where the processor
    multiplies it, and fp32 for a reference beside a policy of which all weights are trained, so
    that both start equal; ``bf16`` narrows that reference too (not one that is updated). Trained
    weights are fp32.

    An answer is never cut, so its end of turn is always learned. ``batch_size`` counts prompts
    (pairs, lists or answers). Parts of a batch (``micro_tokens``) change no number but by rounding,
    which shows in bf16: what a loss takes over its batch (KTO's estimate of the KL) it takes over a
    whole step, however that is split, in a pass before; its answers to other prompts are drawn
    once, by ``seed``. With ``max_tokens`` rows come in fresh orders until that many tokens of
    answers, of both sides of a pair, have been scored.

    Held-out rows are evaluated at every checkpoint, and their prompts answered greedily
    (``eval_limit``): ``answers/step-*.jsonl``. A run that was cut off continues from its last
    checkpoint to the same bytes. Dropout is off.
    """

    def __call__(self, rows: Path, out: Path) -> TrainResult:
        """Train on ``rows`` and write the model folder ``out``.

        Raises:
            SiftuneError: a loss is not finite.
            DataError: rows cannot be trained on; the text counts and names them.
            UsageError: an option, the loss or the model does not fit, or not with these rows.
        """
        objective = self.objective()
        table = self._load(objective, rows)
        self._check_rows(objective, table)
        run = Run.of(out, self._key(objective, table))
        with run.held():
            return run.finished() or self.train(table, rows, run)

    def objective(self) -> Any:
        """The loss with its options, and those added to it.

        Raises:
            UsageError: no such loss or option, or one that these settings cannot train.
        """
        from siftune.finetune.training.build_loss import built, refuse_unfit

        beta = {} if self.beta is None else {"beta": self.beta}
        objective = built(self.loss, {**self.loss_options, **beta}, self.also, self._groups)
        refuse_unfit(self.loss, objective, self)
        return objective

    def check_options(self) -> None:
        """Refuse a loss, and arguments of the Hugging Face trainer, before anything is read.

        Raises:
            UsageError: the loss, an option or an argument does not fit.
        """
        from siftune.finetune.training.policy import arguments_of

        self.objective()
        if self.options:
            arguments_of(self, sys.maxsize, Run(Path("model"), ""))

    @property
    def _groups(self) -> tuple[str, ...]:
        """The registry groups of losses that add up with this one.

        Raises:
            UsageError: no loss is called ``loss``.
        """
        from siftune.finetune.training.build_loss import ANSWERS, LISTS, LOSSES, group_of

        families = ((LOSSES,), ANSWERS, LISTS)
        group = group_of(self.loss, tuple(one for family in families for one in family))
        return next(family for family in families if group in family)

    def _shape(self, needs: Needs) -> Shape:
        """What the loss is given."""
        from siftune.finetune.training.build_loss import ANSWERS, LISTS

        if self._groups == ANSWERS:
            return "labels" if needs.label else "answers"
        return "lists" if self._groups == LISTS else "pairs"

    def _load(self, objective: Any, source: Path | str) -> pl.DataFrame:
        """The rows of ``source`` as the loss takes them, its numbers in columns of their own."""
        from siftune.finetune.training.preference_rows import load_rows

        needs = _needs_of(objective)
        return load_rows(source, self._shape(needs), needs.columns, self.columns)

    def _check_rows(self, objective: Any, table: pl.DataFrame) -> None:
        """Warn of labels that are all alike, and of samples that may not be the model's own."""
        from siftune.finetune.training.preference_rows import check_samples

        if _needs_of(objective).label:
            # some losses do learn from one class, so it is only a warning
            found = preflight.check_labels(table["label"].drop_nulls().to_list())
            preflight.refuse([replace(one, level="warning") for one in found])
        if getattr(objective, "on_policy", False):
            preflight.refuse(check_samples(table, loading.model_hash(self.model)))

    def _key(self, objective: Any, table: pl.DataFrame) -> dict[str, Any]:
        """What decides the run."""
        from siftune.finetune.training.build_loss import resolved
        from siftune.finetune.training.policy import formats_of

        def data(rows: pl.DataFrame) -> list[Any]:
            """The rows' hash, and the numbers that the loss reads, which may not be part of it."""
            names = _needs_of(objective).columns
            return [training_rows.data_hash(rows), {one: rows[one].to_list() for one in names}]

        key = {
            "stage": self._stage,
            "loss": resolved(objective),  # defaults too: another version may have others
            "options": self._options() | {"precision": formats_of(self, self._held(objective))},
            "base": loading.model_hash(self.model),
            "data": data(table),
        }
        if self.ref_model is not None:
            key["reference"] = loading.model_hash(self.ref_model)
        if self.online_merge:
            key["online_merge"] = loading.model_hash(self.online_merge["base"])
        if self.eval_rows is not None:
            key["eval"] = data(self._load(objective, self.eval_rows))
        return key

    @property
    def _stage(self) -> str:
        return "preference" if self._on_pairs else "answers"

    @property
    def _on_pairs(self) -> bool:
        from siftune.finetune.training.build_loss import LOSSES

        return self._groups == (LOSSES,)

    def _options(self) -> dict[str, Any]:
        """The options that decide the result; losses on pairs have no value head."""
        options = asdict(replace(self, cache=None))
        if not self.online_merge:  # runs of versions before it have no such key
            del options["online_merge"]
        if self._on_pairs:
            del options["value_lr"]
        return options

    def _held(self, objective: Any) -> bool:
        """Whether the run has a reference."""
        return bool(_needs_of(objective).reference or self.track_reference)

    def train(
        self, table: pl.DataFrame, rows: Path, run: Run, finishing: Finishing | None = None
    ) -> TrainResult:
        """Train on ``table``, read from ``rows``, as ``run``, which this process holds.

        Raises:
            SiftuneError: a loss is not finite.
            DataError: rows cannot be trained on; the text counts and names them.
            UsageError: an option, the loss or the model does not fit, or not with these rows.
        """
        from siftune.finetune.training.build_loss import resolved
        from siftune.finetune.training.policy import (
            final_model,
            formats_of,
            generation_eval_of,
            report_precision,
        )
        from siftune.finetune.training.reference_sync import add_callbacks

        objective = self.objective()
        loading.check_writes(self.model)
        held = self._held(objective)
        if held and self.ref_model is not None and not self.precompute_reference:
            check_same_size(self.model, self.ref_model, "ref_model")
            if _needs_of(objective).teacher:
                check_same_tokens(self.model, self.ref_model, "ref_model")
        tokenizer = loading.load_tokenizer(self.model)
        preflight.refuse(preflight.check_precision(self.options, loading.device().type == "cpu"))
        preflight.refuse(preflight.check_tokenizer(tokenizer))
        preflight.refuse(preflight.check_template(tokenizer))
        report_precision(self, held)
        with if_slow(f"reading {table.height:,} rows as tokens"):
            read = self._encode(objective, table, tokenizer, rows)
        used, test = self._split(objective, read, tokenizer)
        trainer = self._trainer(objective, read.part(used), test, tokenizer, run)
        stop = add_callbacks(self, trainer)
        # each prompt is asked once, however many answers to it are rows
        asked = test.table
        if not self._on_pairs:
            asked = asked.filter(training_rows.prompt_keys(asked).is_first_distinct())
        watch = self._watch(trainer, asked if test.ids else used, tokenizer, run)
        generation_eval = generation_eval_of(self, trainer, asked, tokenizer)
        metrics = self._run(trainer, test, generation_eval, run, watch)
        facts = {
            "stage": self._stage,
            "method": self.loss,
            "base": base_facts(self.model),
            "command": command_line(self, run.command, rows),
            "data": {**training_rows.data_facts(rows, used), "dropped": read.dropped.counts()},
            "options": {**self._options(), "loss_options": resolved(objective)},
            "precision": formats_of(self, held),
            "seed": self.seed,
            "metrics": metrics,
            "stopped": "kl" if stop is not None and stop.reason else None,
            "stopped_because": stop.reason if stop is not None else None,
            **stopped_by(watch),
        }
        trained = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.needs.value:
            from siftune.finetune.models.value_head import take_value_head

            take_value_head(trained, run.beside)
        whole = final_model(self, trained, run)
        if finishing is not None:
            facts |= finishing(whole, tokenizer, test.table, facts)
        return run.finish(whole, tokenizer, facts, read.dropped, whole_weights(trainer))

    def _encode(
        self, objective: Any, table: pl.DataFrame, tokenizer: Any, source: Path | str
    ) -> TokenRows:
        """The rows as token ids; what is too long for the model is refused or left out."""
        from siftune.finetune.data.answer_rows import encode_rows

        config = loading.config_of(self.model)
        preflight.refuse(preflight.check_length(self.max_length, config))
        longest, needs = self.max_length or positions_of(config), _needs_of(objective)
        if longest is not None and needs.reward_tokens:
            longest -= 1  # the token before the prompt needs room too
        rows = encode_rows(
            table,
            tokenizer,
            needs.columns,
            labelled=needs.label,
            max_length=longest,
            max_prompt_length=self.max_prompt_length,
            on_bad=self.on_bad,
            source=source,
        )
        if self.ref_model is not None:
            ids = (part for row in rows.ids for part in (row.prompt, *row.sequences))
            check_read_by(self.ref_model, tokenizer, ids)
        return rows

    def _split(
        self, objective: Any, read: TokenRows, tokenizer: Any
    ) -> tuple[pl.DataFrame, TokenRows]:
        """The rows to train on, and the held-out ones."""
        if self.eval_rows is not None:
            other = self._load(objective, self.eval_rows)
            return read.table, self._encode(objective, other, tokenizer, self.eval_rows)
        train, test = training_rows.held_out(read.table, self.held_out, self.seed)
        return train, replace(read, table=test, ids=read.part(test))

    def _trainer(
        self, objective: Any, train: Sequence[Any], test: TokenRows, tokenizer: Any, run: Run
    ) -> PreferenceTrainer:
        """The loop on pairs, on single answers or on lists, all loaded."""
        from siftune.finetune.training.answer_loop import AnswerTrainer, ListTrainer
        from siftune.finetune.training.pair_loop import PairTrainer
        from siftune.finetune.training.policy import trainer_of

        shape = self._shape(_needs_of(objective))
        loops = {"pairs": PairTrainer, "lists": ListTrainer}
        loop: type[Any] = loops.get(shape, AnswerTrainer)
        trainer = trainer_of(loop, self, objective, train, test.ids, tokenizer, run)
        if isinstance(trainer, AnswerTrainer):
            trainer.value_lr = self.value_lr
        return trainer

    def _watch(
        self, trainer: PreferenceTrainer, table: pl.DataFrame, tokenizer: Any, run: Run
    ) -> WatchCallback | None:
        """The watch, with prompts of ``table``; β is that of the (first) loss."""
        if self.watch == "off":
            return None
        prompts, given = self.watch_prompts, self.watch_rows
        ask = ask_of(table, tokenizer, prompts, self.seed, self.max_new_tokens, given)
        more_beta = beta_of(trainer)
        return watch_of(self, "preference", run, ask, more_beta, trainer.model)

    def _run(
        self,
        trainer: PreferenceTrainer,
        test: TokenRows,
        generation_eval: GenerationEval | None,
        run: Run,
        watch: WatchCallback | None,
    ) -> dict[str, float]:
        """Train; at checkpoints judge ``test`` and answer its prompts. The last metrics."""

        def evaluate(model: Any, step: int) -> None:
            found = trainer.evaluated(test.table)
            write_step(run.beside, step, found)
            if watch is not None:
                watch.held_out(step, found)
            if generation_eval is not None:
                write_step(run.beside, step, generation_eval(model), _ANSWERS)

        metrics = run.train(trainer, evaluate if test.ids else None, watch=watch)
        if test.ids:
            found = write_summary(run.beside, trainer.summary)
            metrics |= {f"eval_{name}": value for name, value in found.items()}
        if generation_eval is not None:
            found = write_summary(run.beside, name=_ANSWERS)
            metrics |= {f"answers_{name}": value for name, value in found.items()}
        return metrics


def _needs_of(objective: Any) -> Needs:
    from siftune.finetune.losses.types import needs_of  # torch

    return needs_of(objective)
