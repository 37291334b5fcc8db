"""A training run on disk: where it works, from where it goes on, and how it ends."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from curate.core.errors import UsageError
from curate.core.files import digest_of, locked, write_text
from finetune.checkpoints import claim, newest
from finetune.data import Dropped
from finetune.models import read_facts, save_model, silent
from finetune.types import TrainResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Run", "quiet"]

_KEPT_CHECKPOINTS: Final = 2  # where the newest is torn, the one before it serves


@dataclass(frozen=True)
class Run:
    """One training run: ``out`` is its model folder, ``key`` the digest of all that decides it."""

    out: Path
    key: str

    @classmethod
    def of(cls, out: Path, parts: Mapping[str, Any]) -> Run:
        """The run whose result ``parts`` (options, hashes of model and data) decide."""
        return cls(out, digest_of(parts))

    @property
    def work(self) -> Path:
        """Checkpoints, until the model folder is written."""
        return self.out.with_name(f"{self.out.name}.work")

    @property
    def beside(self) -> Path:
        """What goes into the model folder beside the model: metrics, evaluations."""
        return self.work / "beside"

    def arguments(self, save_every: int, log_every: int, seed: int) -> dict[str, Any]:
        """Arguments of transformers' trainers that make a run resumable to the bit."""
        return {
            "save_strategy": "steps",
            "save_steps": save_every,
            "save_total_limit": _KEPT_CHECKPOINTS,
            "logging_steps": log_every,
            "seed": seed,
            "data_seed": seed,
        }

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run for this process; a run without a checkpoint leaves nothing behind.

        Raises:
            LockedError: another process trains into the same folder.
        """
        with locked(self.work):
            try:
                yield
            finally:
                if not any(self.work.glob("checkpoint-*")):
                    shutil.rmtree(self.work, ignore_errors=True)

    def finished(self) -> TrainResult | None:
        """The result of this very run, if it is there already.

        Raises:
            UsageError: the model folder is there, and is of another run.
        """
        if not self.out.exists():
            return None
        facts = read_facts(self.out)
        if facts.get("run") != self.key:
            raise UsageError(
                f"{self.out} is there already, made with other options or data: name another "
                "--out, or remove it"
            )
        print(f"{self.out} is there already: nothing to do", file=sys.stderr)  # noqa: T201
        return TrainResult(self.out, facts["data"]["rows"], facts["metrics"])

    def train(
        self, trainer: Any, evaluate: Callable[[Any, int], None] | None = None
    ) -> dict[str, float]:
        """Run a transformers trainer, from the last whole checkpoint; its last logged metrics.

        ``evaluate(model, step)`` is called before the first step, at checkpoints and at the end.
        """
        from transformers.trainer_callback import PrinterCallback

        from finetune.callbacks import Evaluations, Metrics, Sealed

        claim(self.work, self.key)
        start = newest(self.work)
        if start is None:
            shutil.rmtree(self.beside, ignore_errors=True)
        else:
            print(f"going on from {start}", file=sys.stderr)  # noqa: T201
        self.beside.mkdir(exist_ok=True)
        metrics = Metrics(self.beside / "metrics.jsonl")
        trainer.remove_callback(PrinterCallback)  # stdout is for results
        trainer.add_callback(metrics)
        trainer.add_callback(Sealed())
        if evaluate is not None:
            trainer.add_callback(Evaluations(evaluate))
        with quiet():
            trainer.train(resume_from_checkpoint=None if start is None else str(start))
        if evaluate is not None:
            evaluate(trainer.model.eval(), trainer.state.global_step)
        return {"steps": trainer.state.global_step, **metrics.last}

    def finish(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        facts: Mapping[str, Any],
        dropped: Dropped,
    ) -> TrainResult:
        """Write the model folder in one step, and clear away what was needed to make it."""
        if not dropped.rows.is_empty():
            lines = [
                orjson.dumps(row).decode() + "\n" for row in dropped.rows.iter_rows(named=True)
            ]
            write_text(self.beside / "dropped.jsonl", "".join(lines))
        whole = save_model(model, tokenizer, self.out, {**facts, "run": self.key}, self.beside)
        for folder in self.work.glob("checkpoint-*"):
            shutil.rmtree(folder)
        return TrainResult(self.out, facts["data"]["rows"], whole["metrics"])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what libraries say that a user can do nothing about."""
    with silent(), warnings.catch_warnings():
        # torch: the loader is asked to pin memory on a machine that has none to pin.
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        # TRL and peft read and set what transformers has renamed.
        warnings.filterwarnings("ignore", message=r"`(is_)?gradient_checkpointing` is deprecated")
        yield
