"""The directory of a training run: begin, resume, finish."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from siftune.curate.core.custom_file import is_custom
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.progress import quiet_transformers
from siftune.curate.core.registry import code_of
from siftune.curate.files.atomic import digest_of, hash_file, write_text
from siftune.curate.files.output_marker import (
    MARKER,
    Marker,
    marker_of,
    remove_matching,
    remove_own,
    write_marker,
    written_names,
)
from siftune.curate.files.outputs import check_folder, may_overwrite, run_folder
from siftune.finetune.core import distributed
from siftune.finetune.core.methods import family_of
from siftune.finetune.core.types import TrainResult
from siftune.finetune.data.training_rows import Dropped
from siftune.finetune.models.loading import read_facts
from siftune.finetune.models.saving import save_model
from siftune.finetune.runs.checkpoints import (
    checkpoints,
    claim,
    newest,
    record_of,
    refuse_other,
    remove_checkpoint,
)
from siftune.finetune.runs.run_folders import BESIDE_FILES, WORK_FILES, work_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from siftune.finetune.runs.held_out_loss import HeldOutLoss

__all__ = ["Run", "quiet", "whole_weights"]

_PLACES: Final = ("model", "ref_model", "critic_model", "eval_rows", "ptx_rows", "gate")
"""Options that name folders and files. What is there decides the result, not where it is: its hash
is a part of the key of its own."""


class Watched(Protocol):
    """What a run needs of the watch of its training, a callback (`watch.watching`)."""

    def spared(self, work: Path) -> Collection[int]:
        """Steps whose checkpoints have to stay."""

    def take_good(self, trainer: Any) -> int | None:
        """Load weights from before an alarm; their step, None where there is no need."""


@dataclass(frozen=True)
class Run:
    """One training run: ``out`` is its model folder, ``key`` the digest of all that decides it.

    ``command`` marks its folders as written by `siftune finetune METHOD`; ``record`` is what
    another run is compared with by name (`checkpoints.record_of`).

    Of several processes that train together, each runs this code; only the first
    holds the lock and writes the model and messages.
    """

    out: Path
    key: str
    command: str = "finetune"
    record: Mapping[str, Any] = field(default_factory=lambda: record_of({}))

    @classmethod
    def of(cls, out: Path, parts: Mapping[str, Any]) -> Run:
        """The run whose result ``parts`` (options, hashes of model and data) decide."""
        options = {key: value for key, value in parts["options"].items() if key not in _PLACES}
        parts = {**parts, "options": options}
        method = options.get("loss") or parts["stage"]
        own = _own_code(options)
        parts = {**parts, "own_code": own} if own else parts
        return cls(out, digest_of(parts), f"finetune {method}", record_of(parts))

    @property
    def work(self) -> Path:
        """Checkpoints, until the model folder is written."""
        return work_of(self.out)

    @property
    def beside(self) -> Path:
        """The files of the model folder beside the model: metrics, evaluations.

        Each process has its own, with the same in it; the first one's is kept.
        """
        return self.work / ("beside" if distributed.first() else f"beside.{distributed.rank()}")

    def arguments(self, save_every: int, log_every: int, seed: int) -> dict[str, Any]:
        """Arguments of transformers' trainers that make a run resumable to the bit."""
        return {
            "save_strategy": "steps",
            "save_steps": save_every,
            "logging_steps": log_every,
            "seed": seed,
            "data_seed": seed,
            "logging_nan_inf_filter": False,  # it would log a loss of 0 in place of NaN
        }

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process; a run without a checkpoint leaves nothing behind.

        Raises:
            LockedError: another process trains into the same folder.
            UsageError: the folder of checkpoints is not of this command (`files.outputs`).
        """
        if not distributed.first():
            yield
            return
        with run_folder(self.work, self.command, WORK_FILES):
            try:
                yield
            except (KeyboardInterrupt, SystemExit):
                if not checkpoints(self.work):
                    distributed.notify(
                        "stopped before the first checkpoint: nothing of this training is kept; "
                        "the same command starts it anew"
                    )
                raise
            finally:
                if not checkpoints(self.work):
                    remove_own(self.work)

    def finished(self) -> TrainResult | None:
        """The result of this very run, if it is there already.

        Raises:
            DataError: a file of it was changed or damaged since.
            UsageError: what is there, the model or checkpoints of an interrupted training, is of
                another run, and may not be replaced.
        """
        facts = read_facts(self.out)
        if facts.get("run") == self.key and self._is_whole(facts.get("files", {})):
            distributed.progress(f"{self.out} is there already: nothing to do")
            return TrainResult(self.out, facts["data"]["rows"], facts["metrics"])
        check_folder(self.out, self.command)
        if facts and not may_overwrite():
            raise UsageError(
                f"{self.out} is there already, made with other options or data: name another "
                "--out, or add --overwrite to replace it"
            )
        if not may_overwrite() and distributed.first():
            refuse_other(self.work, self.key, self.record)
        return None

    def _is_whole(self, written: Mapping[str, str]) -> bool:
        """Whether the model folder is as it was written; it is marked again if need be.

        The card is not looked at: people edit theirs.
        """
        for name, sha256 in written.items():
            path = self.out / name
            if path.is_file() and hash_file(path) == sha256:
                continue
            if may_overwrite():
                return False
            raise DataError(
                f"{path} is not as this training wrote it: put it back, or add --overwrite to "
                "train again"
            )
        if marker_of(self.out) is None and distributed.first():
            names = tuple(name for name in written_names(self.out) if name != MARKER)
            write_marker(self.out, Marker(self.command, names))
        return True

    def train(
        self,
        trainer: Any,
        evaluate: Callable[[Any, int], None] | None = None,
        held: HeldOutLoss | None = None,
        watch: Watched | None = None,
    ) -> dict[str, float]:
        """Run a `FiniteSteps` trainer, from the last whole checkpoint; its last logged metrics.

        ``evaluate(model, step)`` is called before the first step, at checkpoints and at the end.
        ``held`` measures held-out loss, and decides what weights the trainer has at the end, unless
        ``watch`` puts back those before an alarm.
        """
        from transformers.trainer_callback import PrinterCallback

        from siftune.finetune.runs.callbacks import (
            Evaluations,
            Metrics,
            PendingMetrics,
            Sealed,
        )
        from siftune.finetune.runs.finite_steps import StopAtNonFinite
        from siftune.finetune.runs.stop_signals import StopAtSignal, catching_signals

        start = self.begin()
        metrics = Metrics(self.beside / "metrics.jsonl")
        trainer.remove_callback(PrinterCallback)  # stdout is for results
        trainer.add_callback(StopAtNonFinite(trainer))
        trainer.add_callback(metrics)
        if evaluate is not None:
            trainer.add_callback(Evaluations(evaluate))
        trainer.add_callback(PendingMetrics(trainer))
        if held is not None:
            trainer.add_callback(held)
        if watch is not None:
            trainer.add_callback(watch)

        def spared() -> list[int]:
            kept = [] if watch is None else watch.spared(self.work)
            return [*kept, *([] if held is None else held.spared())]

        trainer.add_callback(Sealed(spared))  # what is sealed has been evaluated
        with quiet(), catching_signals() as signals:
            trainer.add_callback(StopAtSignal(signals))
            trainer.train(resume_from_checkpoint=None if start is None else str(start))
        with quiet():
            good = None if watch is None else watch.take_good(trainer)
        if good is not None:
            return {"steps": trainer.state.global_step, **metrics.last, "kept_step": good}
        if held is None:
            return {"steps": trainer.state.global_step, **metrics.last}
        held.take_best(trainer)
        return {"steps": trainer.state.global_step, **metrics.last, **held.metrics()}

    def begin(self) -> Path | None:
        """Clear away what other runs left; the checkpoint to go on from, if there is one."""
        if distributed.first():
            claim(self.work, self.key, self.record)
            newest(self.work)
        distributed.together()
        start = newest(self.work)
        if start is None:
            remove_matching(self.beside, BESIDE_FILES)
        else:
            distributed.progress(f"going on from {start}")
        self.beside.mkdir(exist_ok=True)
        return start

    def finish(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        facts: Mapping[str, Any],
        dropped: Dropped,
        weights: Mapping[str, Any] | None = None,
    ) -> TrainResult:
        """Write the model folder in one step, and clear away what was needed to make it.

        ``weights`` are the model's where it holds but a part of them itself (`whole_weights`);
        ``model`` is None where an adapter was put into `beside` instead.
        """
        distributed.together()
        if not distributed.first():
            remove_matching(self.beside, BESIDE_FILES)
        else:
            self._write(model, tokenizer, facts, dropped, weights)
        distributed.together()
        return TrainResult(self.out, facts["data"]["rows"], facts["metrics"])

    def _write(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        facts: Mapping[str, Any],
        dropped: Dropped,
        weights: Mapping[str, Any] | None,
    ) -> None:
        if not dropped.rows.is_empty():
            lines = [
                orjson.dumps(row).decode() + "\n" for row in dropped.rows.iter_rows(named=True)
            ]
            write_text(self.beside / "dropped.jsonl", "".join(lines))
        whole = {**facts, "run": self.key}
        save_model(model, tokenizer, self.out, whole, self.beside, weights, self.command)
        for folder in checkpoints(self.work):
            remove_checkpoint(folder)


def _own_code(options: Mapping[str, Any]) -> list[str]:
    """Hashes of the losses, rewards and parts in options that are a user's own code."""
    losses = (options.get("loss"), *(options.get("also") or {}))
    named: list[tuple[Any, str | None]] = [(name, None) for name in losses]
    named += [(name, "finetune.rewards") for name in _rewards(options.get("reward"))]
    named += [
        (options.get("advantage"), "finetune.advantages"),
        (options.get("policy_loss"), "finetune.policy_losses"),
    ]
    return [
        code_of(group or str(family_of(name)), name)
        for name, group in named
        if isinstance(name, str) and is_custom(name)
    ]


def _rewards(option: Any) -> list[Any]:
    """The names in an option that is a reward, or several with weights."""
    if not isinstance(option, Mapping):
        return [option]
    return [
        one.get("reward", name) if isinstance(one, Mapping) else name
        for name, one in option.items()
    ]


def whole_weights(trainer: Any) -> dict[str, Any] | None:
    """All weights of a model whose parts lie with several processes; None where each has all."""
    if not trainer.is_fsdp_enabled:
        return None
    found: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Silence notes and warnings of libraries that a user cannot act on."""
    with quiet_transformers(), warnings.catch_warnings():
        # torch: the loader is asked to pin memory on a machine that has none to pin.
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        # TRL and peft read and set what transformers has renamed.
        warnings.filterwarnings("ignore", message=r"`(is_)?gradient_checkpointing` is deprecated")
        yield
